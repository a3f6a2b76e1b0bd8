"""What delivery writes records to: outputs, formats of record files, and what they have to be able to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

import msgspec

SETS = ("succeeded", "errored")
Compression = Literal["gzip", "zstd"] | None


class RecordFile(Protocol):
    """Takes the records of one set of one part."""

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        """Add records."""

    def add_lines(self, lines: bytes) -> None:
        """Add result lines as the API sent them, each with its end."""

    def close(self) -> None:
        """Write what is held back."""

    def abandon(self) -> None:
        """Instead of `close`, where an exception ends the part: nothing of the file is wanted."""


class Format(Protocol):
    """How a set of records becomes a file."""

    suffix: str
    """Of file names, for example ``jsonl.gz``."""
    raw: bool
    """Whether it takes the API's own lines instead of records."""
    parts_at_a_time: int
    """Parts that may be downloaded and written at the same time; each takes memory."""

    def misfit(self, output: Any, text: str) -> str | None:
        """Why the output of an answer does not fit into such a file; None where it does.

        Args:
            output: Parsed.
            text: The JSON that it was parsed from.
        """

    def prepare(self, inputs: Iterable[bytes]) -> None:
        """Before the first file: lines with the ``input`` of each request of the job."""

    def open(self, file: IO[bytes], set_: str) -> RecordFile:
        """Begin a file of one of the two sets."""


@dataclass(frozen=True)
class PartWriter:
    """Takes the records of one part."""

    succeeded: RecordFile
    errored: RecordFile
    raw: bool = False
    """Whether lines are wanted instead of records."""


class Output(Protocol):
    """Takes the records of a job."""

    name: str
    """Where the records go and in which form, in words that tell two places apart."""
    raw: bool
    """Whether lines are wanted instead of records."""
    parts_at_a_time: int
    """Parts that may be downloaded and written at the same time; each takes memory."""
    keeps_parts: bool
    """Whether parts that are delivered outlive this process, so that they can come one by one."""

    def misfit(self, output: Any, text: str) -> str | None:
        """Why the output of an answer does not fit in here; None where it does. Arguments: as of `Format`."""

    def part(self, number: int) -> contextlib.AbstractContextManager[PartWriter]:
        """A writer for one part; its records count when the block ends well."""

    def has(self, number: int) -> bool:
        """Whether a part that was delivered once is still there."""

    def reserve(self, job: str | None, batch_ids: Sequence[str]) -> None:
        """Before a delivery: whose it is; raises ConfigurationError where that may not be."""

    def begin(self, inputs: Iterable[bytes] = ()) -> bytes | None:
        """Before some parts of a delivery.

        Args:
            inputs: Lines with the ``input`` of each request of the job, read only where they are needed

        Returns:
            The summary that said that the output is complete, and is gone now.
        """

    def restore(self, summary: bytes) -> None:
        """Put back what `begin` took, unless there is another summary by now."""

    def tell_progress(self, parts: list[int], **told: Any) -> None:
        """Say which parts are complete, and what else there is to tell."""

    def forget_progress(self) -> None:
        """Take back what was told of an earlier delivery."""

    def place(self) -> dict[str, Any]:
        """What `open_directory` needs to open it again: path, format, compression."""

    def paths(self) -> dict[str, str | None]:
        """URLs for the summary: succeeded_path, errored_path, summary_path, succeeded_uri, errored_uri."""

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """After the last part; returns the value for XCom."""
