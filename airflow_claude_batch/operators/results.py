"""Fetching results, sending again what is worth it, and writing succeeded and errored records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claude_batch.common.final_errors import no_retry_when_final
from airflow_claude_batch.common.xcoms import note_try
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink, OutputFolderLink
from airflow_claude_batch.operators.arguments import ResultsArguments, declared, split
from airflow_claude_batch.operators.deferral import finish, require_end

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.sdk import Context

    from airflow_claude_batch.runtime.deliver import ResultsStep

RESULTS_TEMPLATE_FIELDS = (
    "output_path",
    "output_format",
    "compression",
    "resubmission",
    "answer_policy",
    "overwrite",
    "poll_interval",
    "timeout",
    "on_timeout",
)

_WHERE_IT_RUNS = ("queue", "executor", "executor_config", "run_as_user")


class ClaudeBatchResultsOperator(BaseOperator):
    """Deliver the results of a job as succeeded and errored records, and return the summary.

    Batches that have not ended yet are waited for, without a worker slot. Requests that failed for a
    passing reason are sent again, alone, and waited for in the same way; in the end each request is in
    exactly one of the two sets. For batches that something else submitted there are no columns to join and
    nothing to send again; all else is the same.

    A retry goes on where the last try stopped. A clear delivers anew.

    Args:
        arguments: See ``airflow_claude_batch.operators.arguments.ResultsArguments``.

    Returns:
        Counts, error histogram, usage, cost, paths; without ``output_path`` the lists ``succeeded`` and
        ``errored``, too.
    """

    template_fields: Sequence[str] = ("batch", *RESULTS_TEMPLATE_FIELDS, "conn_id", "storage_path")
    ui_color = "#f5e8df"
    operator_extra_links: tuple[Any, ...] = (ClaudeConsoleLink(), OutputFolderLink())
    batch: Any
    conn_id: str
    _step: ResultsStep | None = None
    _summary: dict[str, Any] | None = None

    @declared(ResultsArguments)
    def __init__(self, **arguments: Unpack[ResultsArguments]) -> None:
        own, airflows = split(ResultsArguments, arguments)
        super().__init__(**airflows)
        for name, value in own.items():
            setattr(self, name, value)
        self.folder_per_map_index = folder_per_map_index(own["output_path"])

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait if need be, deliver, judge.

        After each wait it starts again from here, perhaps on another worker: the ledger knows the rest.
        """
        from airflow_claude_batch.runtime.deliver import ResultsInput, ResultsStep

        note_try(context)
        self.folder_per_map_index = self.folder_per_map_index and not is_expanded(context, "output_path")
        with no_retry_when_final():
            self._step = ResultsStep(ResultsInput.of(self, batch=self.batch), context)
            step = self._step.run()
        self._summary = finish(self, self.conn_id, step, context)
        return self._summary

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After a wait or a pause."""
        require_end(self, context, event)
        return self.execute(context)

    def on_kill(self) -> None:
        """Make no more single calls; their answers so far are kept."""
        if self._step is not None:
            self._step.stop()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What was read and written, where the OpenLineage provider is installed."""
        from airflow_claude_batch.runtime.lineage import lineage

        # Not from XCom: the listener asks in a fork of the task's process, where a pull hangs.
        return lineage(self._summary)


def results_tasks_of(submit: Any) -> Iterator[ClaudeBatchResultsOperator]:
    """The tasks that deliver a submit task's job: they take its output, or that of a sensor which does.

    Left out is one that runs elsewhere, since it may reach what the submit task does not; and one that comes
    after other tasks, too, which may clear its place, or skip it.
    """
    for task in submit.dag.tasks if submit.has_dag() else ():
        if isinstance(task, ClaudeBatchResultsOperator) and _origin(task.batch) == submit.task_id:
            alike = all(getattr(task, name) == getattr(submit, name) for name in _WHERE_IT_RUNS)
            if alike and not _others_between(submit, task):
                yield task


def _others_between(submit: Any, results: ClaudeBatchResultsOperator) -> set[str]:
    """The tasks before a results task that come neither before the submit task nor wait for its job."""
    before = results.get_flat_relative_ids(upstream=True) - submit.get_flat_relative_ids(upstream=True)
    handed_on = {
        one for one in before if _origin(getattr(submit.dag.get_task(one), "batch", None)) == submit.task_id
    }
    return before - handed_on - {submit.task_id}


def _origin(batch: Any) -> str | None:
    """The id of the task whose whole output an argument is; a sensor hands on what it was given."""
    if getattr(batch, "key", "return_value") != "return_value":
        return None
    operator = getattr(batch, "operator", None)
    handed_on = getattr(operator, "batch", None)
    return getattr(operator, "task_id", None) if handed_on is None else _origin(handed_on)


def folder_per_map_index(output_path: Any) -> bool:
    """Whether mapped instances would share a path, as it was written: no ``map_index`` tells them apart."""
    return "map_index" not in str(output_path)


def is_expanded(context: Context, argument: str) -> bool:
    """Whether a mapped task's instances each have a value of their own for an argument."""
    task = context["ti"].task if hasattr(context["ti"], "task") else None
    dag = getattr(context.get("task"), "dag", None)
    declared_task = dag.task_dict.get(context["ti"].task_id) if dag is not None else task
    expansion = getattr(declared_task, "_get_specified_expand_input", None)
    if expansion is None:
        return False
    value = expansion().value
    if isinstance(value, Mapping):
        return argument in value
    return isinstance(value, Sequence) and any(argument in one for one in value if isinstance(one, Mapping))
