"""Every XCom that this package writes: its key, and whose it is.

``XCOM_KEY`` is what the Claude Batches page finds jobs by, through the index on XCom keys: from a task's
first second on, while it submits, and after it failed to.
"""

from __future__ import annotations

from typing import Any

XCOM_KEY = "claude_batch"
HANDLE_KEY = "handle"
"""Of a task that waits: which job's batches, those of later rounds included."""
ESTIMATE = "estimate"
"""Of a task that submits: what the job is estimated to cost."""
SUMMARY = "summary"
"""Of a task that delivers: the summary without its records."""
CANCELED = "claude_batch_canceled"
"""Written by the page: who asked for a job's batches to be cancelled, and when."""
PROGRESS = "progress"
"""Key of the XCom that says how far a wait has come."""
GOING_DIRECT = "going_direct"
"""Of a task that delivers: how far the single calls are for what late batches have left open."""
UNREACHABLE = "unreachable_since"
"""Of a task that submits: since when the API has not been reached, with nothing sent; None once it is."""
STARTED_AT = "try_started_at"
"""Of a task with a timeout: when its try began. Airflow deletes it before the next try."""
LATEST_TRY = "latest_try"
"""Key of the XCom that says which try of the task was the last to begin."""
VERSION = 1
"""Of the value under ``XCOM_KEY``."""


def note_try(context: Any) -> None:
    """Say which try of the task has begun; see :func:`task_state.was_tried_again`."""
    ti = context["ti"]
    ti.xcom_push(key=LATEST_TRY, value=ti.try_number)


def xcom_place(ti: Any) -> dict[str, Any]:
    """Whose XComs are meant, for Airflow's ``XCom``, which code in a trigger calls; whose job it is, too."""
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": map_index}
