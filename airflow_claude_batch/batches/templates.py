"""A prompt as a template over a record's columns.

Jinja in a sandbox: columns come from people's data, and a template must not reach beyond them. A
column that a record does not have is an error, never an empty place in a prompt that is paid for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.requests import shorten


class PromptTemplate:
    """A compiled template.

    ``{{ name }}`` is the column ``name``; ``{{ record["Order No."] }}`` reaches one whose name is no
    identifier. A column without a value (null) leaves its place empty.

    :param source: the template's text
    :raises ConfigurationError: where it is not valid Jinja
    """

    def __init__(self, source: str) -> None:
        from jinja2 import StrictUndefined, TemplateSyntaxError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, finalize=_nothing_for_null, keep_trailing_newline=True, cache_size=0
        )
        try:
            template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ConfigurationError(
                f"The prompt template is not valid Jinja, line {error.lineno}: {error.message}"
            ) from None
        # What Template.render does, less its copies and checks, which cost twice the rendering itself.
        self._new_context = template.new_context
        self._render = template.root_render_func
        self._globals = dict(environment.globals)

    def __call__(self, record: Mapping[str, Any], index: int) -> str:
        """The prompt for a record; ``index`` is its position in the input, for messages.

        :raises InputError: for a missing column, a failing expression, or an empty prompt
        """
        columns = {**self._globals, "record": record, **record}
        try:
            prompt = "".join(self._render(self._new_context(columns, shared=True)))
        except Exception as error:  # noqa: BLE001  # the template may do anything; all of it is the record's fault
            raise InputError([_fault(error, record, index)]) from None
        if not prompt.strip():
            rule = "the template makes an empty prompt of this record"
            raise InputError([Fault(index=index, where="prompt", value=shorten(prompt), rule=rule)])
        return prompt


def _nothing_for_null(value: Any) -> Any:
    return "" if value is None else value


def _fault(error: Exception, record: Mapping[str, Any], index: int) -> Fault:
    from jinja2 import UndefinedError

    if isinstance(error, UndefinedError):
        columns = shorten(sorted(map(str, record)), 300)
        rule = f"the template uses what the record does not have; its columns are {columns}"
        return Fault(index=index, where="prompt template", value=shorten(str(error), 120), rule=rule)
    value = f"{type(error).__name__}: {shorten(str(error))}"
    return Fault(index=index, where="prompt template", value=value, rule="the template fails on this record")
