"""Whether a person ended a task, as far as Airflow tells."""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.common.xcoms import LATEST_TRY, xcom_place

ENDED_BY_A_PERSON = ("failed", "success", "skipped", "removed")
"""States in which nobody wants a waiting task's batches any more.

Not ``upstream_failed``: a wait gets there when it was cleared together with its upstream tasks.
"""


def task_states(dag_id: str, run_id: str, task_id: str) -> dict[str, str]:
    """The states of a task's instances in one run, by Airflow's keys. Blocks: a trigger asks in a thread."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    found = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    states: dict[str, str] = found.get(run_id, {})
    return states


def ended_by_a_person(states: dict[str, str], ti: Any) -> bool:
    """Whether a task instance's state says that a person ended it.

    Airflow tells triggers to stop on other occasions too: a triggerer that was frozen and wakes up, or a
    clear whose new try waits for the same batches. Then the task is deferred, queued or running.

    Args:
        states: Of the task's instances, see :func:`task_states`.
        ti: The task instance.
    """
    mapped = ti.map_index is not None and ti.map_index >= 0
    return states.get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id) in ENDED_BY_A_PERSON


def was_tried_again(ti: Any) -> bool:
    """Whether another try of the task has begun since this one. Blocks: a trigger asks in a thread.

    States carry no try number: a new try that ends soon after a clear looks like a person's act.
    """
    from airflow.sdk.execution_time.xcom import XCom

    latest: int | None = XCom.get_one(key=LATEST_TRY, **xcom_place(ti))
    return latest is not None and latest != ti.try_number
