"""Rounds: what a batch left retryable is sent again, and only that.

A retryable request of a delivered part is *moved*: its custom_id goes into ``moved-00000-….jsonl`` in the
job's folder (the number is the part's) with the reason, instead of into the errored records. When all
parts of a round are delivered, the moved requests are spooled again, from the stored parts, as parts
of the next round. So each custom_id ends in exactly one part, and a kill at any point loses nothing: the
ledger says which parts have moved what, and which rounds exist.

A cancelled batch has answers that are paid for. A new try of the submission (after a clear, or after the
worker was told to stop) means that the rest is wanted after all. Within a try, a cancelled batch was
cancelled by somebody who meant it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Callable

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.job.job import Job, Later
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.job.part_writer import Route, writers_label
from airflow_claude_batch.batches.job.spool import MAX_REQUESTS, Limits, SpoolWriter
from airflow_claude_batch.batches.requests.custom_ids import HashSet
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.classify import process_results
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import part_source
from airflow_claude_batch.batches.results.moves import Moves, last_round, read_moved
from airflow_claude_batch.batches.results.output_records import ErroredRecord
from airflow_claude_batch.batches.results.sent_requests import Ids
from airflow_claude_batch.batches.results.stored_requests import StoredRequests
from airflow_claude_batch.batches.results.unread import accepted_ids, noting, way_out
from airflow_claude_batch.batches.results.unsent_records import unsent_records

log = logging.getLogger(__name__)

HASH_LENGTH = 16
"""Digits of a fingerprint that fit into a `HashSet`. What is taken for a repeat by them, and is none, finds
no answer and is asked in the next round."""
LOOK_SECONDS = 15.0
"""A cancelled batch ends when what was in flight is done: usually soon."""


def scan(api: BatchesApi, job: Job, part: Part) -> int:
    """Move what an ended batch left retryable, without delivering anything.

    For a job that is taken up again although its batch was cancelled or has expired: finished answers
    are kept where they are, the rest is sent again by :func:`spool_next` and a submission.

    Args:
        api: Where the batch is.
        job: Taken up again.
        part: Of the job, with a batch that has ended.

    Returns:
        How many requests were moved now.

    Raises:
        ResultsGoneError: When the results cannot be fetched any more.
        IncompleteResultsError: When results that exist do not come.
    """
    return _move(api, job, part, Moves(canceled_too=True), Reading())


def choose(
    api: BatchesApi, job: Job, part: Part, wanted: Callable[[ErroredRecord], bool], reading: Reading
) -> int:
    """Move those failures of an ended batch that a person wants to be sent again, retryable or not.

    Args:
        api: Where the batch is.
        job: That was delivered.
        part: Of the job.
        wanted: Whether one is to be sent again.
        reading: How the job was delivered, which decides what is invalid.

    Returns:
        How many requests were moved; :func:`spool_next` makes a round of them.

    Raises:
        ResultsGoneError: When the results cannot be fetched any more.
        IncompleteResultsError: When results that exist do not come.
    """
    if part.given_up:  # none of its requests has a batch; all of them have failed before
        return _send_after_all(job, part, wanted)
    late = part.late and job.ledger.without_batches == "deliver"
    return _move(api, job, part, Moves(wanted=wanted, late=late), reading)


def _send_after_all(job: Job, part: Part, wanted: Callable[[ErroredRecord], bool]) -> int:
    if not any(map(wanted, unsent_records(job.folder, job.ledger, part))):
        return 0
    with job.change():
        part.given_up, part.delivery = "", None
    return part.request_count


def _move(api: BatchesApi, job: Job, part: Part, moves: Moves, reading: Reading) -> int:
    number = job.ledger.parts.index(part)
    source = part_source(api, job.folder, job.ledger, number)
    assert source is not None
    moves.round = last_round(job.ledger) + 1
    moves.before = list(read_moved(job.folder, part))
    requests = StoredRequests(job.folder, part) if reading.checks else None
    with contextlib.closing(Ids(job.folder, part.inputs)) as sent:
        download = Download(
            source=source,
            inputs=sent,
            sent_as=part.sent_as,
            accepted=accepted_ids(job.folder, part),
            way_out=way_out(job.ledger, part),
        )
        with noting(job, part, download):
            process_results(download, None, reading=reading, moves=moves, requests=requests)
    moves.save(job.folder, number)
    if moves.entries:
        with job.change():
            moves.note(part)
            part.delivery = None
    return len(moves.entries)


class _OnceEach:
    """Has requests that ask the same asked once in a round: their answers of before are gone."""

    def __init__(self) -> None:
        self._asked = HashSet()

    def route(self, request: Request) -> tuple[Route, bytes]:
        fingerprint = request.fingerprint
        is_new = not fingerprint or self._asked.add(int(fingerprint[:HASH_LENGTH], 16))
        return "new" if is_new else "repeat", fingerprint


def spool_next(job: Job) -> int:
    """Spool what was moved and is in no round yet as parts of a new round.

    The new parts are committed to the ledger in one save; they are submitted like any others.

    Args:
        job: All of whose batches so far are delivered or scanned.

    Returns:
        How many requests the new round has; 0 where there was nothing to do.
    """
    ledger = job.ledger
    next_round = last_round(ledger) + 1
    sources = [part for part in ledger.parts if part.moved and part.moved_to >= next_round]
    if not sources:
        return 0
    writer = _writer_of_round(next_round, job, sources)
    with writer:
        for part in sources:
            wanted = {moved.custom_id for moved in read_moved(job.folder, part) if moved.round >= next_round}
            for request in read_requests(job.folder, part):
                if request.custom_id in wanted:
                    writer.add(request)
    spooled = writer.result()
    if ledger.without_batches == "direct" or any(part.way == "direct" for part in sources):
        for part in spooled.parts:
            part.way = "reuse" if part.repeats else "direct"
    with job.change():
        ledger.parts += spooled.parts
    count = spooled.request_count
    log.info("Round %s: %s requests are sent again, in %s parts", next_round, count, len(spooled.parts))
    return count


def _writer_of_round(number: int, job: Job, sources: list[Part]) -> SpoolWriter:
    """What stores the requests of a round, in parts as large as those before."""
    ledger = job.ledger
    router = None if ledger.reuse is None else _OnceEach()
    if ledger.reuse is not None:
        most = ledger.reuse.part_requests
    else:
        most = max((part.request_count for part in ledger.batch_parts), default=MAX_REQUESTS)
    return SpoolWriter(
        job.folder,
        Limits(requests=most),
        compress=sources[0].requests.endswith(".gz"),
        first_part=len(ledger.parts),
        round=number,
        label=writers_label(),
        router=router,
    )


def resubmit_cancelled(job: Job, api: BatchesApi, try_number: int) -> Later | None:
    """Spool anew what cancelled batches left undone, once a try; a submission then sends it.

    Args:
        job: Taken up by a try of the submission.
        api: Where its batches are.
        try_number: Of the task instance.

    Returns:
        When to come back, while a cancelled batch has not ended yet.

    Raises:
        ResultsGoneError: When a batch of the job is not known any more.
    """
    if job.ledger.try_number not in (0, try_number) and not job.ledger.without_requests:
        for part in job.ledger.live_parts:
            if part.batch_id is None or part.moved or part.late:
                continue
            batch = look_up(api, part.batch_id)
            if batch.cancel_initiated_at is None:
                continue
            if not batch.ended:
                at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=LOOK_SECONDS)
                reason = f"waiting until the cancelled batch {batch.id} has ended, to send the rest again"
                return Later(at=at, reason=reason, batch_id=batch.id)
            moved = scan(api, job, part)
            log.info("Batch %s was cancelled: %s of its requests are sent again", batch.id, moved)
        spool_next(job)
    if job.ledger.try_number != try_number:
        with job.change() as ledger:
            ledger.try_number = try_number
    return None
