"""A prompt as a template over a record's columns.

Jinja in a sandbox: columns come from people's data, and a template must not reach beyond them. A
column that a record does not have is an error, never an empty place in a prompt that is paid for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import describe, shorten

_QUOTED = re.compile(r"'([^']*)'")
_Fill = Callable[[Mapping[str, Any]], str | None]


class PromptTemplate:
    """A compiled template.

    ``{{ name }}`` is the column ``name``; ``{{ record["Order No."] }}`` reaches one whose name is no
    identifier. A column without a value (null) leaves its place empty.

    Args:
        source: The template's text.
        surroundings: What the template knows besides the columns, each under a name of its own; a column of
            that name is reached through ``record``.

    Raises:
        ConfigurationError: Where it is not valid Jinja.
    """

    def __init__(self, source: str, surroundings: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, finalize=_nothing_for_null, keep_trailing_newline=True, cache_size=0
        )
        try:
            parsed = environment.parse(source)
            template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ConfigurationError(
                f"The prompt template is not valid Jinja, line {error.lineno}: {error.message}"
            ) from None
        _refuse_self(parsed)
        self._plain = _plain(parsed, {"record", "self", *(surroundings or ())})
        self.text = "".join(node.data for node in parsed.find_all(nodes.TemplateData))
        """What is text in it."""
        self.uses_columns = bool(meta.find_undeclared_variables(parsed) - (surroundings or {}).keys())
        # What Template.render does, less its copies of globals and columns and a context for each record.
        self._new_context = partial(template.new_context, {}, shared=True)
        self._context = self._new_context()
        self._render = template.root_render_func
        self._globals = dict(environment.globals)
        self._source = source
        self._surroundings = surroundings or {}

    def __call__(self, record: Mapping[str, Any], index: int) -> str:
        """The prompt for a record; ``index`` is its position in the input, for messages.

        Raises:
            InputError: For a missing column, a failing expression, or an empty prompt.
        """
        prompt = None if self._plain is None else self._plain(record)
        if prompt is None:
            prompt = self._rendered(record, index)
        if not prompt or prompt.isspace():
            rule = "the template makes an empty prompt of this record"
            raise InputError([Fault(index=index, where="prompt", value=describe(prompt), rule=rule)])
        return prompt

    def _rendered(self, record: Mapping[str, Any], index: int) -> str:
        columns = {**self._globals, "record": record, **record, **self._surroundings}
        try:
            context = self._context
            context.parent = columns
            prompt = "".join(self._render(context))
            if context.vars:  # what the template has set
                self._context = self._new_context()
        except Exception as error:  # noqa: BLE001  # the template may do anything; all of it is the record's fault
            self._context = self._new_context()
            raise InputError([self._fault(error, record, index)]) from None
        return prompt

    def _fault(self, error: Exception, record: Mapping[str, Any], index: int) -> Fault:
        if not isinstance(error, UndefinedError):
            rule = "the template fails on this record"
            return Fault(index=index, where="prompt template", value=type(error).__name__, rule=rule)
        names = _QUOTED.findall(str(error))
        rule = (
            f"the template uses what the record does not have; its columns are {shorten(sorted(record), 300)}"
        )
        for home, known in self._surroundings.items():
            if names and names[-1] in known:
                rule = f"{names[-1]} is no column; write {{{{ {home}.{names[-1]} }}}}"
            elif f"{home}." in self._source and "has no attribute" in str(error):
                rule += f". What {home} has differs from run to run: one without a logical date has no ds"
        # A name that the template does not hold was looked up by a column's value.
        told = all(name in self._source or name.endswith(" object") for name in names)
        value = shorten(str(error), 120) if told else "a name that comes from a column"
        return Fault(index=index, where="prompt template", value=value, rule=rule)


def _plain(template: nodes.Template, special: Collection[str]) -> _Fill | None:
    """What fills in a template that is text and columns only; None for another.

    It takes 0.7 µs a record, Jinja 2.1. Where it returns None, Jinja has to do it, or to say what is wrong.

    Args:
        template: Parsed.
        special: Names that are no columns, or others before they are columns.
    """
    text, names = "", []
    for output in template.body:
        for node in output.nodes if isinstance(output, nodes.Output) else [output]:
            if isinstance(node, nodes.TemplateData):
                text += node.data.replace("%", "%%")
            elif isinstance(node, nodes.Name) and node.name not in special:
                text += "%s"
                names.append(node.name)
            else:
                return None
    if not names:
        return None
    values_of = itemgetter(*names)

    def fill(record: Mapping[str, Any]) -> str | None:
        try:
            values = values_of(record) if len(names) > 1 else (values_of(record),)
            if None in values:
                values = tuple(map(_nothing_for_null, values))
            return text % values
        except Exception:  # noqa: BLE001  # a column that is missing, or what a value's own methods raise
            return None

    return fill


def _refuse_self(template: nodes.Template) -> None:
    """Refuse Jinja's own ``self`` in place of a column, but for the blocks of the template."""
    blocks = {block.name for block in template.find_all(nodes.Block)}
    of_blocks = {id(node.node) for node in template.find_all(nodes.Getattr) if node.attr in blocks}
    for name in template.find_all(nodes.Name):
        if name.name == "self" and name.ctx == "load" and id(name) not in of_blocks:
            raise ConfigurationError(
                f"The prompt template, line {name.lineno}: self is Jinja's own; a column of that name is "
                "{{ record['self'] }}"
            )


def _nothing_for_null(value: Any) -> Any:
    if type(value) is str:
        return value
    # range, dict, record.items, loop; what is undefined is of Jinja and can be called, too
    of_jinja = callable(value) or type(value).__module__.startswith("jinja2.")
    if of_jinja and not isinstance(value, Undefined):
        raise UndefinedError("a function of Jinja in place of a column")
    return "" if value is None else value
