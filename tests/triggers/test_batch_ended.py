from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.execution_time import task_runner

from airflow_claude_batch.batches.api.client import Batch, RequestCounts
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.triggers import batch_ended
from airflow_claude_batch.triggers.batch_ended import ClaudeBatchEndedTrigger, newly_ended
from tests.batches.waits import answered, create, run

NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)


class AssetState:
    """Airflow's store of an asset's state: JSON values that survive the trigger."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.changed = asyncio.Event()

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.stored[key]) if key in self.stored else default

    async def aset(self, key: str, value: Any) -> None:
        self.stored[key] = json.dumps(value)
        self.changed.set()

    async def noted(self, batch_ids: list[str]) -> None:
        """Return once it is written down that these were announced."""
        while not all(batch_id in "".join(self.stored.values()) for batch_id in batch_ids):
            self.changed.clear()
            await self.changed.wait()


class AssetSupervisor:
    """Airflow's side of its asset state store."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] = {}

    async def asend(self, message: Any) -> Any:
        from airflow.sdk.execution_time.comms import AssetStateStoreResult, OKResponse

        if message.type == "SetAssetStateStoreByName":
            self.stored[message.name] = json.loads(json.dumps(message.value))
            return OKResponse(ok=True)
        value = self.stored.get(message.name)
        return None if value is None else AssetStateStoreResult(value=value)


class Watcher:
    """A trigger that runs, and what it has announced."""

    def __init__(self, state: Any, **arguments: Any) -> None:
        self.trigger = ClaudeBatchEndedTrigger(**{"poll_interval": 0.2, **arguments})
        self.trigger.asset_state_store = state
        self.announced: asyncio.Queue[str] = asyncio.Queue()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for event in self.trigger.run():
            self.announced.put_nowait(event.payload["batch_id"])

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_ended, "SETTLE_SECONDS", 0.0)


def test_each_batch_of_a_list_is_announced_once_when_it_ends(emulator: Emulator) -> None:
    async def test() -> None:
        first, second, other = create(emulator, 3)
        watcher = Watcher(AssetState(), batch_ids=[first, second])
        emulator.end(other)
        emulator.end(second)
        assert await watcher.announced.get() == second
        emulator.end(first)
        assert await watcher.announced.get() == first
        await asyncio.sleep(0.5)
        assert watcher.announced.empty()
        assert not watcher.task.done()  # Airflow would start it again
        await watcher.stop()

    run(test())


def test_a_restarted_watcher_announces_nothing_again_and_misses_nothing(emulator: Emulator) -> None:
    async def test(arguments: dict[str, Any], ids: list[str]) -> None:
        state = AssetState()
        before = Watcher(state, **arguments)
        await answered(emulator, 1)
        await asyncio.to_thread(emulator.end, ids[0])
        assert await before.announced.get() == ids[0]
        seen = emulator.state()["received"]
        await answered(emulator, 2, since=seen)
        await before.stop()
        await asyncio.to_thread(emulator.end, ids[1])
        after = Watcher(state, **arguments)
        assert await after.announced.get() == ids[1]
        seen = emulator.state()["received"]
        if "batch_ids" not in arguments:
            await answered(emulator, 2, since=seen)
        assert after.announced.empty()
        await after.stop()

    for number in range(2):
        emulator.reset()
        ids = create(emulator, 2)
        run(test([{"batch_ids": ids}, {}][number], ids))


def test_a_triggerer_that_was_frozen_does_not_announce_what_another_has_announced_meanwhile(
    emulator: Emulator,
) -> None:
    async def test() -> None:
        ids, state = create(emulator, 2), AssetState()
        frozen = Watcher(state, poll_interval=3)
        await answered(emulator, 1)
        for batch_id in ids:
            await asyncio.to_thread(emulator.end, batch_id)
        other = Watcher(state)
        assert {await other.announced.get(), await other.announced.get()} == set(ids)
        await state.noted(ids)
        await other.stop()
        seen = emulator.state()["received"]
        await answered(emulator, 1, since=seen)  # it wakes up and looks
        await asyncio.sleep(0.5)
        assert frozen.announced.empty()
        third = Watcher(state)  # and has not made what was noted be forgotten
        await asyncio.sleep(1)
        assert third.announced.empty()
        await frozen.stop()
        await third.stop()

    run(test())


