"""The spool: the whole input, validated, as part files in the job's folder, before anything is sent.

A part is what goes into one batch. Its requests file holds one request a line, exactly as they are
sent: the body of the POST is these lines joined by commas. Its inputs file holds, in the same
order, each custom_id with the user's own columns; it is what answers are joined with and counted
against. Memory does not grow with the input, except for 8 bytes a request to find duplicates.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import Fault, InputError
from airflow_claude_batch.batches.ledger import Part
from airflow_claude_batch.batches.preparation import Preparation, Recipe
from airflow_claude_batch.batches.rejected import RejectedWriter, Rejection, read_rejected
from airflow_claude_batch.batches.requests import Request, shorten
from airflow_claude_batch.batches.storage import Folder, iter_blocks, iter_lines

MAX_REQUESTS = 100_000
"""Most requests of a batch (source: the API's limits)."""
MAX_BYTES = 255_000_000
"""Most bytes of a part: 256 MB, of which whether MB or MiB is not documented, less a margin."""
SHOWN_FAULTS = 20

BODY_START = b'{"requests":['
BODY_END = b"]}"

_encode = msgspec.json.Encoder().encode
_FLUSH_AT = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where a part closes."""

    requests: int = MAX_REQUESTS
    """At most this many requests in a part."""
    bytes: int = MAX_BYTES
    """At most this many bytes in the body that a part is sent as."""
    first_alone: bool = False
    """Whether the first request is a part by itself."""


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A whole input, spooled."""

    parts: list[Part]
    """The last one holds the records that are not sent, where there are such."""
    request_count: int
    digest: str
    """Hash over the request lines, independent of their order."""


def bisect_part(folder: Folder, part: Part, first_file: int) -> list[Part]:
    """Store a part again as two parts of half as many requests.

    :param first_file: number for the first of the new files
    """
    half = (part.request_count + 1) // 2
    compress = part.requests.endswith(".gz")
    writer = SpoolWriter(
        folder, Limits(requests=half), compress=compress, first_part=first_file, round=part.round
    )
    with writer:
        for request in read_requests(folder, part.requests, part.inputs):
            writer.add(request)
    return writer.result().parts


def read_requests(folder: Folder, requests: str, inputs: str) -> Iterator[Request]:
    """The stored requests of a part, with the user's columns."""
    with folder.open_read(requests) as file:
        rows = read_inputs(folder, inputs)
        for line, (custom_id, columns) in zip(iter_lines(file), rows, strict=True):
            yield Request(custom_id=custom_id, line=line, columns=msgspec.Raw(columns) if columns else None)


def spool(
    records: Iterable[Any],
    folder: Folder,
    *,
    defaults: Mapping[str, Any],
    limits: Limits | None = None,
    compress: bool = False,
    recipe: Recipe | None = None,
) -> Spooled:
    """Stream records through validation into part files.

    :param defaults: Messages API parameters for requests that do not set them
    :param recipe: what makes requests of records that are none yet
    :param compress: store the part files gzipped (they are sent uncompressed all the same)
    :raises InputError: with the first 20 faults of the input in full, and their number. The
        source is read to its end to find them all.
    """
    prepare = Preparation(recipe or Recipe(), defaults)
    faults = _Faults()
    writer = SpoolWriter(folder, limits or Limits(), compress=compress)
    with writer:
        index = -1
        for index, record in enumerate(prepare.ahead(records)):
            try:
                request = prepare(record, index)
            except InputError as error:
                faults.add(error)
                writer.skip()
                continue
            if isinstance(request, Rejection):
                writer.reject(request, index)
                continue
            too_large = writer.add(request)
            if too_large:
                value = f"{len(request.line)} bytes"
                fault = Fault(index=index, where=f"request {request.custom_id}", value=value, rule=too_large)
                faults.add(InputError([fault]))
                writer.skip()
    if index < 0:
        rule = "at least one request is needed; where an empty input is normal, skip the task upstream"
        faults.add(InputError([Fault(index=0, where="requests", value="no records", rule=rule)]))
    for duplicate in writer.duplicates():
        faults.add(InputError([duplicate]))
    if index >= 0 and not faults.total and (problem := writer.nothing_to_send()):
        faults.add(InputError([problem]))
    if faults.total:
        raise InputError(faults.shown, faults.total)
    return writer.result()


class _Faults:
    """The first faults in full, all of them counted."""

    def __init__(self) -> None:
        self.shown: list[Fault] = []
        self.total = 0

    def add(self, error: InputError) -> None:
        self.total += error.total
        self.shown += error.faults[: SHOWN_FAULTS - len(self.shown)]


@dataclass
class SpoolWriter:
    """Writes requests into parts, closing each at its limits.

    :param first_part: number of the first part file; later rounds go on counting
    :param round: the round that the parts belong to
    """

    folder: Folder
    limits: Limits
    compress: bool = False
    first_part: int = 0
    round: int = 0
    parts: list[Part] = field(default_factory=list)
    _open: _PartWriter | None = None
    _digest: int = 0
    _hashes: list[array[int]] = field(default_factory=list)
    _count: int = 0
    _skipped: array[int] = field(default_factory=lambda: array("Q"))
    _rejected: RejectedWriter = field(init=False)

    def __post_init__(self) -> None:
        self._rejected = RejectedWriter(folder=self.folder, compress=self.compress)

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._rejected.close()
        self._close_part(keep=kind is None)

    def add(self, request: Request) -> str | None:
        """Store a request. Returns the rule it breaks where it is too large for any batch."""
        needed = len(request.line) + len(BODY_START) + len(BODY_END)
        if needed > self.limits.bytes:
            return f"one request may take up {self.limits.bytes} bytes at the most; make it smaller"
        part = self._open
        most = 1 if self.limits.first_alone and not self.parts else self.limits.requests
        if part is None or part.count >= most or part.bytes + needed > self.limits.bytes:
            self._close_part()
            part = self._open = _PartWriter(self.folder, self.first_part + len(self.parts), self.compress)
        self._digest += int.from_bytes(hashlib.sha256(request.line).digest(), "big")
        part.add(request)
        self._count += 1
        return None

    def skip(self) -> None:
        """Say that a record of the input was not stored, so that positions stay right in messages."""
        self._skipped.append(self._count)

    def reject(self, rejection: Rejection, index: int) -> None:
        """Store a record that is not sent; ``index`` is its position in the input."""
        self._rejected.add(rejection, index, _id_hash(rejection.request.custom_id))
        self.skip()

    def nothing_to_send(self) -> Fault | None:
        """What to say where all records were rejected."""
        first = self._rejected.first
        if first is None or self.parts:
            return None
        rule = f"none of the {self._rejected.count} records can be sent; the first: {first.reason}"
        return Fault(index=0, where="documents", value=shorten(first.request.custom_id), rule=rule)

    def result(self) -> Spooled:
        """What was written; call it after the last request."""
        parts = self.parts + self._rejected.parts()
        count = sum(part.request_count for part in parts)
        digest = f"{(self._digest + self._rejected.digest) % (1 << 256):064x}"
        return Spooled(parts=parts, request_count=count, digest=f"sha256-sum:{count}:{digest}")

    def duplicates(self) -> Iterator[Fault]:
        """Each repetition of a custom_id, in the whole input.

        Sorted hashes of all parts are merged; where two are equal the stored ids are compared,
        so that an unlucky pair of different ids is not taken for one.
        """
        suspects: set[int] = set()
        last = -1
        for value in heapq.merge(*self._hashes, sorted(self._rejected.hashes)):
            if value == last:
                suspects.add(value)
            last = value
        if not suspects:
            return
        first_seen: dict[str, int] = {}
        for index, custom_id in self._positions():
            if _id_hash(custom_id) not in suspects:
                continue
            first = first_seen.setdefault(custom_id, index)
            if first != index:
                rule = f"a custom_id occurs once in a job; record {first} has it too"
                yield Fault(index=index, where="custom_id", value=shorten(custom_id), rule=rule)

    def _positions(self) -> Iterator[tuple[int, str]]:
        """The position in the input and the custom_id of every stored record, the rejected ones last."""
        number = -1
        for part in self.parts:
            for custom_id, _ in read_inputs(self.folder, part.inputs):
                number += 1
                yield number + bisect.bisect_right(self._skipped, number), custom_id
        for row in read_rejected(self.folder, self._rejected.name):
            yield row.index, row.custom_id

    def _close_part(self, *, keep: bool = True) -> None:
        part, self._open = self._open, None
        if part is None:
            return
        part.close()
        if keep:
            self.parts.append(part.result(self.round))
            self._hashes.append(array("Q", sorted(part.hashes)))


class _PartWriter:
    """The two files of one part; lines are gathered and written in blocks of about a megabyte."""

    def __init__(self, folder: Folder, number: int, compress: bool) -> None:
        suffix = ".jsonl.gz" if compress else ".jsonl"
        self._names = f"requests-{number:05d}{suffix}", f"inputs-{number:05d}{suffix}"
        self._files = [folder.open_write(name) for name in self._names]
        self._requests: list[bytes] = []
        self._inputs: list[bytes] = []
        self._gathered = 0
        self.hashes = array("Q")
        self.count = 0
        # Every line costs itself and a comma, the last one only itself.
        self.bytes = len(BODY_START) + len(BODY_END) - 1

    def add(self, request: Request) -> None:
        line, custom_id = request.line, request.custom_id
        if request.columns:
            row = _encode({"custom_id": custom_id, "input": request.columns})
        else:
            row = b'{"custom_id":"%b"}' % custom_id.encode()
        self._requests.append(line)
        self._inputs.append(row)
        self.hashes.append(_id_hash(custom_id))
        self.count += 1
        self.bytes += len(line) + 1
        self._gathered += len(line) + len(row)
        if self._gathered >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        for file, lines in zip(self._files, (self._requests, self._inputs), strict=True):
            lines.append(b"")
            file.write(b"\n".join(lines))
            lines.clear()
        self._gathered = 0

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)
            if self._gathered:
                self._flush()

    def result(self, round: int) -> Part:
        requests, inputs = self._names
        return Part(
            requests=requests,
            inputs=inputs,
            request_count=self.count,
            bytes=self.bytes,
            round=round,
            ids_digest=f"{sum(self.hashes) % (1 << 64):016x}",
        )


def _id_hash(custom_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest(), "big")


class _InputLine(msgspec.Struct):
    custom_id: str
    input: msgspec.Raw = msgspec.Raw(b"")


_decode_input = msgspec.json.Decoder(_InputLine).decode


def read_inputs(folder: Folder, name: str) -> Iterator[tuple[str, bytes]]:
    """Each custom_id of an inputs file with the user's columns as JSON (empty where there are none)."""
    with folder.open_read(name) as file:
        for line in iter_lines(file):
            row = _decode_input(line)
            yield row.custom_id, bytes(row.input)


def read_body(folder: Folder, name: str) -> Iterator[bytes]:
    """The POST body of a part, block by block: its request lines, joined by commas."""
    yield BODY_START
    held = b""
    with folder.open_read(name) as file:
        for block in iter_blocks(file):
            # JSON never holds a bare newline, so each one ends a line; the very last one is dropped.
            block = held + block
            held = block[-1:]
            yield block[:-1].replace(b"\n", b",")
    if held != b"\n":
        yield held
    yield BODY_END
