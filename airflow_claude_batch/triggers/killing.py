"""Cancelling what nobody wants any more when a deferred task is ended.

Airflow's triggerer tells a trigger to stop not once but every second until it has stopped, and each time
interrupts its ``on_kill``. So the work is done in a task of its own, which only the triggerer's end
interrupts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

KILL_SECONDS = 25.0
"""Bound of a trigger's ``on_kill``; Airflow's own is 30 s."""

_at_work: set[asyncio.Task[None]] = set()
"""The event loop itself does not keep its tasks."""


async def cancel_if_unwanted(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    """Cancel a trigger's batches, if it was a person who ended its task.

    Airflow calls ``on_kill`` for other reasons, too (see `waiting.ended_by_a_person`); then, and when the
    state cannot be learnt, the batches are left alone: they are paid for. Never raises; returns when all is
    done, however often it is cancelled meanwhile.
    """
    if not batch_ids or trigger.task_instance is None:
        return
    work = asyncio.create_task(_bounded(trigger, conn_id, batch_ids), name="claude-batch-kill")
    _at_work.add(work)
    work.add_done_callback(_at_work.discard)
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])


async def _bounded(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    try:
        async with asyncio.timeout(KILL_SECONDS):
            await _cancel(trigger, conn_id, batch_ids)
    except Exception as error:  # noqa: BLE001  # nothing else can be done here
        trigger.log.warning(
            "Could not learn whether to cancel, or could not cancel, so these may go on: %s (%s: %s)",
            ", ".join(batch_ids),
            type(error).__name__,
            error,
        )


async def _cancel(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    from airflow_claude_batch.triggers.connection import poller_of
    from airflow_claude_batch.triggers.task_states import was_ended_by_a_person

    if not await was_ended_by_a_person(trigger.task_instance):
        trigger.log.info("This trigger ends, but nobody ended the task; its batches go on")
        return
    poller = await poller_of(conn_id)
    failures = await poller.cancel(batch_ids)
    for batch_id in batch_ids:
        error = failures.get(batch_id)
        if error is None:
            trigger.log.info("The task was ended: cancelling %s", batch_id)
        elif getattr(error, "status_code", None) == 400:
            trigger.log.info("The task was ended, and %s had ended before", batch_id)
        else:
            trigger.log.warning("The task was ended, but %s was not cancelled: %s", batch_id, error)
