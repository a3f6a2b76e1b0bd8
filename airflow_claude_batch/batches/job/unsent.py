"""Parts that were not sent when the job went on without batches."""

from __future__ import annotations

from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.on_time import LATE_REASON
from airflow_claude_batch.batches.job.part import PartState


def spare_unsent(job: Job) -> None:
    """Have single calls answer what was never sent, or give it up, as the deadline says.

    A POST that may have made a batch is left to whoever finds out; nothing happens while batches are sent.
    """
    how = job.ledger.without_batches
    unsent = [part for part in job.ledger.batch_parts if part.state is PartState.TO_SEND]
    if job.ledger.sends_batches or not unsent:
        return
    with job.change():
        for part in unsent:
            if how == "direct":
                part.way = "direct"
            else:
                part.given_up = LATE_REASON
