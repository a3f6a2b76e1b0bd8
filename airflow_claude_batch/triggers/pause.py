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
    """

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.pause.PauseTrigger", {"at": self.at}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until the moment has come."""
        self.log.info("Pausing until %s", self.at)
        at = datetime.datetime.fromisoformat(self.at)
        await asyncio.sleep(max((at - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0))
        yield TriggerEvent({"status": "resume"})
