"""Records as a list that travels in XCom."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import (
    ResultsTooLargeError,
)
from airflow_claude_batch.batches.results.output.writers import SETS, PartWriter


class Inline:
    """Records as two lists in the XCom value, up to a size.

    Args:
        max_bytes: Size of the records as JSON.
    """

    name = "xcom"
    raw = False
    parts_at_a_time = 2
    keeps_parts = False

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: dict[int, tuple[_InlineRecords, _InlineRecords]] = {}

    def reserve(self, job: str | None, batch_ids: Sequence[str]) -> None:
        """An XCom is its task's own."""

    def begin(self, inputs: Iterable[bytes] = ()) -> bytes | None:
        """Nothing to prepare."""
        return None

    def restore(self, summary: bytes) -> None:
        """There is never one to put back."""

    def has(self, number: int) -> bool:
        """Whether the part was delivered to this object."""
        return number in self._parts

    def misfit(self, output: Any, text: str) -> str | None:
        """Any fits."""
        return None

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[PartWriter]:
        """Lists for one part."""
        files = _InlineRecords(self), _InlineRecords(self)
        yield PartWriter(*files)
        self._parts[number] = files

    def check_size(self, more: int) -> None:
        """Refuse what does not fit.

        Args:
            more: Bytes in files that are not complete yet.

        Raises:
            ResultsTooLargeError: When the limit is passed.
        """
        size = more + sum(file.size for files in self._parts.values() for file in files)
        if size > self._max_bytes:
            raise ResultsTooLargeError(
                f"The records take up more than {self._max_bytes} bytes, the most that goes into XCom "
                "([claude_batch] max_inline_bytes). Set output_path to a directory on object storage, for "
                "example output_path='s3://bucket/results/{{ run_id }}', and clear the task: the answers are "
                "not lost."
            )

    def tell_progress(self, parts: list[int], **told: Any) -> None:
        """Nobody sees them before the task has ended."""

    def forget_progress(self) -> None:
        """There is none."""

    def place(self) -> dict[str, Any]:
        """Nowhere that could be opened again."""
        return {}

    def paths(self) -> dict[str, str | None]:
        """There are no files."""
        names = ("succeeded_path", "errored_path", "summary_path", "succeeded_uri", "errored_uri")
        return dict.fromkeys(names)

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """The summary with the records in it."""
        records = {
            set_: [record for number in parts for record in self._parts[number][position].records]
            for position, set_ in enumerate(SETS)
        }
        return {**summary, **records}


class _InlineRecords:
    def __init__(self, owner: Inline) -> None:
        self._owner = owner
        self.size = 0
        self.records: list[Any] = []

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        self.add_lines(msgspec.json.Encoder().encode_lines(records))

    def add_lines(self, lines: bytes) -> None:
        self.size += len(lines)
        self._owner.check_size(self.size)
        self.records += msgspec.json.Decoder().decode_lines(lines)

    def close(self) -> None:
        """Nothing is held back."""

    def abandon(self) -> None:
        """Nothing is open."""
