"""Cancelling what nobody wants any more when a deferred task is ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

KILL_SECONDS = 20.0
"""Bound of a trigger's ``on_kill``; Airflow's own is 30 s."""


async def cancel_if_unwanted(trigger: BaseTrigger, conn_id: str, batch_ids: list[str]) -> None:
    """Cancel a trigger's batches, if it was a person who ended its task.

    Airflow calls ``on_kill`` for other reasons, too (see `waiting.ended_by_a_person`); then, and when the
    state cannot be learnt, the batches are left alone: they are paid for. Never raises.
    """
    if not batch_ids or trigger.task_instance is None:
        return
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
        if (error := failures.get(batch_id)) is None:
            trigger.log.info("The task was ended: cancelling %s", batch_id)
        else:
            trigger.log.warning("The task was ended, but %s was not cancelled: %s", batch_id, error)
