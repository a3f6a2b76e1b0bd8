"""Starting DAGs when a batch ends that something outside Airflow has submitted.

    asset = Asset("claude_batches", watchers=[AssetWatcher(name="any", trigger=ClaudeBatchEndedTrigger())])

    @dag(schedule=[asset])

Each batch is announced once, with one exception: a triggerer that is lost within seconds of an announcement
(`SETTLE_SECONDS`) cannot have noted it, and the next one announces it again, rather than never. Triggerers
that are at work on the same watcher, because one was frozen and wakes up, heed each other's notes. The notes
are in the asset's state store (Airflow 3.3 and later), so they survive restarts. Before Airflow 3.3 there is
none: after a restart the batches given by id are announced again, and so are those since ``since``; without
``since``, what ended meanwhile is missed.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.triggers.asset_state import AssetMemory
from airflow_claude_batch.triggers.connection import poller_of

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch
    from airflow_claude_batch.batches.waiting.poller import Poller

LIFETIME = datetime.timedelta(hours=24, minutes=30)
"""What ends now was created at most so long ago."""
OVERLAP = datetime.timedelta(hours=1)
"""The list may show an end late; so far back each look checks again whether all were announced."""
SETTLE_SECONDS = 3.0
"""Time for Airflow to store an announced event before it is remembered as announced."""


class ClaudeBatchEndedTrigger(BaseEventTrigger):
    """Announces each batch once, when it has ended: one of a list, or any of the workspace.

    The event's payload is ``{"batch_id", "created_at", "ended_at", "request_counts"}``.

    Args:
        conn_id: Connection of type ``anthropic``; its key belongs to the workspace.
        batch_ids: Which batches; None for every batch of the workspace.
        since: ISO 8601 with time zone: announce what ended after that, when watching the workspace.
            None for the moment when watching begins for the first time.
        poll_interval: Seconds between two looks.
    """

    def __init__(
        self,
        conn_id: str = "anthropic_default",
        batch_ids: list[str] | None = None,
        since: str | None = None,
        poll_interval: float = 60.0,
    ) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.batch_ids = batch_ids
        self.since = since
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.batch_ended.ClaudeBatchEndedTrigger", {
            "conn_id": self.conn_id,
            "batch_ids": self.batch_ids,
            "since": self.since,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Announce for ever; a watcher never ends."""
        memory = await self._remembered()
        poller = await poller_of(self.conn_id)
        with poller.kept_open():
            looks = self._listed(poller, memory) if self.batch_ids else self._any(poller, memory)
            async for ended in looks:
                for batch in ended:
                    yield TriggerEvent(_payload(batch))
                await asyncio.sleep(SETTLE_SECONDS)
                await self._remember(memory)
        await asyncio.Event().wait()  # Airflow would start a watcher again that returns.

    async def _listed(self, poller: Poller, memory: dict[str, Any]) -> AsyncIterator[list[Batch]]:
        """Those of the given batches that have newly ended."""
        from airflow_claude_batch.batches.waiting.wait import Wait

        announced = memory.setdefault("announced", [])
        rest = [batch_id for batch_id in self.batch_ids or [] if batch_id not in announced]
        wait = Wait(batch_ids=rest, started_at=_now(), poll_interval=self.poll_interval)
        if not rest:
            return
        with poller.subscribe(wait) as subscription:
            verdict = None
            while verdict is None:
                verdict = await subscription.notification()
                self.log.info("%s", wait.describe(_now()))
                await self._catch_up(memory)
                announced = memory["announced"]
                ended = [b for b in wait.batches.values() if b.ended and b.id not in announced]
                announced.extend(batch.id for batch in ended)
                if ended:
                    yield ended
        if verdict != "ended":
            self.log.warning("%s", wait.explain(verdict, self.conn_id, _now()))

    async def _any(self, poller: Poller, memory: dict[str, Any]) -> AsyncIterator[list[Batch]]:
        """Batches of the workspace that have newly ended; nothing is yielded where there are none."""
        if "floor" not in memory:
            memory.update(floor=self.since or _now().isoformat(), announced=[])
            memory["watermark"] = memory["floor"]
            await self._remember(memory)
        while True:
            watermark = datetime.datetime.fromisoformat(memory["watermark"])
            try:
                batches = await poller.list_since(watermark - LIFETIME - OVERLAP, self.poll_interval / 2)
            except Exception as error:  # noqa: BLE001  # whatever it is, the next look may succeed
                self.log.warning("Could not list the batches of the workspace: %s", describe_error(error))
            else:
                if newly_ended(batches, dict(memory)):
                    await self._catch_up(memory)
                if ended := newly_ended(batches, memory):
                    yield ended
            await asyncio.sleep(self.poll_interval)

    async def _remembered(self) -> dict[str, Any]:
        memory: dict[str, Any] = {}
        for value in await self._memory.read():
            merge(memory, value)
        return memory

    async def _catch_up(self, memory: dict[str, Any]) -> None:
        """Take note of what another triggerer has announced meanwhile."""
        merge(memory, await self._remembered())

    async def _remember(self, memory: dict[str, Any]) -> None:
        await self._catch_up(memory)
        await self._memory.write(memory)

    @property
    def _memory(self) -> AssetMemory:
        return AssetMemory(self, "ended", json.dumps([self.conn_id, self.batch_ids, self.since]))


def newly_ended(batches: list[Batch], memory: dict[str, Any]) -> list[Batch]:
    """Ended batches that were not announced yet, the earliest first; takes note of them in ``memory``.

    Args:
        batches: What the list shows.
        memory: ``{"floor", "watermark", "announced"}``: when watching began, the last end that was
            announced, and the ids announced within the overlap before it.
    """
    floor = datetime.datetime.fromisoformat(memory["floor"])
    watermark = datetime.datetime.fromisoformat(memory["watermark"])
    announced = set(memory["announced"])
    ended = [(batch.ended_at, batch) for batch in batches if batch.ended and batch.ended_at]
    start = max(floor, watermark - OVERLAP)
    new = sorted((pair for pair in ended if pair[0] > start and pair[1].id not in announced), key=_first)
    if new:
        watermark = max(watermark, new[-1][0])
        announced |= {batch.id for _, batch in new}
        recent = {batch.id for at, batch in ended if at > watermark - OVERLAP}
        memory.update(watermark=watermark.isoformat(), announced=sorted(announced & recent))
    return [batch for _, batch in new]


def merge(memory: dict[str, Any], other: dict[str, Any]) -> None:
    """Add to ``memory`` what another triggerer, or the trigger of another asset, has announced."""
    if not other:
        return
    memory["announced"] = sorted({*memory.get("announced", ()), *other["announced"]})
    if "watermark" in other:
        marks = [memory.get("watermark"), other["watermark"]]
        memory["watermark"] = max(filter(None, marks), key=datetime.datetime.fromisoformat)
        memory.setdefault("floor", other["floor"])


def _first(pair: tuple[datetime.datetime, Batch]) -> datetime.datetime:
    return pair[0]


def _payload(batch: Batch) -> dict[str, Any]:
    counts = batch.request_counts
    return {
        "batch_id": batch.id,
        "created_at": batch.created_at.isoformat(),
        "ended_at": batch.ended_at.isoformat() if batch.ended_at else None,
        "request_counts": {name: getattr(counts, name) for name in counts.__struct_fields__},
    }


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
