"""Coming back later: for a submission that has to wait, without a worker slot."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class PauseTrigger(BaseTrigger):
    """Fires at a moment of the wall clock.

    :param at: the moment, ISO 8601 with time zone
    :param conn_id: connection of type ``anthropic``
    :param batch_ids: what to cancel when a person ends the task meanwhile (Airflow 3.3 and later)
    """

    def __init__(self, at: str, conn_id: str = "", batch_ids: list[str] | None = None) -> None:
        super().__init__()
        self.at = at
        self.conn_id = conn_id
        self.batch_ids = batch_ids or []

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.pause.PauseTrigger", {
            "at": self.at,
            "conn_id": self.conn_id,
            "batch_ids": self.batch_ids,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until the moment has come."""
        self.log.info("Pausing until %s", self.at)
        if self.batch_ids:
            from airflow_claude_batch.triggers.connection import poller_of

            await poller_of(self.conn_id)  # A kill has but seconds; loading the SDK takes some of them.
        at = datetime.datetime.fromisoformat(self.at)
        await asyncio.sleep(max((at - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0))
        yield TriggerEvent({"status": "resume"})

    async def on_kill(self) -> None:
        """Cancel what was submitted before the pause, if it was a person who ended the task."""
        from airflow_claude_batch.triggers.killing import cancel_if_unwanted

        await cancel_if_unwanted(self, self.conn_id, self.batch_ids)
