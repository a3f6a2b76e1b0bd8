"""``@task.claude_batch``: a function whose records become message batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import context_merge, determine_kwargs
from airflow.sdk import XComArg
from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory

from airflow_claude_batch.operators.claude_batch import ClaudeBatchOperator

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.sdk import Context

    from airflow_claude_batch.operators.arguments import DecoratorArguments


class HiddenArguments:
    """Arguments of a function whose text form says nothing of their content.

    Airflow stores template fields as text once they are rendered, and what comes from upstream tasks
    may be the very data that prompts are made of. A template that asks for one of them by its name or
    position (``map_index_template="{{ task.op_kwargs['region'] }}"``) gets it.
    """

    def __init__(self, arguments: Any) -> None:
        self._arguments = arguments

    def __getitem__(self, key: Any) -> Any:
        return self._arguments[key]

    def get(self, key: Any, default: Any = None) -> Any:
        """One of them by its name."""
        return self._arguments.get(key, default)

    def __str__(self) -> str:
        return f"<{len(self._arguments)} arguments>"

    __repr__ = __str__


class ClaudeBatchDecoratedOperator(DecoratedOperator, ClaudeBatchOperator):
    """Runs a function, sends the records that it returns or yields, and returns the summary.

    The function is called on a worker, once in the life of a task instance: not again when the task
    resumes after a wait, nor on a retry once its records are stored. A generator streams.

    Args:
        python_callable: Returns or yields records, prompts (strings) or requests, or returns the URI of
            files or a source of ``airflow_claude_batch.sources``.
    """

    template_fields: Sequence[str] = ("op_args", "op_kwargs", *ClaudeBatchOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {}
    custom_operator_name = "@task.claude_batch"

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(python_callable=python_callable, requests=python_callable, **kwargs)

    @property
    def op_args(self) -> Any:
        """Positional arguments; hidden once there is nothing left for Airflow to resolve in them."""
        return _shown(self._op_args)

    @op_args.setter
    def op_args(self, value: Any) -> None:
        if not isinstance(value, HiddenArguments):
            self._op_args = value

    @property
    def op_kwargs(self) -> Any:
        """Keyword arguments; hidden like the positional ones."""
        return _shown(self._op_kwargs)

    @op_kwargs.setter
    def op_kwargs(self, value: Any) -> None:
        if not isinstance(value, HiddenArguments):
            self._op_kwargs = value

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function when its records are wanted, and go on like ``ClaudeBatchOperator``."""
        self.requests = partial(self._call, context)
        context_merge(context, self._op_kwargs)
        return ClaudeBatchOperator.execute(self, context)

    def _call(self, context: Context) -> Any:
        arguments = determine_kwargs(self.python_callable, self._op_args, context)
        return self.python_callable(*self._op_args, **arguments)


def _shown(arguments: Any) -> Any:
    """Arguments as Airflow may see them."""
    values = list(arguments.values() if isinstance(arguments, Mapping) else arguments)
    if not values or any(_is_unresolved(value) for value in values):
        return arguments
    return HiddenArguments(arguments)


def _is_unresolved(value: Any) -> bool:
    """Whether Airflow has something to do here: an upstream result to fetch, or a template to render."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    return next(_references(value), None) is not None


def _references(value: Any) -> Iterator[Any]:
    return iter(XComArg.iter_xcom_references(value))


def claude_batch_task(
    python_callable: Callable[..., Any] | None = None, **kwargs: Unpack[DecoratorArguments]
) -> TaskDecorator:
    """Make a function a task that sends its records as message batches; in DAG files ``@task.claude_batch``.

    Airflow's own type stub knows no decorators of providers. Where an editor should know the arguments,
    use this function itself: ``@claude_batch_task(model=...)`` is the same.

    Args:
        python_callable: The function.
        kwargs: Arguments of ``ClaudeBatchOperator`` except ``requests``.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=ClaudeBatchDecoratedOperator,
        **kwargs,
    )
