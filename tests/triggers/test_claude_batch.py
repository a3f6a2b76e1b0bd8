from __future__ import annotations

import asyncio
import datetime
import json
import subprocess
import sys
from typing import Any

import pytest

from airflow_claude_batch.emulator.testing import CANCEL, RETRIEVE, Emulator
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
from tests.batches.waits import answered, create, run

LONG_AGO = "2026-01-01T00:00:00+00:00"


def trigger(ids: list[str], started: datetime.datetime | None = None, **options: Any) -> ClaudeBatchTrigger:
    began = started or datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)
    return ClaudeBatchTrigger(
        ids, "anthropic_default", began.isoformat(), **{"poll_interval": 0.3, **options}
    )


async def event_of(one: ClaudeBatchTrigger) -> dict[str, Any]:
    events = [event.payload async for event in one.run()]
    assert len(events) == 1
    payload: dict[str, Any] = events[0]
    return payload


def test_it_fires_one_small_event_when_the_last_batch_has_ended(emulator: Emulator) -> None:
    async def test() -> None:
        ids = create(emulator, 2)
        task = asyncio.create_task(event_of(trigger(ids)))
        await answered(emulator, 2)
        emulator.end(ids[0])
        seen = emulator.state()["received"]
        await answered(emulator, 2, since=seen)
        assert not task.done()
        emulator.end(ids[1])
        event = await task
        assert (event["status"], event["batch_ids"], event["open_batch_ids"]) == ("ended", ids, [])
        assert event["counts"]["succeeded"] == 2
        assert len(json.dumps(event)) < 1000

    run(test())


@pytest.mark.parametrize("ahead", [-10, 10], ids=["behind", "ahead"])
def test_the_clock_of_the_worker_that_began_the_wait_may_be_ten_minutes_wrong(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "1")

    async def test() -> None:
        [batch_id] = create(emulator)
        emulator.end(batch_id)
        began = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=ahead)
        event = await asyncio.wait_for(event_of(trigger([batch_id], began)), 10)
        assert event["status"] == "ended"

    run(test())


def test_a_restart_elsewhere_goes_on_from_the_stored_arguments(emulator: Emulator) -> None:
    async def test() -> None:
        [batch_id] = create(emulator)
        first = trigger([batch_id])
        task = asyncio.create_task(event_of(first))
        await answered(emulator, 1)
        task.cancel()
        path, arguments = first.serialize()
        assert path == f"{ClaudeBatchTrigger.__module__}.{ClaudeBatchTrigger.__qualname__}"
        emulator.end(batch_id)
        again = ClaudeBatchTrigger(**json.loads(json.dumps(arguments)))
        assert (await event_of(again))["status"] == "ended"
        assert not emulator.journal(method="POST", path=CANCEL)

    run(test())


def test_the_stored_arguments_are_ids_times_flags_and_the_connections_name() -> None:
    _, arguments = trigger(["msgbatch_1"], timeout_at=LONG_AGO, known=False, cancel_on_kill=True).serialize()
    assert set(arguments) == {
        "batch_ids",
        "conn_id",
        "started_at",
        "known",
        "timeout_at",
        "poll_interval",
        "cancel_on_kill",
        "unproved",
        "also_unwanted",
        "uncertain",
        "due_at",
        "some_at",
    }


def test_the_wait_ends_when_the_job_is_needed_also_in_a_triggerer_that_starts_after_that(
    emulator: Emulator,
) -> None:
    async def test() -> None:
        [batch_id] = create(emulator)
        soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat()
        for due_at in (soon, LONG_AGO):  # the second one is that of a triggerer that was killed meanwhile
            event = await event_of(trigger([batch_id], due_at=due_at))
            assert (event["status"], event["open_batch_ids"]) == ("due", [batch_id])
        emulator.end(batch_id)
        assert (await event_of(trigger([batch_id], due_at=LONG_AGO)))["status"] == "ended"

    run(test())


def test_the_wait_ends_when_some_of_its_batches_have_ended_long_enough(emulator: Emulator) -> None:
    async def test() -> None:
        ids = create(emulator, 3)
        emulator.end(ids[1])
        soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat()
        event = await event_of(trigger(ids, some_at=soon, poll_interval=60))
        assert (event["status"], event["open_batch_ids"]) == ("some", [ids[0], ids[2]])

    run(test())


