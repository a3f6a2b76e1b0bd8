"""What all operators that wait have in common: look once, defer, and read the event."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches import errors
from airflow_claude_batch.batches.api.cancel import cancel_all
from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text
from airflow_claude_batch.batches.direct.answer import DirectCalls
from airflow_claude_batch.batches.job.authority import owned_by
from airflow_claude_batch.batches.waiting.wait import Wait
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.settings import max_direct_concurrency
from airflow_claude_batch.common.steps import ComeBack, Step, WaitFor
from airflow_claude_batch.common.xcoms import GOING_DIRECT, PROGRESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.job import Job, Later
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

log = logging.getLogger(__name__)


def begin_wait(
    handle: Handle,
    *,
    poll_interval: float | None,
    timeout: float | None = None,
    started_at: datetime.datetime | None = None,
    uncertain: bool = False,
    due_at: datetime.datetime | None = None,
    some_after: float = 0.0,
) -> Wait:
    """A wait for the batches of a handle.

    Args:
        timeout: Seconds after which the user wants to give up.
        started_at: When waiting began; None for now.
        uncertain: Whether the batches only may be the job's.
        due_at: When the job goes on without batches that have not ended.
        some_after: Seconds after which it is enough that some have ended; 0 for waiting for all of them.
    """
    now = datetime.datetime.now(datetime.UTC)
    began = started_at or now
    return Wait(
        batch_ids=handle.batch_ids,
        started_at=began,
        known=handle.job is not None,
        uncertain=uncertain,
        due_at=due_at,
        some_at=now + datetime.timedelta(seconds=some_after) if some_after else None,
        timeout_at=began + datetime.timedelta(seconds=timeout) if timeout is not None else None,
        poll_interval=poll_interval,
    )


def direct_calls(
    job: Job, hook: ClaudeBatchHook, tell: Callable[[int, int], None] | None = None
) -> DirectCalls:
    """The single calls of a job, as they are made over a connection."""
    connect, most = (lambda: hook.messages), max_direct_concurrency()
    return DirectCalls(job=job, connect=connect, concurrency=most, tell=tell)


def tell_going_direct(context: Any, job: Job, answered: int = 0, requests: int | None = None) -> None:
    """Show in the task's XComs that what its late batches leave open is asked by single calls.

    Args:
        context: Airflow's.
        job: The job.
        answered: How many of them are answered.
        requests: How many there are; None while their batches are being cancelled.
    """
    value = {"job": job.folder.url, "answered": answered, "requests": requests}
    try:
        context["ti"].xcom_push(key=GOING_DIRECT, value=value)
    except Exception as error:  # noqa: BLE001  # it is for people's eyes only
        log.warning("Could not write the %s XCom: %s", GOING_DIRECT, foreign_text(error))


def wait_for_submission(
    later: Later, job: Job, dag_id: str, *, cancel_on_kill: bool, poll_interval: float | None = None
) -> Step:
    """What a task waits for whose submission cannot go on.

    On a kill the job's own batches are cancelled, which ledger and claims name; a batch that only may be its
    own is somebody else's until it has shown its mark.

    Args:
        later: Why, and until when.
        job: The job.
        dag_id: The task's DAG.
        cancel_on_kill: Whether a person who ends the task ends the job's batches.
        poll_interval: Of the task.
    """
    sent = [part.batch_id for part in job.ledger.live_parts if part.batch_id and part.delivery is None]
    own = owned_by(job.root, sent, dag_id) if cancel_on_kill else []
    due_at = job.ledger.due_at
    if later.batch_id is None:
        is_to_come = due_at is not None and due_at > datetime.datetime.now(datetime.UTC)
        return ComeBack(at=min(later.at, due_at) if due_at and is_to_come else later.at, unwanted=own)
    handle = Handle(batch_ids=[later.batch_id], job=job.folder.url)
    return WaitFor(
        wait=begin_wait(handle, poll_interval=poll_interval, uncertain=not later.certain, due_at=due_at),
        cancel_on_kill=cancel_on_kill,
        unproved=[batch_id for batch_id in handle.batch_ids if batch_id not in own],
        also_unwanted=[batch_id for batch_id in own if batch_id not in handle.batch_ids],
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
            log.warning("Could not look at %s: %s", batch_id, describe_error(error))
            if wait.failures:
                break
    return not wait.open_ids


def push_progress(context: Any, progress: dict[str, Any] | None) -> None:
    """Show in the task's XComs how far the wait has come; the trigger goes on with it."""
    if progress:
        context["ti"].xcom_push(key=PROGRESS, value=progress)


def raise_unless_ended(status: str | None, message: str) -> None:
    """Turn the end of a wait into an exception, unless all batches have ended.

    Whose batch it only might have been that has vanished, or whose job is needed, the task goes on.

    Raises:
        WaitError: For every status but ``ended``, ``some``, ``due`` and ``vanished``, unknown ones included.
    """
    if status in ("ended", "some", "due", "vanished"):
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
    answers = cancel_all(api, batch_ids)
    for answer in answers:
        log.log(answer.level, "The wait has ended: %s", answer)
    return [answer.batch_id for answer in answers if answer.goes_on]
