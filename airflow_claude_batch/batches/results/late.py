"""The moment when a job is needed: open batches are cancelled, and it goes on with what they have finished.

Written down before anything is cancelled, so that a kill in between changes nothing: whoever takes the job up
asks for the same cancellations again. A batch that ends meanwhile is delivered like any other.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable

from airflow_claude_batch.batches.api.cancel import cancel_all
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.api.retry import is_passing
from airflow_claude_batch.batches.errors import DeadlineMissedError
from airflow_claude_batch.batches.job.job import Job, Later
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.unsent import spare_unsent

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""When it is tried again where the API does not answer."""


def _always(parts: list[Part]) -> str:
    return ""


def go_on_without_batches(
    job: Job, api: BatchesApi, now: datetime.datetime, afford: Callable[[list[Part]], str] = _always
) -> Later | None:
    """Cancel the batches of a job that is needed; nothing happens before that, or where it has no deadline.

    Args:
        job: Taken up.
        api: Where its batches are.
        now: This moment.
        afford: Reserves what it costs to ask parts directly; says why that is too much, or nothing.

    Returns:
        When to come back, where the API does not answer.

    Raises:
        DeadlineMissedError: Where the user wants the task to fail then.
    """
    import anthropic

    ledger = job.ledger
    due = ledger.due_at
    if ledger.sends_batches and (due is None or now < due):
        return None
    try:
        running = [part for part in ledger.open_parts if part.batch_id and not _ended(api, part)]
        if ledger.without_batches is None and not _begin(job, running, now, afford):
            return None
        _cancel(job, api, running)
    except anthropic.APIError as error:
        if not is_passing(error, known=True):
            raise
        reason = f"the job is needed, and the API does not answer: {describe_error(error)}"
        at = now + datetime.timedelta(seconds=LOOK_SECONDS)
        return Later(at=at, reason=reason)
    spare_unsent(job)
    return None


def _ended(api: BatchesApi, part: Part) -> bool:
    assert part.batch_id is not None
    return look_up(api, part.batch_id).ended


def _begin(
    job: Job, running: list[Part], now: datetime.datetime, afford: Callable[[list[Part]], str]
) -> bool:
    """Write down that the job goes on without batches; returns whether there is anything to go on without."""
    ledger, on_time = job.ledger, job.ledger.on_time
    assert on_time is not None
    waiting = [part for part in ledger.open_parts if part in running or not part.batch_id]
    if not waiting:
        return False
    open_requests = sum(part.request_count for part in waiting)
    if on_time.then == "fail":
        ids = ", ".join(part.batch_id for part in running if part.batch_id)
        left = "None of them is in a batch. Clear the task to send them."
        if ids:
            left = (
                f"The batches go on and were left alone: {ids}. Clear the task to deliver them when they "
                "have ended."
            )
        raise DeadlineMissedError(
            f"{open_requests} of {ledger.request_count} requests are not answered at the deadline "
            f"({on_time.at}), and on_deadline is 'fail'. {left}"
        )
    estimated = ledger.estimate.get("requests") or ledger.request_count
    too_dear = on_time.too_dear(ledger.estimate, open_requests / max(estimated, 1))
    if on_time.then == "direct" and not too_dear:
        too_dear = afford(waiting)
    with job.change():
        on_time.begin(now, too_dear)
        for part in running:
            part.late = True
    how = "they are asked directly" if on_time.chosen == "direct" else "the job is delivered without them"
    why = f" ({on_time.reason})" if on_time.reason else ""
    log.warning(
        "The job is needed at %s; %s requests are not answered: %s%s", on_time.at, open_requests, how, why
    )
    return True


def _cancel(job: Job, api: BatchesApi, running: list[Part]) -> None:
    """Ask for the cancellation of batches that run; who has ended a moment before is no trouble."""
    if unmarked := [part for part in running if not part.late]:
        with job.change():
            for part in unmarked:
                part.late = True
    for answer in cancel_all(api, [part.batch_id for part in running if part.batch_id]):
        log.log(answer.level, "The job is needed: %s", answer)
