"""Where requests come from, and how their content is kept out of Airflow's database and logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_claude_batch.sources import Files, Source

if TYPE_CHECKING:
    from airflow.sdk import Context

_URI = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:/)?/[^\s]+")
"""A URI or an absolute path, and nothing else."""


class HiddenRequests:
    """A source whose text form says nothing of its content.

    Airflow stores template fields as text after rendering, and renders strings in them; prompts are
    data and want neither.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def wrap(cls, value: Any) -> Any:
        """Hide a value; what Airflow has to resolve or render stays as it is: XComs, and where files are."""
        if isinstance(value, (XComArg, Source, cls)):
            return value
        if isinstance(value, (list, tuple)) and any(isinstance(item, XComArg) for item in value):
            return value
        if isinstance(value, str) and (is_place(value) or "{{" in value):
            return Files(value)
        return cls(value)

    def __str__(self) -> str:
        if callable(self.value):
            return f"<requests from {getattr(self.value, '__qualname__', type(self.value).__name__)}>"
        if isinstance(self.value, (list, tuple)):
            return f"<{len(self.value)} requests>"
        return f"<requests from a {type(self.value).__name__}>"

    __repr__ = __str__


def is_place(value: Any) -> bool:
    """Whether a value says where files are, as a URI or an absolute path."""
    return isinstance(value, str) and _URI.fullmatch(value) is not None


def read_records(source: Any, context: Context) -> Iterator[Any]:
    """The records of a source, one after the other.

    A list in a list (the outputs of mapped tasks) is taken apart once. In data from upstream a string
    that is a URI (but no web page) stands for the files there; any other string is a prompt, and so is
    every string that a callable yields.

    :raises InputError: for a source that is none
    """
    value = source.value if isinstance(source, HiddenRequests) else source
    from_callable = callable(value)
    if from_callable:
        from airflow.providers.common.compat.sdk import determine_kwargs

        value = value(**determine_kwargs(value, (), context))
    if is_place(value):
        value = Files(value)
    if isinstance(value, Source):
        return _read(value)
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise _no_source(value)
    return _flatten(value, files=not from_callable)


def _flatten(values: Iterable[Any], *, files: bool) -> Iterator[Any]:
    for value in values:
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if files and is_place(item) and "://" in item and not item.startswith("http"):
                yield from _read(Files(item))
            else:
                yield item


def _read(source: Source) -> Iterator[Any]:
    from airflow_claude_batch.settings import open_folder

    return source.read(open_folder)


def _no_source(value: Any) -> Exception:
    from airflow_claude_batch.batches.errors import Fault, InputError
    from airflow_claude_batch.batches.requests import shorten

    rule = (
        "records are wanted: a list or another iterable, a callable that returns or yields them, "
        "or the URI of files that hold them"
    )
    return InputError([Fault(index=0, where="requests", value=shorten(value), rule=rule)])
