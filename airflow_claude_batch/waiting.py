"""What all operators that wait have in common: look once, defer, and read the event."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.handles import Handle

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.polling import Wait
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger


def begin_wait(handle: Handle, *, poll_interval: float | None, timeout: float | None = None) -> Wait:
    """A wait for the batches of a handle, starting now.

    :param timeout: seconds after which the user wants to give up
    """
    from airflow_claude_batch.batches.polling import Wait

    now = datetime.datetime.now(datetime.UTC)
    return Wait(
        batch_ids=handle.batch_ids,
        started_at=now,
        known=handle.job is not None,
        timeout_at=now + datetime.timedelta(seconds=timeout) if timeout is not None else None,
        poll_interval=poll_interval,
    )


def look(wait: Wait, api: BatchesApi, log: Any) -> bool:
    """Look at every open batch once; returns whether all have ended.

    A failed look is no failed wait: the policy decides what it means.
    """
    for batch_id in wait.open_ids:
        now = datetime.datetime.now(datetime.UTC)
        try:
            wait.saw(api.retrieve(batch_id))
        except Exception as error:  # noqa: BLE001  # the policy decides
            wait.failed(batch_id, error, now)
            log.warning("Could not look at %s: %s", batch_id, error)
    return not wait.open_ids


def trigger_for(wait: Wait, conn_id: str) -> ClaudeBatchTrigger:
    """The trigger that goes on with a wait."""
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger

    return ClaudeBatchTrigger(
        batch_ids=wait.batch_ids,
        conn_id=conn_id,
        started_at=wait.started_at.isoformat(),
        known=wait.known,
        timeout_at=wait.timeout_at.isoformat() if wait.timeout_at else None,
        poll_interval=wait.poll_interval,
    )


def raise_unless_ended(status: str | None, message: str) -> None:
    """Turn the end of a wait into an exception, unless all batches have ended.

    :raises WaitError: for every status but ``ended``, unknown ones included
    """
    from airflow_claude_batch.batches import errors

    if status == "ended":
        return
    kinds = {
        "timeout": errors.WaitTimeoutError,
        "overdue": errors.WaitTimeoutError,
        "unknown": errors.UnknownBatchError,
        "refused": errors.WaitAccessError,
    }
    raise kinds.get(status or "", errors.WaitError)(message or f"the wait ended with status {status!r}")