def test_the_timeout_leaves_the_batch_alone(emulator: Emulator) -> None:
    async def test() -> None:
        [batch_id] = create(emulator)
        soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat()
        event = await event_of(trigger([batch_id], timeout_at=soon))
        assert (event["status"], event["open_batch_ids"]) == ("timeout", [batch_id])
        assert emulator.batches()[0]["processing_status"] == "in_progress"

    run(test())


def test_all_triggers_of_a_connection_share_a_client_and_a_loop(emulator: Emulator) -> None:
    async def test() -> None:
        ids = create(emulator, 50)
        tasks = [asyncio.create_task(event_of(trigger([batch_id], poll_interval=1))) for batch_id in ids]
        await answered(emulator, 4)
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert names.count("claude-batch-poller") == 1
        assert len(emulator.journal(path=RETRIEVE)) < 10
        for batch_id in ids:
            emulator.end(batch_id)
        assert {event["status"] for event in await asyncio.gather(*tasks)} == {"ended"}

    run(test())


def test_leaving_the_triggerer_cancels_no_batch_and_leaves_no_task(emulator: Emulator) -> None:
    async def test() -> None:
        [batch_id] = create(emulator)
        one = trigger([batch_id], cancel_on_kill=True)
        task = asyncio.create_task(event_of(one))
        await answered(emulator, 1)
        task.cancel()
        await asyncio.wait([task])
        await one.cleanup()
        pollers = [t for t in asyncio.all_tasks() if t.get_name() == "claude-batch-poller"]
        await asyncio.gather(*pollers)
        assert emulator.batches()[0]["processing_status"] == "in_progress"

    run(test())


@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_when_the_tasks_state_cannot_be_learnt_the_batch_is_left_alone(
    emulator: Emulator, cancel_on_kill: bool
) -> None:
    class TaskInstance:
        dag_id, run_id, task_id, map_index = "d", "r", "t", -1

    async def test() -> None:
        [batch_id] = create(emulator)
        one = trigger([batch_id], cancel_on_kill=cancel_on_kill)
        one.task_instance = TaskInstance()  # no supervisor here, so nobody answers for it
        await one.on_kill()
        assert emulator.batches()[0]["processing_status"] == "in_progress"

    run(test())


IMPORTED = """
import sys
from airflow.triggers.base import BaseTrigger
import airflow_claude_batch.triggers.claude_batch, airflow_claude_batch.triggers.batch_ended
heavy = {"anthropic", "httpx2", "airflow_claude_batch.hooks.claude_batch"}
print(sorted(heavy & set(sys.modules)))
"""


def test_the_trigger_modules_import_nothing_heavy() -> None:
    output = subprocess.check_output([sys.executable, "-c", IMPORTED], text=True, timeout=60)
    assert output.splitlines()[-1] == "[]"


COLD = """
import asyncio, datetime, gc, logging, sys, time
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger

async def main():
    longest = 0.0
    async def watch():
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - before)
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    trigger = ClaudeBatchTrigger([sys.argv[1]], "anthropic_default", started.isoformat(), poll_interval=0.1)
    watcher = asyncio.create_task(watch())
    begun = time.perf_counter()
    async for event in trigger.run():
        status = event.payload["status"]
    share = longest / (time.perf_counter() - begun)
    print(status, share, gc.get_freeze_count(), logging.getLogger("httpx2").level)

asyncio.run(main())
"""


def test_the_first_wait_of_a_triggerer_loads_the_sdk_without_stopping_its_loop_or_touching_its_settings(
    emulator: Emulator,
) -> None:
    [batch_id] = create(emulator)
    emulator.end(batch_id)
    output = subprocess.check_output([sys.executable, "-c", COLD, batch_id], text=True, timeout=120)
    status, share, frozen, level = output.splitlines()[-1].split()
    assert (status, int(frozen), int(level)) == ("ended", 0, 0)
    # Nearly all of this wait is the import. As a share of it, because a busy machine stretches both.
    assert float(share) < 0.5