def test_assets_that_are_watched_with_the_same_arguments_share_a_trigger_and_each_keeps_its_state(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("Airflow 3.3 and later")
    supervisor = AssetSupervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)

    async def test() -> None:
        first, second = create(emulator, 2)
        one = Watcher(context.AssetStateStoreAccessors(inlets=[Asset("a")]), batch_ids=[first, second])
        emulator.end(first)
        assert await one.announced.get() == first
        await asyncio.sleep(0.2)
        await one.stop()
        both = context.AssetStateStoreAccessors(inlets=[Asset("a"), Asset("b")])
        other = Watcher(both, batch_ids=[first, second])
        emulator.end(second)
        assert await other.announced.get() == second
        await asyncio.sleep(0.2)
        await other.stop()
        notes = [sorted(value["announced"]) for value in supervisor.stored.values()]
        assert notes == [sorted([first, second])] * 2

    run(test())


def test_any_batch_of_the_workspace_is_announced_if_it_ends_after_watching_began(emulator: Emulator) -> None:
    async def test() -> None:
        old, new = create(emulator, 2)
        emulator.end(old)
        watcher = Watcher(AssetState())
        await answered(emulator, 1)
        emulator.end(new)
        assert await watcher.announced.get() == new
        await watcher.stop()

    run(test())


def test_since_reaches_back_to_before_watching_began(emulator: Emulator) -> None:
    async def test() -> None:
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        [old] = create(emulator)
        emulator.end(old)
        watcher = Watcher(AssetState(), since=since.isoformat())
        assert await watcher.announced.get() == old
        await watcher.stop()

    run(test())


def test_several_watchers_share_their_looks(emulator: Emulator) -> None:
    async def test() -> None:
        watchers = [Watcher(AssetState()) for _ in range(5)]
        await answered(emulator, 3, CREATE)
        [batch_id] = create(emulator)
        emulator.end(batch_id)
        for watcher in watchers:
            assert await watcher.announced.get() == batch_id
        first, *_, last = emulator.journal(method="GET", path=CREATE)
        looks = (last["time"] - first["time"]) / 0.2
        assert len(emulator.journal(method="GET", path=CREATE)) < 3 * looks + 5
        for watcher in watchers:
            await watcher.stop()

    run(test())


def test_an_outage_delays_an_announcement_and_does_not_end_the_watching(emulator: Emulator) -> None:
    async def test() -> None:
        watcher = Watcher(AssetState())
        await answered(emulator, 1)
        emulator.fault("status", status=500, times=3)
        [batch_id] = create(emulator) if not emulator.faults() else await retried(emulator)
        emulator.end(batch_id)
        assert await watcher.announced.get() == batch_id
        await watcher.stop()

    async def retried(emulator: Emulator) -> list[str]:
        seen = emulator.state()["received"]
        await answered(emulator, 3, since=seen)
        return create(emulator)

    run(test())


def test_what_is_remembered_stays_small() -> None:
    memory = {"floor": NOON.isoformat(), "watermark": NOON.isoformat(), "announced": []}
    for hour in range(1, 30):
        at = NOON + datetime.timedelta(hours=hour)
        batches = [ended(f"{hour}-{number}", at + datetime.timedelta(minutes=number)) for number in range(10)]
        assert len(newly_ended(batches, memory)) == 10
        assert newly_ended(batches, memory) == []
    assert len(memory["announced"]) <= 20


def test_an_end_that_shows_up_late_is_still_announced() -> None:
    memory = {"floor": NOON.isoformat(), "watermark": NOON.isoformat(), "announced": []}
    early = ended("early", NOON + datetime.timedelta(minutes=10))
    late = ended("late", NOON + datetime.timedelta(minutes=40))
    assert newly_ended([late], memory) == [late]
    assert newly_ended([late, early], memory) == [early]
    assert newly_ended([late, early], memory) == []


def ended(batch_id: str, at: datetime.datetime) -> Batch:
    return Batch(
        id=batch_id,
        processing_status="ended",
        request_counts=RequestCounts(succeeded=1),
        created_at=at - datetime.timedelta(minutes=5),
        ended_at=at,
    )
