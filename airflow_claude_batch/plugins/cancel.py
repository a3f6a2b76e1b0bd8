"""Cancelling a job's batches on a person's behalf.

The connection and the ids come from the job's announcement. That is an XCom, and who may write XComs of
one DAG may not have to do with another: ids that another DAG's job has named are refused, and so is what
has not the form of an id, for it could lead to another address of the API.
"""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any

from sqlalchemy.orm import Session

from airflow_claude_batch.plugins import queries
from airflow_claude_batch.plugins.jobs import Job

BATCH_ID = re.compile(r"[A-Za-z0-9_-]+")

log = logging.getLogger(__name__)


class NotCancelableError(Exception):
    """There is nothing that may be cancelled; the message says why."""


def cancel(session: Session, job: Job, user_name: str) -> list[dict[str, Any]]:
    """Ask the API to cancel every batch of a job that has not ended; one row a batch with its state.

    What is in flight may still finish, and finished requests are delivered and billed.

    :raises NotCancelableError: when nothing is left to cancel, or a batch is another DAG's
    """
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    batch_ids = job.batch_ids
    if not job.can_cancel:
        raise NotCancelableError("All batches of this job have ended.")
    key = job.row.key
    for batch_id in batch_ids:
        if not BATCH_ID.fullmatch(batch_id):
            raise NotCancelableError(f"{batch_id[:100]!r} is no batch id.")
    if foreign := queries.named_elsewhere(session, batch_ids, key.dag_id):
        raise NotCancelableError(f"{sorted(foreign)[0]} was submitted by another DAG.")
    api = ClaudeBatchHook(job.announcement.conn_id).batches
    rows = [_cancel_one(api, batch_id) for batch_id in batch_ids]
    accepted = sum(row["error"] is None for row in rows)
    log.info("%s asked to cancel %s batches of %s; %s accepted", user_name, len(rows), key, accepted)
    if accepted:
        at = datetime.datetime.now(datetime.UTC).isoformat()
        queries.note_cancellation(session, key, {"by": user_name, "at": at, "batches": accepted})
    return rows


def _cancel_one(api: Any, batch_id: str) -> dict[str, Any]:
    from airflow_claude_batch.batches.polling import describe_error

    try:
        batch = api.cancel(batch_id)
    except Exception as error:  # noqa: BLE001  # one batch's trouble does not keep the others from being cancelled
        log.warning("Could not cancel %s: %s", batch_id, describe_error(error))
        return {"id": batch_id, "status": None, "error": describe_error(error)}
    return {"id": batch_id, "status": batch.processing_status, "error": None}
