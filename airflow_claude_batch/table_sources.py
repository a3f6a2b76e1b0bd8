"""Records that lie in a database, or that an earlier job has answered: what else ``requests`` may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

# The only way to have Airflow resolve what is not written in place.
from airflow.sdk.definitions._internal.mixins import ResolveMixin

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.common.handle import read_back
from airflow_claude_batch.common.scalars import NOTHING, as_text
from airflow_claude_batch.results import read_succeeded
from airflow_claude_batch.sources import Source, is_place

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.storage import Folder


class Sql(Source, ResolveMixin):
    """The rows of a query as records, by the names of its columns, streamed.

    On PostgreSQL and MySQL the cursor is the server's, so that a result of any size needs little memory; what
    other drivers hold in memory is theirs. Any database that Airflow's ``DbApiHook`` reaches will do.

    Args:
        conn_id: The connection.
        sql: The query, a template; or the path of a ``.sql`` file, as elsewhere in Airflow.
        parameters: Values for the query's placeholders, as the driver takes them.
        rows_at_a_time: Rows that are fetched at once.
    """

    template_fields = ("conn_id", "sql", "parameters")

    def __init__(
        self,
        conn_id: str,
        sql: str,
        parameters: Mapping[str, Any] | Iterable[Any] | None = None,
        rows_at_a_time: int = 1_000,
    ) -> None:
        for name, value in (("conn_id", conn_id), ("sql", sql)):
            if not isinstance(value, (str, ResolveMixin)):
                raise TypeError(f"Sql(…): {name} is a {type(value).__name__}; it is text")
        if type(rows_at_a_time) is not int or rows_at_a_time < 1:
            raise ValueError(f"rows_at_a_time is {rows_at_a_time!r}; it is a whole number of at least 1")
        self.conn_id = conn_id
        self.sql = sql
        self.parameters = parameters
        self.rows_at_a_time = rows_at_a_time

    def __str__(self) -> str:
        return f"Sql({self.conn_id!r}, {self.sql!r})"

    __repr__ = __str__

    def roots(self) -> list[str]:
        """No directories: rows may name documents only where the operator says so."""
        return []

    def iter_references(self) -> Iterable[Any]:
        """Other tasks whose output is a value here."""
        for name in self.template_fields:
            yield from XComArg.iter_xcom_references(getattr(self, name))

    def resolve(self, context: Context) -> Any:
        """The same with its templates rendered; called by Airflow."""
        task: Any = context["task"]
        sql = self.sql
        if isinstance(sql, str) and sql.strip().endswith(".sql"):
            environment = task.get_template_env()
            sql = environment.loader.get_source(environment, sql.strip())[0]
        conn_id, sql, parameters = (
            task.render_template(value, context) for value in (self.conn_id, sql, self.parameters)
        )
        return type(self)(conn_id, sql, parameters, self.rows_at_a_time)

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The rows; the query has been answered when this returns."""
        from airflow_claude_batch.common.database import read_rows

        _check_resolved(self)
        return read_rows(self.conn_id, self.sql, self.parameters, self.rows_at_a_time)


class Answers(Source, ResolveMixin):
    """The succeeded records of an earlier job as records, for a second step: judge them, translate them.

    Each has the ``custom_id`` and the columns of its request, ``text`` and, where there was an output schema,
    ``output``. A column that is itself called one of these is in the column ``input``
    (``{{ input.text }}``).

    Args:
        summary: Output of the results task (mapped ones, too), or the address of its ``output_path``.
    """

    template_fields = ("summary",)

    def __init__(self, summary: Any) -> None:
        self.summary = summary

    def __str__(self) -> str:
        return f"Answers({self.summary!r})" if isinstance(self.summary, (str, XComArg)) else "Answers(…)"

    __repr__ = __str__

    def roots(self) -> list[str]:
        """No directories."""
        return []

    def iter_references(self) -> Iterable[Any]:
        """The results task, where its output is the summary."""
        yield from XComArg.iter_xcom_references(self.summary)

    def resolve(self, context: Context) -> Any:
        """The same with the summary there; called by Airflow."""
        task: Any = context["task"]
        return type(self)(task.render_template(self.summary, context))

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The records."""
        _check_resolved(self)
        given = _summary(self.summary)
        several = not isinstance(given, (str, Mapping)) and isinstance(given, Iterable)
        found = [read_succeeded(summary) for summary in (map(_summary, given) if several else [given])]
        return (_as_record(answer) for answers in found for answer in answers)


def _check_resolved(source: Sql | Answers) -> None:
    """See that Airflow has put in what other tasks returned, which it does not within a function."""
    if next(iter(source.iter_references()), None) is None:
        return

    name = type(source).__name__
    raise ConfigurationError(
        f"{name}(…) names another task's output within a function, where Airflow does not resolve it. Write "
        f"requests={name}(…) on the operator. Nothing was sent."
    )


def _summary(given: Any) -> Any:
    """What ``Answers`` was given, read back where it is text: a summary, several, or an address.

    Raises:
        ConfigurationError: For anything else.
    """
    value = as_text(given)
    if isinstance(value, str):
        value = read_back(value.strip())
    if is_place(value) or (isinstance(value, Iterable) and not isinstance(value, (str, bytes))):
        return value
    from airflow_claude_batch.batches.requests.descriptions import describe

    shown = "nothing (has the results task run?)" if value in NOTHING else describe(value)
    raise ConfigurationError(
        f"Answers(…) was given {shown}; it takes the output of a results task, as Answers(extract.output), "
        "or the address of its output_path. Nothing was sent."
    )


def _as_record(answer: dict[str, Any]) -> dict[str, Any]:
    if "result" in answer:
        raise ConfigurationError("Answers(…) reads records; output_format='raw' has the API's lines instead.")
    own = {name: answer[name] for name in ("custom_id", "text", "output") if name in answer}
    columns = answer.get("input") or {}
    hidden = {name: value for name, value in columns.items() if name in own}
    return {**columns, **own, **({"input": hidden} if hidden else {})}
