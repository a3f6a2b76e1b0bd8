"""Coming back later: for a submission that has to wait, without a worker slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_claude_batch.triggers.connection import poller_of
from airflow_claude_batch.triggers.killing import cancel_if_unwanted


class PauseTrigger(BaseTrigger):
    """Fires after some seconds, by its own clock alone: that of the worker which asks may be wrong.

    A restart of the triggerer begins the pause anew.

    Args:
        seconds: How long.
        conn_id: Connection of type ``anthropic``.
        batch_ids: What to cancel when a person ends the task meanwhile (Airflow 3.3 and later).
    """

    def __init__(self, seconds: float, conn_id: str = "", batch_ids: list[str] | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.conn_id = conn_id
        self.batch_ids = batch_ids or []

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.pause.PauseTrigger", {
            "seconds": self.seconds,
            "conn_id": self.conn_id,
            "batch_ids": self.batch_ids,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep for so long."""
        self.log.info("Pausing for %.0f s", self.seconds)
        if self.batch_ids:
            await poller_of(self.conn_id)  # A kill has but seconds; loading the SDK takes some of them.
        await asyncio.sleep(self.seconds)
        yield TriggerEvent({"status": "resume", "unwanted": self.batch_ids})

    async def on_kill(self) -> None:
        """Cancel what was submitted before the pause, if it was a person who ended the task."""
        await cancel_if_unwanted(self, self.conn_id, self.batch_ids)
