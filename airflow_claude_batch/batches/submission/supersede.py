"""What becomes of a job that one with other requests replaces."""

from __future__ import annotations

import logging

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.part import PartState

log = logging.getLogger(__name__)


def supersede(old: Job, new_url: str, api: BatchesApi, *, cancel: bool) -> None:
    """Note that a job was replaced by one with other requests.

    Args:
        old: The job.
        new_url: The job that replaces it.
        api: Of its connection.
        cancel: Cancel its batches that still run; else they go on and are paid for. Batches that only may be
            the job's are left alone.
    """
    with old.change() as ledger:
        ledger.superseded_by = new_url
    for part in old.ledger.live_parts if cancel else []:
        if part.state is PartState.UNCERTAIN:
            log.warning(
                "It is not known whether a POST of %s made a batch; none is cancelled", old.folder.url
            )
        elif part.batch_id is not None:
            _cancel(part.batch_id, old, api)


def _cancel(batch_id: str, old: Job, api: BatchesApi) -> None:
    try:
        if not api.retrieve(batch_id).ended:
            api.cancel(batch_id)
            log.warning("The requests have changed; cancelled batch %s of %s", batch_id, old.folder.url)
    except Exception as error:  # noqa: BLE001  # a batch that goes on is no reason not to submit
        reason = describe_error(error)
        log.error(
            "Batch %s of the replaced job in %s was not cancelled: %s", batch_id, old.folder.url, reason
        )
