"""What a task tells the Claude Batches page about its job, from its first second on.

One small XCom under a key of its own: the page finds every job of an installation through the index on
XCom keys, also while it is being submitted and after it failed to be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.ledger import Ledger

XCOM_KEY = "claude_batch"
HANDLE_KEY = "handle"
"""Of a task that waits: which job's batches, those of later rounds included."""
VERSION = 1


def announce(
    context: Context,
    *,
    conn_id: str,
    model: str | None,
    ledger: Ledger | None = None,
    pause: dict[str, str] | None = None,
) -> None:
    """Say that this task instance has a job, and how far its submission is.

    :param model: of requests that do not name one
    :param ledger: the job, once its input is stored
    :param pause: why submission waits, and until when: ``{"reason", "until"}``
    """
    ti = context["ti"]
    if ledger is None and ti.xcom_pull(task_ids=ti.task_id, key=XCOM_KEY, map_indexes=ti.map_index):
        return  # a resumed task: what it said before is more than this
    value: dict[str, Any] = {"version": VERSION, "conn_id": conn_id, "model": model, "batch_ids": []}
    if ledger is not None:
        sent = [part.submitted_at for part in ledger.live_parts if part.submitted_at]
        value |= ledger.handle
        value["submitted_at"] = min(sent).isoformat() if sent else None
    if pause is not None:
        value["pause"] = pause
    ti.xcom_push(key=XCOM_KEY, value=value)
