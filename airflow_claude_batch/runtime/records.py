"""Reading the records of an operator's source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import determine_kwargs

from airflow_claude_batch.batches.requests.given_records import given_records
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
    return given_records(_outputs(value) if _is_mapped(value) else value)


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
