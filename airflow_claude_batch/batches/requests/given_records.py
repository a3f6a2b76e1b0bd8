"""Records that are given as values: a list, a generator, a table, or chunks of them; never an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_claude_batch.batches.errors import Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import describe
from airflow_claude_batch.batches.requests.objects import fields_of
from airflow_claude_batch.batches.requests.tables import is_table, table_rows


def given_records(value: Any) -> Iterator[Any]:
    """The records of a value, one after the other; a string among them is a prompt, never an address.

    Raises:
        InputError: For a value that has no records.
    """
    if is_table(value):
        return table_rows(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _no_source(value)
    if type(value) is tuple and any(map(_is_cell, value)):
        raise _no_records(value)
    return _rows(value)


def _rows(values: Iterable[Any]) -> Iterator[Any]:
    """Records, with tables and chunks (lists of mappings) taken apart."""
    for index, value in enumerate(values):
        if type(value) is dict or type(value) is str:
            yield value
        elif type(value) is list and value and isinstance(value[0], Mapping):
            if not all(isinstance(item, Mapping) for item in value):
                rule = "a list in place of a record is a chunk of records, all of them mappings"
                raise InputError([Fault(index=index, where="record", value=describe(value), rule=rule)])
            yield from value
        elif type(value) is list and not value:
            continue
        elif is_table(value):
            yield from table_rows(value)
        else:
            yield value


def _is_cell(value: Any) -> bool:
    """Whether a value is no record and holds none: in a tuple it is a value of a row."""
    return not isinstance(value, (list, tuple)) and fields_of(value) is None and not is_table(value)


def _no_records(value: Any) -> Exception:
    rule = (
        "a tuple is a row (of a database, or of a mapping that the task is mapped over) without the names of "
        "its columns, and its values are no prompts: prompts come in a list, rows as mappings or named "
        "tuples, and Sql(conn_id, sql) reads a database"
    )
    return InputError([Fault(index=0, where="requests", value=f"a tuple of {len(value)}", rule=rule)])


def _no_source(value: Any) -> Exception:
    rule = (
        "records are wanted: a list or another iterable, a callable that returns or yields them, "
        "or Files('s3://conn_id@bucket/folder/') of airflow_claude_batch.sources; a text from upstream is no "
        "address"
    )
    return InputError([Fault(index=0, where="requests", value=describe(value), rule=rule)])
