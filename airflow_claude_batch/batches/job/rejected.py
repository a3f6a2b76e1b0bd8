"""Bad records: refused here, before anything is paid for them, while the others go on.

One breaks a rule, or one of its documents cannot be sent. They lie in a file of the job's
folder and come out among the errored records, with outcome ``invalid``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.storage import Folder, iter_lines


class RejectedLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One rejected record, as stored."""

    custom_id: str
    index: int
    """Position of the record in the input, counted from 0."""
    reason: str
    error_type: str
    input: msgspec.Raw
    """The user's own columns as JSON; ``null`` where there are none."""


@dataclass(kw_only=True)
class RejectedWriter:
    """Writes the rejected records of a job; the file is there when the first one comes."""

    folder: Folder
    compress: bool = False
    name: str = ""
    """The file; empty while nothing was rejected."""
    count: int = 0
    digest: int = 0
    """Sum of the lines' hashes, as part of the digest of the job."""
    _file: IO[bytes] | None = None

    def add(
        self, custom_id: str | None, index: int, error: InputError, columns: dict[str, Any], content: bytes
    ) -> None:
        """Store a bad record.

        Args:
            custom_id: Its own, where it has one that no other record has.
            index: Its position in the input.
            error: What is wrong with it.
            columns: The user's own.
            content: What makes it this record and no other, for the digest.
        """
        if self._file is None:
            self.name = "rejected-00000.jsonl" + (".gz" if self.compress else "")
            self._file = self.folder.open_write(self.name)
        row = RejectedLine(
            custom_id=custom_id or f"bad-record:{index}",  # a colon, so that no record has it for its own
            index=index,
            reason="; ".join(map(str, error.faults)),
            error_type=error.kind,
            input=msgspec.Raw(msgspec.json.encode(columns or None)),
        )
        self._file.write(msgspec.json.encode(row) + b"\n")
        self.count += 1
        rules = "\n".join(f"{fault.where} {fault.rule}" for fault in error.faults)
        whole = content + rules.encode("utf-8", "backslashreplace")
        self.digest += int.from_bytes(hashlib.sha256(whole).digest())

    def parts(self) -> list[Part]:
        """The part that stands for them in the ledger; none where nothing was rejected."""
        if not self.count:
            return []
        return [Part(requests="", inputs=self.name, request_count=self.count, bytes=0, rejected=True)]

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


_decode = msgspec.json.Decoder(RejectedLine).decode


def read_rejected(folder: Folder, name: str) -> Iterator[RejectedLine]:
    """The rejected records of a job; none where ``name`` is empty."""
    if not name:
        return
    with folder.open_read(name) as file:
        yield from map(_decode, iter_lines(file))
