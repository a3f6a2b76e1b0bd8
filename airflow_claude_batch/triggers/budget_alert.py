"""Starting DAGs when a budget is nearly or fully used.

    watcher = AssetWatcher(name="any", trigger=ClaudeBatchBudgetTrigger())
    asset = Asset("claude_batch_budget", watchers=[watcher])

    @dag(schedule=[asset])

Watched are the alerts that jobs write into the book of costs, not the events of their tasks: a task whose job
was refused fails, and Airflow sends the asset events of succeeded tasks only.

What was announced is remembered in the asset's state store (Airflow 3.3 and later). Before, a restart
announces the alerts of the last hour again, rather than never.
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_claude_batch.triggers.asset_state import AssetMemory

OVERLAP = datetime.timedelta(hours=1)
"""How far back a watcher looks that remembers nothing."""
SETTLE_SECONDS = 3.0
"""Time for Airflow to store an announced event before it is remembered as announced."""
WATCHED = datetime.timedelta(days=92)
"""Alerts are announced, and remembered, whose day or month is no older; a batch takes a month at the most."""


class ClaudeBatchBudgetTrigger(BaseEventTrigger):
    """Announces each alert about a budget once.

    The event's payload is ``{"kind", "window", "budget", "settled_usd", "reserved_usd", "job", "at",
    "message"}``; ``kind`` is ``warning`` (``warn_at`` is reached) or ``exceeded`` (a job did not fit, or more
    was paid than the budget allows).

    Args:
        storage_path: Instead of ``[claude_batch] storage_path``.
        poll_interval: Seconds between two looks.
    """

    def __init__(self, storage_path: str | None = None, poll_interval: float = 60.0) -> None:
        super().__init__()
        self.storage_path = storage_path
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.budget_alert.ClaudeBatchBudgetTrigger", {
            "storage_path": self.storage_path,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Announce for ever; a watcher never ends."""
        announced = await self._remembered()
        since = datetime.datetime.now(datetime.UTC) - OVERLAP
        while True:
            try:
                found = await asyncio.to_thread(self._look, set(announced or ()))
            except Exception as error:  # noqa: BLE001  # whatever it is, the next look may succeed
                self.log.warning("Could not look for alerts: %s", type(error).__name__)
            else:
                for alert in found.values():
                    if announced is not None or datetime.datetime.fromisoformat(alert["at"]) >= since:
                        yield TriggerEvent(alert)
                if found or announced is None:
                    announced = [*filter(_is_watched, announced or ()), *found]
                    await asyncio.sleep(SETTLE_SECONDS if found else 0)
                    await self._remember(announced)
            await asyncio.sleep(self.poll_interval)

    def _look(self, announced: set[str]) -> dict[str, dict[str, Any]]:
        """Alerts that were not announced yet, by the names of their files."""
        from airflow_claude_batch.batches.accounts.alerts import alerts_folder, as_event, read_alert
        from airflow_claude_batch.common.settings import storage_root

        root = storage_root(self.storage_path)
        names = [name for name in alerts_folder(root).names() if _is_watched(name) and name not in announced]
        found = {}
        for name in names:
            try:
                found[name] = as_event(read_alert(root, name))
            except (FileNotFoundError, ValueError) as error:  # gone, or damaged: no reason to miss the others
                self.log.warning("Cannot read the alert %s: %s", name, type(error).__name__)
        return found

    @property
    def _memory(self) -> AssetMemory:
        return AssetMemory(self, "budget", self.storage_path or "")

    async def _remembered(self) -> list[str] | None:
        found = await self._memory.read()
        return list(found[0]["announced"]) if found else None

    async def _remember(self, announced: list[str]) -> None:
        await self._memory.write({"announced": announced})


def _is_watched(name: str) -> bool:
    """Whether the day or month that an alert's name begins with is still of interest."""
    return name[:7] >= f"{datetime.datetime.now(datetime.UTC) - WATCHED:%Y-%m}"
