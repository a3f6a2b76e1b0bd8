"""Where records go: a directory on object storage, or a list that travels in XCom.

A directory holds ``succeeded/part-00000.jsonl``, ``errored/part-00000.jsonl``, one pair a part of
the job, and ``summary.json``, written last: where it is, the directory is complete. Names depend on
the job only, so delivering again overwrites.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from airflow_claude_batch.batches.errors import ResultsTooLargeError
from airflow_claude_batch.batches.records import ErroredRecord, SucceededRecord
from airflow_claude_batch.batches.storage import BLOCK, Folder

SUMMARY = "summary.json"
SETS = ("succeeded", "errored")


class PartWriter(Protocol):
    """Takes the records of one part."""

    def succeeded(self, record: SucceededRecord) -> None:
        """Add an answered request."""

    def errored(self, record: ErroredRecord) -> None:
        """Add a request without a usable answer."""


class Output(Protocol):
    """Takes the records of a job."""

    name: str
    """Where the records go, in words that tell two places apart."""

    def part(self, number: int) -> contextlib.AbstractContextManager[PartWriter]:
        """A writer for one part; its records count when the block ends well."""

    def begin(self) -> None:
        """Before the first part of a delivery."""

    def paths(self) -> dict[str, str | None]:
        """URLs for the summary: succeeded_path, errored_path, summary_path."""

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """After the last part; returns the value for XCom."""


class JsonlDirectory:
    """Records as JSON lines on object storage."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.name = folder.url

    def begin(self) -> None:
        """A directory with a summary is complete; from now on this one is not."""
        self.folder.remove_file(SUMMARY)

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[PartWriter]:
        """Both files of a part appear under their names only when they are whole."""
        name = f"part-{number:05d}.jsonl"
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(self.folder.replace(f"{set_}/{name}")) for set_ in SETS]
            writer = _JsonlPart(*map(_Lines, files))
            yield writer
            writer.flush()

    def paths(self) -> dict[str, str | None]:
        """Where the files are."""
        url = self.folder.url.rstrip("/")
        return {
            "succeeded_path": f"{url}/succeeded",
            "errored_path": f"{url}/errored",
            "summary_path": f"{url}/{SUMMARY}",
        }

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """Remove part files of an earlier, larger delivery, then write the summary."""
        wanted = {f"part-{number:05d}.jsonl" for number in parts}
        for set_ in SETS:
            folder = self.folder.child(set_)
            for name in folder.names():
                if name.startswith("part-") and name not in wanted:
                    folder.remove_file(name)
        self.folder.write(SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        return summary


class _JsonlPart:
    def __init__(self, succeeded: _Lines, errored: _Lines) -> None:
        self._succeeded, self._errored = succeeded, errored

    def succeeded(self, record: SucceededRecord) -> None:
        self._succeeded.add(record)

    def errored(self, record: ErroredRecord) -> None:
        self._errored.add(record)

    def flush(self) -> None:
        self._succeeded.flush()
        self._errored.flush()


class _Lines:
    """Records as lines, gathered into blocks."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._buffer = bytearray()
        self._encode_into = msgspec.json.Encoder().encode_into

    def add(self, record: msgspec.Struct) -> None:
        buffer = self._buffer
        self._encode_into(record, buffer, -1)
        buffer += b"\n"
        if len(buffer) >= BLOCK:
            self.flush()

    def flush(self) -> None:
        self._file.write(self._buffer)
        self._buffer = bytearray()


class Inline:
    """Records as two lists in the XCom value, up to a size.

    :param max_bytes: size of the records as JSON
    """

    name = "xcom"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._records: dict[str, list[Any]] = {set_: [] for set_ in SETS}

    def begin(self) -> None:
        """Nothing to prepare."""

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[PartWriter]:
        """All parts go into the same lists."""
        yield self

    def succeeded(self, record: SucceededRecord) -> None:
        """Add an answered request."""
        self._add("succeeded", record)

    def errored(self, record: ErroredRecord) -> None:
        """Add a request without a usable answer."""
        self._add("errored", record)

    def _add(self, set_: str, record: msgspec.Struct) -> None:
        encoded = msgspec.json.encode(record)
        self._size += len(encoded)
        if self._size > self._max_bytes:
            raise ResultsTooLargeError(
                f"The records take up more than {self._max_bytes} bytes, the most that goes into XCom "
                "([claude_batch] max_inline_bytes). Set output_path to a directory on object storage, for "
                "example output_path='s3://bucket/results/{{ run_id }}', and clear the task: the answers are "
                "not lost."
            )
        self._records[set_].append(msgspec.json.decode(encoded))

    def paths(self) -> dict[str, str | None]:
        """There are no files."""
        return {"succeeded_path": None, "errored_path": None, "summary_path": None}

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """The summary with the records in it."""
        return {**summary, **self._records}
