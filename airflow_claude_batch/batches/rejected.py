"""Records that are refused here, before anything is paid for them: one of their documents cannot be sent.

They are no fault of the whole input, so the other records go on. They lie in a file of the job's
folder and come out among the errored records, with outcome ``invalid``.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import msgspec

from airflow_claude_batch.batches.ledger import Part
from airflow_claude_batch.batches.requests import Request
from airflow_claude_batch.batches.storage import Folder, iter_lines

ERROR_TYPE = "unreadable_document"


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A record that is not sent."""

    request: Request
    """What would have been sent, without the documents; its custom_id and columns are the record's."""
    reason: str


class RejectedLine(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One rejected record, as stored."""

    custom_id: str
    index: int
    """Position of the record in the input, counted from 0."""
    reason: str
    input: msgspec.Raw = msgspec.Raw(b"")
    """The user's own columns as JSON; empty where there are none."""


@dataclass(kw_only=True)
class RejectedWriter:
    """Writes the rejected records of a job; the file is there when the first one comes."""

    folder: Folder
    compress: bool = False
    name: str = ""
    """The file; empty while nothing was rejected."""
    count: int = 0
    first: Rejection | None = None
    digest: int = 0
    """Sum of the lines' hashes, as part of the digest of the job."""
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    """Hashes of the custom_ids, to find duplicates by."""
    _file: IO[bytes] | None = None

    def add(self, rejection: Rejection, index: int, id_hash: int) -> None:
        """Store a rejected record."""
        if self._file is None:
            self.name = "rejected-00000.jsonl" + (".gz" if self.compress else "")
            self._file = self.folder.open_write(self.name)
            self.first = rejection
        request = rejection.request
        columns = msgspec.Raw(msgspec.json.encode(request.columns) if request.columns else b"")
        row = RejectedLine(custom_id=request.custom_id, index=index, reason=rejection.reason, input=columns)
        self._file.write(msgspec.json.encode(row) + b"\n")
        self.count += 1
        content = request.line + b"\n" + rejection.reason.encode()
        self.digest += int.from_bytes(hashlib.sha256(content).digest(), "big")
        self.hashes.append(id_hash)

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
