"""Taking up a job again whose batches were cancelled: finished answers stay, the rest is sent again.

A cancelled batch has answers that are paid for. A new try of the submission (after a clear, or after the
worker was told to stop) means that the rest is wanted after all. Within a try, a cancelled batch was
cancelled by somebody who meant it.
"""

from __future__ import annotations

import datetime
import logging

from airflow_claude_batch.batches.api import BatchesApi
from airflow_claude_batch.batches.jobs import Job
from airflow_claude_batch.batches.rounds import scan, spool_next
from airflow_claude_batch.batches.submission import Later

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""A cancelled batch ends when what was in flight is done: usually soon."""


def revive(job: Job, api: BatchesApi, try_number: int) -> Later | None:
    """Spool anew what cancelled batches left undone, once a try; a submission then sends it.

    :returns: when to come back, while a cancelled batch has not ended yet
    """
    if job.ledger.try_number not in (0, try_number):
        for part in job.ledger.live_parts:
            if part.batch_id is None or part.moved:
                continue
            batch = api.retrieve(part.batch_id)
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
