"""Rounds: what a batch left retryable is sent again, and only that.

A retryable request of a harvested part is *moved*: its custom_id goes into ``moved-00000.jsonl`` in the
job's folder (the number is the part's) with the reason, instead of into the errored records. When all
parts of a round are harvested, the moved requests are spooled again, from the stored parts, as parts
of the next round. So each custom_id ends in exactly one part, and a kill at any point loses nothing: the
ledger says which parts have moved what, and which rounds exist.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.batches.api import BatchesApi
from airflow_claude_batch.batches.cost import Meter, PriceBook
from airflow_claude_batch.batches.download import Download, look_up
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.inputs import Inputs
from airflow_claude_batch.batches.jobs import Job
from airflow_claude_batch.batches.ledger import Ledger, Part
from airflow_claude_batch.batches.reading import Reading
from airflow_claude_batch.batches.records import ErroredRecord
from airflow_claude_batch.batches.sorting import Sorter
from airflow_claude_batch.batches.spool import Limits, SpoolWriter, read_inputs, read_requests
from airflow_claude_batch.batches.storage import Folder, iter_lines
from airflow_claude_batch.batches.writers import PartWriter

log = logging.getLogger(__name__)


class Moved(msgspec.Struct, omit_defaults=True):
    """A request that goes on to a later round, and why."""

    custom_id: str
    round: int
    """The round that it is sent in."""
    outcome: str
    error_type: str | None = None
    message: str | None = None
    request_id: str | None = None


_decode = msgspec.json.Decoder(Moved).decode
_encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(kw_only=True)
class Moves:
    """Collects what one part moves."""

    round: int
    """The round that takes it."""
    canceled_too: bool = False
    """Whether requests of a cancelled batch are sent again. Someone who cancels does not want that;
    someone who then clears the submission does."""
    before: list[Moved] = field(default_factory=list)
    """What the part has moved already."""
    entries: list[Moved] = field(default_factory=list)

    def take(self, record: ErroredRecord) -> bool:
        """Whether this failure moves on."""
        if not record.retryable or (record.outcome == "canceled" and not self.canceled_too):
            return False
        entry = Moved(
            record.custom_id,
            self.round,
            record.outcome,
            record.error_type,
            record.message,
            record.request_id,
        )
        self.entries.append(entry)
        return True

    @property
    def moved_before(self) -> set[str]:
        """custom_ids that are not to be looked at again."""
        return {entry.custom_id for entry in self.before}

    def save(self, folder: Folder, number: int) -> None:
        """Store the list, if there is anything new in it; :meth:`note` makes it count."""
        if self.entries:
            folder.write(_file_name(number), _encode_lines([*self.before, *self.entries]))

    def note(self, part: Part) -> None:
        """Record in the part what was moved."""
        if self.entries:
            part.moved, part.moved_to = len(self.before) + len(self.entries), self.round


def last_round(ledger: Ledger) -> int:
    """The highest round that has parts."""
    return max((part.round for part in ledger.live_parts), default=0)


def read_moved(folder: Folder, number: int, part: Part) -> Iterator[Moved]:
    """What a part has moved."""
    if part.moved:
        with folder.open_read(_file_name(number)) as file:
            for line in iter_lines(file):
                yield _decode(line)


def scan(api: BatchesApi, job: Job, part: Part, *, canceled_too: bool = True) -> int:
    """Move what an ended batch left retryable, without delivering anything.

    For a job that is taken up again although its batch was cancelled or has expired: finished answers
    are kept where they are, the rest is sent again by :func:`spool_next` and a submission.

    :returns: how many requests were moved now
    :raises ResultsGoneError: when the results cannot be fetched any more
    """
    assert part.batch_id is not None
    number = job.ledger.parts.index(part)
    batch = look_up(api, part.batch_id)
    if not batch.ended:
        raise ResultsError(f"Batch {batch.id} has not ended ({batch.processing_status}); nothing to scan.")
    inputs = Inputs(job.folder, part.inputs)
    before = list(read_moved(job.folder, number, part))
    moves = Moves(round=last_round(job.ledger) + 1, canceled_too=canceled_too, before=before)
    nowhere = _Nowhere()
    sorter = Sorter(
        reading=Reading(),
        writer=PartWriter(nowhere, nowhere),
        meter=Meter(PriceBook(batch.created_at)),
        skip=moves.moved_before,
        move=moves.take,
    )
    try:
        sorter.run(Download(api=api, batch=batch, inputs=inputs))
    finally:
        inputs.close()
    moves.save(job.folder, number)
    if moves.entries:
        with job.change():
            moves.note(part)
            part.delivery = None
    return len(moves.entries)


class _Nowhere:
    """Takes records and forgets them."""

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        """Forget."""

    def add_lines(self, lines: bytes) -> None:
        """Forget."""

    def close(self) -> None:
        """Nothing was opened."""


def spool_next(job: Job) -> int:
    """Spool what was moved and is in no round yet as parts of a new round.

    The new parts are committed to the ledger in one save; they are submitted like any others.

    :returns: how many requests the new round has; 0 where there was nothing to do
    """
    ledger = job.ledger
    last = last_round(ledger)
    sources = [(n, part) for n, part in enumerate(ledger.parts) if part.moved and part.moved_to > last]
    if not sources:
        return 0
    limits = Limits(requests=max(part.request_count for part in ledger.live_parts))
    writer = SpoolWriter(
        job.folder,
        limits,
        compress=sources[0][1].requests.endswith(".gz"),
        first_part=len(ledger.parts),
        round=last + 1,
    )
    with writer:
        for number, part in sources:
            wanted = {moved.custom_id for moved in read_moved(job.folder, number, part) if moved.round > last}
            for request in read_requests(job.folder, part.requests, part.inputs):
                if request.custom_id in wanted:
                    writer.add(request)
    spooled = writer.result()
    with job.change():
        ledger.parts += spooled.parts
    log.info(
        "Round %s: %s requests are sent again, in %s parts",
        last + 1,
        spooled.request_count,
        len(spooled.parts),
    )
    return spooled.request_count


def unsent_records(folder: Folder, ledger: Ledger, part: Part) -> Iterator[ErroredRecord]:
    """The requests of a round that could not be sent, with the failure that each of them had before."""
    reasons = {
        moved.custom_id: moved
        for number, source in enumerate(ledger.parts)
        for moved in read_moved(folder, number, source)
        if moved.round == part.round
    }
    for custom_id, columns in read_inputs(folder, part.inputs):
        moved = reasons[custom_id]
        yield ErroredRecord(
            custom_id=custom_id,
            outcome=moved.outcome,
            error_type=moved.error_type,
            message=moved.message,
            request_id=moved.request_id,
            retryable=True,
            rounds=part.round,
            input=msgspec.Raw(columns) if columns else None,
        )


def _file_name(number: int) -> str:
    return f"moved-{number:05d}.jsonl"
