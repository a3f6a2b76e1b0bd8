"""How the page's queries run: each for a bounded time, and over JSON that anybody may have written.

A browser that goes away does not end the query that it asked for; without a limit, slow ones pile up until
Airflow's own API has no connection left.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Integer, Result, Text, case, cast, extract, func, literal_column, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

SECONDS = 5.0
"""The longest that a query of ours may take."""

_TIMED_OUT = ("statement timeout", "interrupted", "maximum statement execution time")
_OPCODES = 100_000
"""SQLite looks at the clock once in so many steps: about every millisecond."""


class TooSlowError(Exception):
    """The database did not answer in time."""


def run(session: Session, statement: Any) -> Result[*tuple[Any, ...]]:
    """Execute a statement, for :data:`SECONDS` at most.

    Raises:
        TooSlowError: When it takes longer.
    """
    connection = session.connection()
    dialect = connection.dialect.name
    limit = round(1000 * SECONDS)
    if dialect == "postgresql":
        connection.execute(text(f"SET LOCAL statement_timeout = {limit:d}"))
    elif dialect == "mysql":
        statement = statement.prefix_with(f"/*+ MAX_EXECUTION_TIME({limit:d}) */", dialect="mysql")
    try:
        if dialect == "sqlite":
            return _run_in_sqlite(session, statement)
        return session.execute(statement)
    except DBAPIError as error:
        if any(words in str(error.orig).lower() for words in _TIMED_OUT):
            raise TooSlowError from error
        raise


def _run_in_sqlite(session: Session, statement: Any) -> Result[*tuple[Any, ...]]:
    driver: Any = session.connection().connection.driver_connection
    end = time.monotonic() + SECONDS
    driver.set_progress_handler(lambda: time.monotonic() > end, _OPCODES)
    try:
        return session.execute(statement).freeze()()
    finally:
        driver.set_progress_handler(None, 0)


class _InJson(FunctionElement[str]):
    """A value within a JSON column as text; NULL where there is none. For use in :class:`IfJson`."""

    type = Text()
    inherit_cache = True
    path: ClassVar[tuple[str, ...]]


class JobName(_InJson):
    """Of the job that an XCom names."""

    inherit_cache = True
    path = ("job",)


class Succeeded(_InJson):
    """The number of requests of a summary that succeeded."""

    inherit_cache = True
    path = ("counts", "succeeded")


class Total(_InJson):
    """The number of requests of a summary."""

    inherit_cache = True
    path = ("counts", "total")


class BatchIds(_InJson):
    """The batches that an XCom names, as one text."""

    inherit_cache = True
    path = ("batch_ids",)


class Deadline(_InJson):
    """When the author of a job wants its results, as a task has written it."""

    inherit_cache = True
    path = ("deadline",)


class Due(FunctionElement[str]):
    """Until when results are due: that, or a day after a time, as text to sort by."""

    type = Text()
    inherit_cache = True


@compiles(Due)
def _compile_due(element: Due, compiler: Any, **kw: Any) -> str:
    value, time = element.clauses
    later = func.date_format(func.timestampadd(text("HOUR"), 24, time), "%Y-%m-%dT%H:%i:%s")
    return str(compiler.process(func.coalesce(IfJson(value, Deadline(value)), later), **kw))


@compiles(Due, "sqlite")
def _compile_due_for_sqlite(element: Due, compiler: Any, **kw: Any) -> str:
    value, time = element.clauses
    later = func.strftime("%Y-%m-%dT%H:%M:%S", cast(time, Text), "+1 day")
    return str(compiler.process(func.coalesce(IfJson(value, Deadline(value)), later), **kw))


@compiles(Due, "postgresql")
def _compile_due_for_postgresql(element: Due, compiler: Any, **kw: Any) -> str:
    value, time = element.clauses
    utc = func.timezone("UTC", time) + text("INTERVAL '1 day'")
    later = func.to_char(utc, 'YYYY-MM-DD"T"HH24:MI:SS')
    return str(compiler.process(func.coalesce(IfJson(value, Deadline(value)), later), **kw))


class Microseconds(FunctionElement[int]):
    """Of a time, within its second or minute: where one of some times changes, the sum of theirs does."""

    type = Integer()
    inherit_cache = True


@compiles(Microseconds)
def _compile_microseconds(element: Microseconds, compiler: Any, **kw: Any) -> str:
    [time] = element.clauses
    return str(compiler.process(func.microsecond(time), **kw))


@compiles(Microseconds, "sqlite")
def _compile_microseconds_for_sqlite(element: Microseconds, compiler: Any, **kw: Any) -> str:
    [time] = element.clauses
    written = cast(time, Text)
    return str(compiler.process(cast(func.substr(written, 21, 6), Integer), **kw))


@compiles(Microseconds, "postgresql")
def _compile_microseconds_for_postgresql(element: Microseconds, compiler: Any, **kw: Any) -> str:
    [time] = element.clauses
    return str(compiler.process(extract("microseconds", time), **kw))


@compiles(_InJson)
def _compile(element: _InJson, compiler: Any, **kw: Any) -> str:
    [column] = element.clauses
    return str(compiler.process(column[element.path].as_string(), **kw))


@compiles(_InJson, "sqlite")
def _compile_for_sqlite(element: _InJson, compiler: Any, **kw: Any) -> str:
    [column] = element.clauses
    path = "".join(f'."{name}"' for name in element.path)
    found = cast(func.json_extract(column, literal_column(f"'${path}'")), Text)
    return str(compiler.process(found, **kw))


class IfJson(FunctionElement[Any]):
    """What is said of a column's JSON; NULL where the column's text is none.

    SQLite ends the whole query with an error where a text is no JSON, or nested beyond its limit. It is asked
    once for all that is said of a row's: each look at a long text takes its time.
    """

    inherit_cache = True

    def __init__(self, column: Any, said: ColumnElement[Any]) -> None:
        super().__init__(column, said)
        self.type = said.type


@compiles(IfJson)
def _compile_if_json(element: IfJson, compiler: Any, **kw: Any) -> str:
    [_, said] = element.clauses
    return f"({compiler.process(said, **kw)})"  # an OR among other conditions


@compiles(IfJson, "sqlite")
def _compile_if_json_for_sqlite(element: IfJson, compiler: Any, **kw: Any) -> str:
    [column, said] = element.clauses
    return str(compiler.process(case((func.json_valid(column) == 1, said)), **kw))
