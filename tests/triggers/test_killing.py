from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_claude_batch.emulator.testing import CANCEL, Emulator
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
from airflow_claude_batch.triggers.pause import PauseTrigger
from tests.batches.waits import create, run
from tests.supervisor import Supervisor, TaskInstance


def waiting(batch_ids: list[str]) -> BaseTrigger:
    began = datetime.datetime.now(datetime.UTC).isoformat()
    return ClaudeBatchTrigger(batch_ids, "anthropic_default", began, cancel_on_kill=True)


def pausing(batch_ids: list[str]) -> BaseTrigger:
    return PauseTrigger(300.0, "anthropic_default", batch_ids)


def supervise(monkeypatch: pytest.MonkeyPatch, trigger: BaseTrigger, supervisor: Supervisor) -> None:
    supervisor.install(monkeypatch)
    trigger.task_instance = TaskInstance()


def cancelled(emulator: Emulator) -> list[str]:
    calls = emulator.journal(method="POST", path=CANCEL)
    return sorted(call["batch_id"] for call in calls if call["status"] == 200)


@pytest.mark.parametrize("kind", [waiting, pausing])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
@pytest.mark.parametrize("latest_try", [1, None])
def test_a_task_that_a_person_has_ended_cancels_its_batches(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: Any, state: str, latest_try: int | None
) -> None:
    ids = create(emulator, 2)
    trigger = kind(ids)
    supervise(monkeypatch, trigger, Supervisor(state, latest_try=latest_try))
    run(trigger.on_kill())
    assert cancelled(emulator) == sorted(ids)


@pytest.mark.parametrize("kind", [waiting, pausing])
@pytest.mark.parametrize("state", ["deferred", "queued", "scheduled", "running", "upstream_failed"])
def test_a_task_that_nobody_has_ended_cancels_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: Any, state: str
) -> None:
    trigger = kind(create(emulator))
    supervise(monkeypatch, trigger, Supervisor(state))
    run(trigger.on_kill())
    assert not emulator.journal(path=CANCEL)


@pytest.mark.parametrize("kind", [waiting, pausing])
@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_try_that_ended_by_itself_soon_after_a_clear_cancels_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: Any, state: str
) -> None:
    """The trigger of the first try is told to stop when the second has ended already."""
    trigger = kind(create(emulator))
    supervise(monkeypatch, trigger, Supervisor(state, latest_try=2))
    run(trigger.on_kill())
    assert not emulator.journal(path=CANCEL)


@pytest.mark.parametrize("kind", [waiting, pausing])
def test_being_told_to_stop_again_and_again_interrupts_no_cancellation(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    """Airflow's triggerer says so every second until the trigger has stopped."""
    [batch_id] = create(emulator)
    emulator.fault("status", path=CANCEL, status=500)
    trigger = kind([batch_id])
    supervise(monkeypatch, trigger, Supervisor("failed", seconds=1))

    async def test() -> None:
        killing = asyncio.create_task(trigger.on_kill())
        while not killing.done():
            await asyncio.wait([killing], timeout=0.3)
            killing.cancel()

    run(test())
    assert cancelled(emulator) == [batch_id]


def test_a_batch_that_has_ended_meanwhile_does_not_keep_the_others_from_being_cancelled(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = create(emulator, 2)
    emulator.end(first)
    trigger = pausing([first, second])
    supervise(monkeypatch, trigger, Supervisor("failed"))
    run(trigger.on_kill())
    assert cancelled(emulator) == [second]


def test_a_kill_is_logged_with_what_became_of_each_batch(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = create(emulator, 3)
    emulator.end(second)
    emulator.fault("status", path=f"{third}/cancel", status=403, times=None)
    trigger = pausing([first, second, third])
    supervise(monkeypatch, trigger, Supervisor("failed"))
    run(trigger.on_kill())
    said = capsys.readouterr().out
    assert f"The task was ended by a person: batch {first} is being cancelled" in said
    assert f"The task was ended by a person: batch {second} had ended before" in said
    assert f"batch {third} could not be cancelled and may go on (HTTP 403" in said


def test_what_is_stored_of_a_pause_brings_it_back(emulator: Emulator) -> None:
    one = pausing(["b1"])
    path, arguments = one.serialize()
    assert path == f"{PauseTrigger.__module__}.{PauseTrigger.__qualname__}"
    assert PauseTrigger(**arguments).serialize() == one.serialize()
