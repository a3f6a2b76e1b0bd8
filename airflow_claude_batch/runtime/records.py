"""Reading the records of an operator's source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import determine_kwargs

from airflow_claude_batch.batches.errors import Fault, InputError
from airflow_claude_batch.batches.requests.objects import fields_of
from airflow_claude_batch.batches.requests.request import describe
from airflow_claude_batch.batches.requests.tables import is_table, table_rows
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.sources import Source

if TYPE_CHECKING:
    from airflow.sdk import Context


def read_records(value: Any, context: Context, prepare: Callable[[Source], None]) -> Iterator[Any]:
    """The records of a source, one after the other.

    A string in data is a prompt, never an address: what upstream tasks and callables hand over opens nothing,
    unless it is a ``Source``.

    Args:
        value: What ``requests`` of an operator was given.
        context: A callable gets the entries of it that it names.
        prepare: Called with a source before it is read.

    Raises:
        InputError: For a source that is none.
    """
    if callable(value):
        value = value(**determine_kwargs(value, (), context))
    if isinstance(value, Source):
        prepare(value)
        return value.read(open_folder)
    if is_table(value):
        return table_rows(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _no_source(value)
    if type(value) is tuple and any(map(_is_cell, value)):
        raise _no_records(value)
    return _rows(_outputs(value) if _is_mapped(value) else value)


def _is_mapped(value: Any) -> bool:
    """Whether a value is what the instances of a mapped task have returned, one after the other."""
    from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

    return isinstance(value, LazyXComSequence)


def _outputs(values: Iterable[Any]) -> Iterator[Any]:
    """The outputs of mapped tasks as one input: a list is one of records."""
    for value in values:
        if type(value) is list:
            yield from value
        else:
            yield value


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
