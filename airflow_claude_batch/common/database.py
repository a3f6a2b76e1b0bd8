"""Rows of a database, as a stream of mappings."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_claude_batch.batches.errors import (
    ConfigurationError,
    Fault,
    InputError,
    SubmissionError,
    missing_package,
)
from airflow_claude_batch.batches.requests.descriptions import shorten

CURSOR = "claude_batch"
"""Name of the cursor on the server."""


def read_rows(conn_id: str, sql: str, parameters: Any, rows_at_a_time: int) -> Iterator[dict[str, Any]]:
    """The rows of a query, which has been answered when this returns.

    Raises:
        ConfigurationError: For a connection to no database, and a query that it does not understand.
        SubmissionError: For a database that does not answer.
        InputError: For columns of the same name.
    """
    connection = _connect(conn_id)
    try:
        cursor = _streaming_cursor(connection, rows_at_a_time)
        cursor.execute(sql, *([] if parameters is None else [parameters]))
        rows = cursor.fetchmany(rows_at_a_time)
        if cursor.description is None:
            raise ConfigurationError(f"The sql of Sql({conn_id!r}, …) is no query: it returns no rows.")
        names = [column[0] for column in cursor.description]
        _check_names(names)
    except Exception as error:  # noqa: BLE001  # each driver has its own
        connection.close()
        raise _explained(error, conn_id) from None
    return _stream(connection, cursor, names, rows, rows_at_a_time, conn_id)


def _connect(conn_id: str) -> Any:
    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise missing_package("Sql(…)", "Airflow's provider for databases", "sql") from None
    hook = BaseHook.get_hook(conn_id)
    if not isinstance(hook, DbApiHook):
        raise ConfigurationError(
            f"Sql({conn_id!r}, …): this connection is of no database ({type(hook).__name__})."
        )
    try:
        return hook.get_conn()
    except Exception as error:  # noqa: BLE001
        raise _explained(error, conn_id) from None


def _streaming_cursor(connection: Any, rows_at_a_time: int) -> Any:
    """The server's cursor where the driver has one; others fetch the whole result at once."""
    driver = type(connection).__module__.partition(".")[0]
    if driver in ("psycopg2", "psycopg"):
        cursor = connection.cursor(name=CURSOR)
        cursor.itersize = rows_at_a_time
        return cursor
    if driver in ("pymysql", "MySQLdb"):
        return connection.cursor(importlib.import_module(f"{driver}.cursors").SSCursor)
    cursor = connection.cursor()
    with contextlib.suppress(AttributeError):
        cursor.arraysize = rows_at_a_time
    return cursor


def _stream(
    connection: Any, cursor: Any, names: list[str], rows: Any, rows_at_a_time: int, conn_id: str
) -> Iterator[dict[str, Any]]:
    with contextlib.closing(connection):
        while rows:
            for row in rows:
                yield dict(row) if isinstance(row, Mapping) else dict(zip(names, row, strict=True))
            try:
                rows = cursor.fetchmany(rows_at_a_time)
            except Exception as error:  # noqa: BLE001
                raise _explained(error, conn_id) from None


def _check_names(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not all(names):
        rule = "each column of a query has a name of its own; name it with AS"
        raise InputError([Fault(index=0, where="sql columns", value=shorten(repeated), rule=rule)])


def _explained(error: Exception, conn_id: str) -> Exception:
    """An error of a driver, by the names that all drivers give them (PEP 249)."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if not kinds & {"DatabaseError", "InterfaceError"}:
        return error
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    if "DataError" in kinds or "IntegrityError" in kinds:  # may quote a row
        return ConfigurationError(f"The query of Sql({conn_id!r}, …) failed: {type(error).__name__}.")
    if "OperationalError" in kinds or "InterfaceError" in kinds:
        return SubmissionError(
            f"The database of Sql({conn_id!r}, …) gave no answer: {first}. Nothing was sent."
        )
    return ConfigurationError(f"The query of Sql({conn_id!r}, …) failed: {first}. Nothing was sent.")
