"""Where requests come from, and how their content is kept out of Airflow's database and logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

if TYPE_CHECKING:
    from airflow.sdk import Context


class HiddenRequests:
    """A source whose text form says nothing of its content.

    Airflow stores template fields as text after rendering, and renders strings in them; prompts are
    data and want neither.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def wrap(cls, value: Any) -> Any:
        """Hide a value; references to upstream tasks stay as they are until Airflow resolves them."""
        if isinstance(value, (XComArg, cls)):
            return value
        if isinstance(value, (list, tuple)) and any(isinstance(item, XComArg) for item in value):
            return value
        return cls(value)

    def __str__(self) -> str:
        if callable(self.value):
            return f"<requests from {getattr(self.value, '__qualname__', type(self.value).__name__)}>"
        if isinstance(self.value, (list, tuple)):
            return f"<{len(self.value)} requests>"
        return f"<requests from a {type(self.value).__name__}>"

    __repr__ = __str__


def read_records(source: Any, context: Context) -> Iterator[Any]:
    """The records of a source, one after the other.

    A list in a list (the outputs of mapped tasks) is taken apart once.

    :raises InputError: for a source that is not a list, an iterable or a callable
    """
    value = source.value if isinstance(source, HiddenRequests) else source
    if callable(value):
        from airflow.providers.common.compat.sdk import determine_kwargs

        value = value(**determine_kwargs(value, (), context))
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        from airflow_claude_batch.batches.errors import Fault, InputError
        from airflow_claude_batch.batches.requests import shorten

        rule = "a list (or another iterable) of records is wanted, or a callable that returns one"
        raise InputError([Fault(index=0, where="requests", value=shorten(value), rule=rule)])
    return itertools.chain.from_iterable(
        item if isinstance(item, (list, tuple)) else (item,) for item in value
    )
