"""What all operators that wait have in common: look once, defer, and read the event."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.handles import Handle

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.polling import Wait
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger

PROGRESS = "progress"
"""Key of the XCom that says how far a wait has come."""
LATEST_TRY = "latest_try"
"""Key of the XCom that says which try of the task was the last to begin."""
ENDED_BY_A_PERSON = ("failed", "success", "skipped", "removed")
"""States in which nobody wants a waiting task's batches any more.

Not ``upstream_failed``: a wait gets there when it was cleared together with its upstream tasks.
"""


def begin_wait(
    handle: Handle,
    *,
    poll_interval: float | None,
    timeout: float | None = None,
    started_at: datetime.datetime | None = None,
) -> Wait:
    """A wait for the batches of a handle.

    :param timeout: seconds after which the user wants to give up
    :param started_at: when waiting began; None for now
    """
    from airflow_claude_batch.batches.polling import Wait

    began = started_at or datetime.datetime.now(datetime.UTC)
    return Wait(
        batch_ids=handle.batch_ids,
        started_at=began,
        known=handle.job is not None,
        timeout_at=began + datetime.timedelta(seconds=timeout) if timeout is not None else None,
        poll_interval=poll_interval,
    )


def look(wait: Wait, api: BatchesApi, log: Any) -> bool:
    """Look at every open batch once; returns whether all have ended.

    A failed look is no failed wait: the policy decides what it means. What is wrong with the whole API
    ends the look, since asking for the next batch would only fail again.
    """
    for batch_id in wait.open_ids:
        try:
            wait.saw(api.retrieve(batch_id))
        except Exception as error:  # noqa: BLE001  # the policy decides
            wait.failed(error, datetime.datetime.now(datetime.UTC), batch_id)
            log.warning("Could not look at %s: %s", batch_id, error)
            if wait.failures:
                break
    return not wait.open_ids


def trigger_for(wait: Wait, conn_id: str, *, cancel_on_kill: bool | None = None) -> ClaudeBatchTrigger:
    """The trigger that goes on with a wait.

    :param cancel_on_kill: cancel the batches when a person ends the task; None: those of a job of ours
    """
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger

    return ClaudeBatchTrigger(
        batch_ids=wait.batch_ids,
        conn_id=conn_id,
        started_at=wait.started_at.isoformat(),
        known=wait.known,
        timeout_at=wait.timeout_at.isoformat() if wait.timeout_at else None,
        poll_interval=wait.poll_interval,
        cancel_on_kill=wait.known if cancel_on_kill is None else cancel_on_kill,
    )


def push_progress(context: Any, progress: dict[str, Any] | None) -> None:
    """Show in the task's XComs how far the wait has come; the trigger goes on with it."""
    if progress:
        context["ti"].xcom_push(key=PROGRESS, value=progress)


def note_try(context: Any) -> None:
    """Say which try of the task has begun; see :func:`was_tried_again`."""
    ti = context["ti"]
    ti.xcom_push(key=LATEST_TRY, value=ti.try_number)


def xcom_place(ti: Any) -> dict[str, Any]:
    """Whose XComs are meant, for Airflow's ``XCom``, which code in a trigger calls."""
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": map_index}


def was_tried_again(ti: Any) -> bool:
    """Whether another try of the task has begun since this one. Blocks: a trigger asks in a thread.

    States carry no try number: a new try that ends soon after a clear looks like a person's act.
    """
    from airflow.sdk.execution_time.xcom import XCom

    latest: int | None = XCom.get_one(key=LATEST_TRY, **xcom_place(ti))
    return latest is not None and latest != ti.try_number


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
        "gone": errors.UnknownBatchError,
        "unknown": errors.UnknownBatchError,
        "refused": errors.WaitAccessError,
    }
    raise kinds.get(status or "", errors.WaitError)(message or f"the wait ended with status {status!r}")


def cancel_batches(api: BatchesApi, batch_ids: list[str], log: Any) -> list[str]:
    """Ask for batches to be cancelled; returns those that may go on, because that failed."""
    going_on = []
    for batch_id in batch_ids:
        try:
            api.cancel(batch_id)
            log.info("Cancelling %s", batch_id)
        except Exception as error:  # noqa: BLE001  # each batch for itself
            if getattr(error, "status_code", None) != 400:  # it has ended by itself
                going_on.append(batch_id)
                log.warning("Could not cancel %s: %s", batch_id, error)
    return going_on


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

    :param states: of the task's instances, see :func:`task_states`
    """
    mapped = ti.map_index is not None and ti.map_index >= 0
    return states.get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id) in ENDED_BY_A_PERSON
