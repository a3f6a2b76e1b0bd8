"""The spool: the whole input, validated, as part files in the job's folder, before anything is sent.

A part is what goes into one batch. Its requests file holds one request a line, exactly as they are
sent: the body of the POST is these lines joined by commas. Its inputs file holds, in the same
order, each custom_id with the user's own columns; it is what answers are joined with and counted
against. Memory does not grow with the input, except for 16 to 32 bytes a request to find duplicates.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from airflow_claude_batch.batches.errors import EmptyInputError, Fault, InputError
from airflow_claude_batch.batches.job.marks import LENGTH as MARK_LENGTH
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import read_inputs, read_requests
from airflow_claude_batch.batches.job.part_writer import (
    BODY_END,
    BODY_START,
    PartWriter,
    Route,
    writers_label,
)
from airflow_claude_batch.batches.job.rejected import RejectedWriter
from airflow_claude_batch.batches.job.survey import Survey, Surveyor
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.custom_ids import HashSet
from airflow_claude_batch.batches.requests.descriptions import shorten
from airflow_claude_batch.batches.requests.files import Broken
from airflow_claude_batch.batches.requests.json_values import lenient_json
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.storage import Folder

MAX_REQUESTS = 100_000
"""Most requests of a batch (source: the API's limits)."""
MAX_BYTES = 255_000_000
"""Most bytes of a part: 256 MB, of which whether MB or MiB is not documented, less a margin."""
SHOWN_FAULTS = 20
_AROUND_A_LINE = MARK_LENGTH + len(BODY_START) + len(BODY_END)

_encode = msgspec.json.Encoder().encode


class Router(Protocol):
    """Says which requests need not be asked."""

    def route(self, request: Request) -> tuple[Route, bytes]:
        """Where a request goes, and what names its answer, as letters and digits.

        Called once for each request, in their order.
        """


_OTHER_KEY = "; custom_id='name of a column' on the operator names records by another key"


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
    survey: Survey
    """What the requests come to; empty where they were read back from the spool."""


def bisect_part(folder: Folder, part: Part, first_file: int) -> list[Part]:
    """Store a part again as two parts of half as many requests.

    Args:
        first_file: Number for the first of the new files.
    """
    half = (part.request_count + 1) // 2
    compress = part.requests.endswith(".gz")
    writer = SpoolWriter(
        folder,
        Limits(requests=half),
        compress=compress,
        first_part=first_file,
        round=part.round,
        label=writers_label(),
    )
    with writer:
        for request in read_requests(folder, part):
            writer.add(request)
    return writer.result().parts


def spool(
    records: Iterable[Any],
    folder: Folder,
    *,
    defaults: Mapping[str, Any],
    limits: Limits | None = None,
    compress: bool = False,
    recipe: Recipe | None = None,
    bad_fraction: float = 0.0,
    may_be_empty: bool = False,
    router: Router | None = None,
) -> Spooled:
    """Stream records through validation into part files.

    Args:
        defaults: Messages API parameters for requests that do not set them.
        recipe: What makes requests of records that are none yet.
        compress: Store the part files gzipped (they are sent uncompressed all the same).
        bad_fraction: Share of the records that may be bad; these are not sent, the others are.
        may_be_empty: Whether no records are a job, too.
        router: Says which requests need not be asked; None where all are.

    Raises:
        InputError: With the first 20 faults of the input in full, and their number. The source is read to
            its end to find them all.
        EmptyInputError: Where there are no records.
    """
    build = RequestBuilder(recipe or Recipe(), defaults)
    faults = _Faults()
    tolerant = bad_fraction > 0
    writer = SpoolWriter(folder, limits or Limits(), compress=compress, tolerant=tolerant, router=router)
    with writer:
        index = -1
        for index, record in enumerate(build.ahead(_or_none(records) if may_be_empty else records)):
            try:
                writer.take(build(record, index), index)
            except InputError as error:
                faults.add(error)
                writer.reject(record, index, error, build)
    if index < 0 and not may_be_empty:
        rule = "at least one record is needed; where an empty input is normal, on_empty says what it means"
        raise EmptyInputError([Fault(index=0, where="requests", value="no records", rule=rule)])
    for duplicate in writer.duplicates():
        faults.add(InputError([duplicate]))
    if faults.total:
        _judge(faults, writer, index + 1, bad_fraction)
    return writer.result()


def _or_none(records: Iterable[Any]) -> Iterator[Any]:
    """The records; none where their source says that there are none."""
    with contextlib.suppress(EmptyInputError):
        yield from records


def _judge(faults: _Faults, writer: SpoolWriter, count: int, bad_fraction: float) -> None:
    """Raise the faults, unless they are few enough and something is left to send."""
    bad = writer.rejected_count
    if writer.final is not None:
        raise InputError([writer.final], verdict="What comes after this place would be lost.")
    if not bad_fraction:
        raise InputError(faults.shown, faults.total)
    verdict = f"{bad} of {count} records are bad"
    if bad > bad_fraction * count:
        verdict += f"; bad_records allows a share of {bad_fraction:g}."
        raise InputError(faults.shown, faults.total, verdict=verdict)
    if not writer.has_parts:
        raise InputError(faults.shown, faults.total, verdict=f"{verdict}, and none is left to send.")


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

    Args:
        first_part: Number of the first part file; later rounds go on counting.
        round: The round that the parts belong to.
        label: Part of the files' names, where other workers may write parts of these numbers.
        tolerant: Whether bad records are stored, to come out among the errored ones.
        router: Says which requests need not be asked; None where all are.
    """

    folder: Folder
    limits: Limits
    compress: bool = False
    first_part: int = 0
    round: int = 0
    label: str = ""
    tolerant: bool = False
    router: Router | None = None
    final: Fault | None = None
    """Why a source was read no further."""
    _open: dict[Route, PartWriter] = field(default_factory=dict)
    """The part that is written to, of each kind."""
    _begun: Counter[Route] = field(default_factory=Counter)
    """Parts so far, of each kind."""
    _closed: list[PartWriter] = field(default_factory=list)
    _count: int = 0
    _skipped: array[int] = field(default_factory=lambda: array("Q"))
    _most_bytes: int = field(init=False)
    """Of a part's lines."""
    _rejected: RejectedWriter = field(init=False)
    _surveyor: Surveyor = field(default_factory=Surveyor)
    _ids: HashSet = field(default_factory=HashSet)

    def __post_init__(self) -> None:
        self._most_bytes = self.limits.bytes - _AROUND_A_LINE
        self._rejected = RejectedWriter(folder=self.folder, compress=self.compress)

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._rejected.close()
        for route in list(self._open):
            self._close_part(route, keep=kind is None)

    def add(self, request: Request) -> None:
        """Store a request."""
        route: Route = "new"
        line, fingerprint = request.line, request.fingerprint
        if self.router is not None:
            route, fingerprint = self.router.route(request)
        part = self._open.get(route)
        if part is None or part.count >= part.most_requests or part.offset + len(line) > self._most_bytes:
            part = self._next_part(route)
        if route == "new":
            if not part.count:
                line = part.mark(request)
            self._surveyor.add(request, part.requests, part.offset, len(line))
        part.add(request, line, fingerprint, self._count)
        self._count += 1

    def _next_part(self, route: Route) -> PartWriter:
        """Close the part under way and begin the next one."""
        self._close_part(route)
        most = self.limits.requests if route == "new" else MAX_REQUESTS
        if self.limits.first_alone and route == "new" and not self._begun[route]:
            most = 1
        number = self.first_part + self._begun.total()
        self._begun[route] += 1
        part = PartWriter(self.folder, number, self.compress, most, route, self.label)
        if self.router is not None:  # parts of several kinds are written side by side
            part.positions = array("Q")
        self._open[route] = part
        return part

    def take(self, request: Request, index: int) -> None:
        """Store the request of record ``index``.

        Raises:
            InputError: Where it is too large for any batch; or, if bad records are stored, where its
                custom_id was there before. Without that `duplicates` finds them, in less memory.
        """
        if len(request.line) > self._most_bytes:
            where, value = f"request {request.custom_id}", f"{len(request.line)} bytes"
            rule = f"one request may take up {self.limits.bytes} bytes at the most; make it smaller"
            raise InputError([Fault(index=index, where=where, value=value, rule=rule)])
        if self.tolerant and not self._ids.add(_id_hash(request.custom_id)):
            rule = f"a custom_id occurs once in a job; an earlier record has it too{_OTHER_KEY}"
            raise InputError(
                [Fault(index=index, where="custom_id", value=shorten(request.custom_id), rule=rule)]
            )
        self.add(request)

    def skip(self) -> None:
        """Say that a record of the input was not stored, so that positions stay right in messages."""
        self._skipped.append(self._count)

    def reject(self, record: Any, index: int, error: InputError, build: RequestBuilder) -> None:
        """Leave a bad record out, and store it if that is wanted."""
        self.skip()
        if isinstance(record, Broken) and record.ends:
            self.final = self.final or error.faults[0]
        if not self.tolerant:
            return
        fields = {} if isinstance(record, Broken) else lenient_json(record)
        custom_id = build.id_of_bad(fields)
        if custom_id is not None and not self._ids.add(_id_hash(custom_id)):
            custom_id = None
        columns = {key: value for key, value in fields.items() if build.is_column(key)}
        self._rejected.add(custom_id, index, error, columns, _encode(fields))

    @property
    def has_parts(self) -> bool:
        """Whether anything is left to send."""
        return bool(self._closed)

    @property
    def rejected_count(self) -> int:
        """Bad records that were stored."""
        return self._rejected.count

    def result(self) -> Spooled:
        """What was written; call it after the last request."""
        parts = [part.result(self.round) for part in self._closed] + self._rejected.parts()
        count = sum(part.request_count for part in parts)
        total = sum(part.digest for part in self._closed) + self._rejected.digest
        digest = f"{total % (1 << 256):064x}"
        return Spooled(
            parts=parts,
            request_count=count,
            digest=f"sha256-sum:{count}:{digest}",
            survey=self._surveyor.result(),
        )

    def duplicates(self) -> Iterator[Fault]:
        """Each repetition of a custom_id, in the whole input.

        Sorted hashes of all parts are merged; where two are equal the stored ids are compared,
        so that an unlucky pair of different ids is not taken for one.
        """
        suspects: set[int] = set()
        last: int | None = None
        for value in heapq.merge(*(part.hashes for part in self._closed)):
            if value == last:
                suspects.add(value)
            last = value
        if not suspects:
            return
        first_seen: dict[str, int] = {}
        suspicious = (seen for seen in self._positions() if hash(seen[1]) in suspects)
        for index, custom_id in sorted(suspicious):
            first = first_seen.setdefault(custom_id, index)
            if first != index:
                rule = f"a custom_id occurs once in a job; record {first} has it too{_OTHER_KEY}"
                yield Fault(index=index, where="custom_id", value=shorten(custom_id), rule=rule)

    def _positions(self) -> Iterator[tuple[int, str]]:
        """The position in the input and the custom_id of every stored request."""
        before = 0
        for part in self._closed:
            positions = part.positions or range(before, before + part.count)
            before += part.count
            for number, (custom_id, _) in zip(positions, read_inputs(self.folder, part.inputs), strict=True):
                yield number + bisect.bisect_right(self._skipped, number), custom_id

    def _close_part(self, route: Route, *, keep: bool = True) -> None:
        part = self._open.pop(route, None)
        if part is None:
            return
        part.close()
        if keep:
            part.hashes = array("q", sorted(part.hashes))
            bisect.insort(self._closed, part, key=lambda one: one.number)


def _id_hash(custom_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest(), "big")
