"""What readers yield: rows, and what is broken in the place of rows; and how much a row may take.

What is wrong inside a file does not stop the reading: it is passed on, so that all faults of an input are
reported together and none of it is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.errors import Fault

LONGEST_FIELD = 32_000_000
"""Characters in one CSV field. A quote that is never closed swallows no more of a file than this."""
LONGEST_ROW = 100_000_000
"""Characters of one CSV row, and of one line of the file."""
LONGEST_RECORD = 255_000_000
"""Bytes of one record of JSON, Avro, ORC or Parquet: no batch takes a longer request."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A row that cannot be read, or the place where a file ceases to be readable."""

    where: str
    """File and line."""
    value: str
    rule: str
    ends: bool = False
    """Whether rows may be missing behind it: the file was read no further."""

    def fault(self, index: int) -> Fault:
        """The same as a fault of record ``index``."""
        return Fault(index=index, where=self.where, value=self.value, rule=self.rule)


Row = dict[str, Any] | Broken


class UnreadableFileError(Exception):
    """The file cannot be read from here on."""

    def __init__(self, rule: str, value: str, place: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.value = value
        self.place = place
        """Where in the file, for example ``line 7``; empty for the file as a whole."""

    def broken(self, url: str) -> Broken:
        """The same as a row of the file."""
        return Broken(where=f"{url} {self.place}".rstrip(), value=self.value, rule=self.rule, ends=True)


def too_long(what: str, most: str, place: str) -> UnreadableFileError:
    """For a row that is longer than what any request takes."""
    return UnreadableFileError(f"a {what} has at most {most} (the file was read no further)", "more", place)


def pick(columns: Iterable[str] | None, there: Iterable[str]) -> list[str]:
    """The columns to read, in the order of ``columns``; all that there are where that is None.

    Raises:
        UnreadableFileError: For repeated names, and for a name that the file does not have.
    """
    names = list(there)
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UnreadableFileError("each column has a name of its own", shown(repeated))
    if columns is None:
        return names
    wanted = list(columns)
    if missing := sorted(set(wanted) - set(names)):
        raise UnreadableFileError(f"the file has no such column; it has {shown(names)}", shown(missing))
    return wanted


def shown(names: list[str], limit: int = 200) -> str:
    """Names of columns for an error message."""
    text = ", ".join(map(repr, names))
    return text if len(text) <= limit else f"{text[:limit]}... ({len(names)} columns)"
