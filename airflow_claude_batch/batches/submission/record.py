"""What is written down before and after a POST, so that a kill at any instant loses no batch.

Each record is a new version of the ledger, which only one process can write. Who cannot record the batch that
its own POST has made cancels it: another process is in charge, and sends the part itself.
"""

from __future__ import annotations

import datetime
import logging

from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.errors import LostOwnershipError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.marks import marked_id
from airflow_claude_batch.batches.job.part import Part, PartState
from airflow_claude_batch.batches.job.persist import persist
from airflow_claude_batch.batches.submission import reconcile

log = logging.getLogger(__name__)

TRIES = 4
"""How often it is tried to hand a batch over while its new owner writes, too."""


def record_intent(
    job: Job, part: Part, *, at: datetime.datetime, newest_before: datetime.datetime | None
) -> None:
    """Announce a POST, in the ledger and to other jobs.

    Args:
        job: The job.
        part: Its part.
        at: Now, by the API's clock.
        newest_before: When the workspace's newest batch was created; None where that is not known.
    """
    with job.change():
        if part.intent_lease and part.marked:  # its batch must not be taken for that of an earlier POST
            part.sent_id = marked_id(part.marked)
        part.intent_at, part.intent_lease = at, job.lease.number
        part.newest_before = newest_before
    job.lease.renew()
    reconcile.announce(job, part)


def forget_intent(job: Job, part: Part) -> None:
    """It is certain that the POST has made no batch."""
    reconcile.withdraw(job, part)
    with job.change():
        part.intent_at = None


def record_batch(job: Job, part: Part, batch: Batch, *, adopted: bool = False) -> None:
    """Write down a batch that is this part's; it is paid for, so do not give up easily.

    Args:
        job: The job.
        part: Its part.
        batch: Proved to be the part's.
        adopted: Whether the answer to its POST was lost.

    Raises:
        LostOwnershipError: When another process has the job by now.
        SubmissionError: When the store fails again and again.
    """

    def write() -> None:
        job.claim(part, batch.id)
        with job.change():
            part.batch_id, part.submitted_at, part.adopted = batch.id, batch.created_at, adopted

    persist(
        write,
        trouble=f"Cannot record batch {batch.id}",
        loss=lambda reason: (
            f"Batch {batch.id} was created, but {job.folder.url} cannot be written ({reason}). A retry of "
            "this task will find the batch and go on with it."
        ),
    )
    reconcile.withdraw(job, part)


def hand_over_or_cancel(job: Job, part: Part, batch: Batch, api: BatchesApi) -> None:
    """Another process has the job: give it this POST's batch if it waits for it, or cancel the batch."""
    if _hand_over(job, part, batch):
        return
    log.warning("Another worker has this job now and submits the part itself; cancelling %s", batch.id)
    try:
        api.cancel(batch.id)
    except Exception as error:  # noqa: BLE001  # the lost job is what the caller is told of
        reason = describe_error(error)
        log.error("Batch %s is paid for, too: it could not be cancelled (%s)", batch.id, reason)


def _hand_over(job: Job, part: Part, batch: Batch) -> bool:
    """Whether the newest version names the batch, perhaps since this has written it there."""
    number = job.number_of(part)
    for _ in range(TRIES):
        newest = ledgers.load(job.folder)
        theirs = newest.parts[number] if newest and len(newest.parts) > number else None
        if newest is None or theirs is None or theirs.sent_id != part.sent_id or newest.superseded_by:
            return False
        if theirs.batch_id == batch.id:
            return True
        if theirs.state is not PartState.UNCERTAIN:
            return False
        theirs.batch_id, theirs.submitted_at = batch.id, batch.created_at
        try:
            ledgers.save(job.folder, newest)
        except LostOwnershipError:
            continue
        log.info("Another worker has this job now; it was told of batch %s", batch.id)
        return True
    return False
