"""Cancelling what nobody wants any more when a deferred task is ended.

Airflow's triggerer tells a trigger to stop not once but every second until it has stopped, and each time
interrupts its ``on_kill``. So the work is done in a task of its own, which only the triggerer's end
interrupts.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.triggers.connection import poller_of
from airflow_claude_batch.triggers.task_states import was_ended_by_a_person

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

KILL_SECONDS = 25.0
"""Bound of a trigger's ``on_kill``; Airflow's own is 30 s."""

_at_work: set[asyncio.Task[None]] = set()
"""The event loop itself does not keep its tasks."""


async def cancel_if_unwanted(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    """Cancel a trigger's batches, if it was a person who ended its task.

    Airflow calls ``on_kill`` for other reasons, too (see `task_state.ended_by_a_person`); then, and when
    the state cannot be learnt, the batches are left alone: they are paid for. Never raises; returns when
    all is done, however often it is cancelled meanwhile.
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
            await _cancel_if_unwanted(trigger, conn_id, batch_ids)
    except Exception as error:  # noqa: BLE001  # nothing else can be done here
        trigger.log.warning(
            "Could not find out whether to cancel, or could not cancel; these batches may go on: %s (%s)",
            ", ".join(batch_ids),
            describe_error(error),
        )


async def _cancel_if_unwanted(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    if not await was_ended_by_a_person(trigger.task_instance):
        trigger.log.info("This trigger stops, but nobody has ended the task; its batches go on")
        return
    poller = await poller_of(conn_id)
    for answer in await poller.cancel(batch_ids):
        trigger.log.log(answer.level, "The task was ended by a person: %s", answer)
