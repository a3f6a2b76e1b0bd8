"""Dozens of waits in real triggerers that are frozen, killed and told to stop.

One run with a wait for each batch serves all tests, in their order: starting it takes most of the time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import pytest

from airflow_claude_batch.emulator.testing import CANCEL, Emulator
from airflow_claude_batch.triggers.batch_ended import SETTLE_SECONDS
from tests.batches.waits import create
from tests.harness.local_airflow import LocalAirflow
from tests.harness.processes import ManagedProcess, wait_until

WAITS = int(os.environ.get("CLAUDE_BATCH_TEST_WAITS", "40"))
"""More than Airflow starts or resumes at a time (16); each takes a worker most of a second to start, so set
300 where there is time."""
DAG = "waits"
SOURCE = """
from airflow.sdk import DAG, BaseOperator, Param, task

class Wait(BaseOperator):
    '''Defers as the sensor does, without its first look: three hundred of those take minutes.'''
    template_fields = ("batches",)

    def __init__(self, *, batches, **kwargs):
        super().__init__(**kwargs)
        self.batches = batches

    def execute(self, context):
        from airflow_claude_batch.common.handle import Handle
        from airflow_claude_batch.runtime.waiting import begin_wait
        from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
        wait = begin_wait(Handle(batch_ids=self.batches, job="file:///a/job"), poll_interval=3)
        trigger = ClaudeBatchTrigger.of(wait, "anthropic_default", cancel_on_kill=True)
        self.defer(trigger=trigger, method_name="done")

    def done(self, context, event):
        return event["status"]

@task
def jobs(params=None):
    return params["jobs"]

with DAG("waits", params={"jobs": Param([], type="array")}, max_active_tasks=1000):
    Wait.partial(task_id="wait").expand(batches=jobs())
"""
WATCHER = """
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow_claude_batch.triggers.batch_ended import ClaudeBatchEndedTrigger

watcher = AssetWatcher(name="any_batch", trigger=ClaudeBatchEndedTrigger(poll_interval=3))
with DAG("watcher", schedule=[Asset("ended_batches", watchers=[watcher])]):
    EmptyOperator(task_id="start")
"""

pytestmark = pytest.mark.timeout(480)


@dataclass
class Waiting:
    """The run, and what waits in it; the first wait is for two batches, the others for one."""

    airflow: LocalAirflow
    emulator: Emulator
    run_id: str
    batch_ids: list[list[str]]

    def states(self) -> Counter[str | None]:
        instances = self.pages(f"/api/v2/dags/{DAG}/dagRuns/{self.run_id}/taskInstances", "task_instances")
        return Counter(instance["state"] for instance in instances if instance["task_id"] == "wait")

    def starts(self) -> int:
        """How many waits each triggerer has started, all added up."""
        return self.said(f"trigger {DAG}/")

    def said(self, text: str) -> int:
        """How many lines of the triggers' logs have this text."""
        logs = (self.airflow.home / "logs").glob(f"dag_id={DAG}/**/*.trigger.*.log")
        return sum(log.read_text().count(text) for log in logs)

    def look_again(self, timeout: float = 60) -> None:
        """Wait until the triggerer has looked at the batches once more."""
        seen = self.emulator.state()["received"]
        self.emulator.wait_for("GET", count=2, since=seen, timeout=timeout)

    def cancelled(self) -> list[str]:
        """Of the waits' own batches; runs of earlier tests may still cancel theirs."""
        own = {batch_id for ids in self.batch_ids for batch_id in ids}
        calls = self.emulator.journal(method="POST", path=CANCEL)
        return [call["batch_id"] for call in calls if call["batch_id"] in own]

    def announced(self) -> list[str]:
        """Batches whose end the watcher has announced, in that order, again and again if it did so."""
        events = self.pages("/api/v2/assets/events", "asset_events", order_by="timestamp")
        return [event["extra"]["payload"]["batch_id"] for event in events]

    def pages(self, path: str, name: str, **params: Any) -> Iterator[dict[str, Any]]:
        for offset in itertools.count(0, 100):
            page = self.airflow.api._call("GET", path, params={"limit": 100, "offset": offset, **params})
            yield from page[name]
            if len(page[name]) < 100:
                return


@pytest.fixture(scope="module")
def waiting(local_airflow: LocalAirflow, emulator_process: Emulator) -> Iterator[Waiting]:
    emulator_process.reset()
    local_airflow.write_dag(DAG, SOURCE)
    local_airflow.write_dag("watcher", WATCHER)
    wait_until(lambda: local_airflow.api.dag(DAG), 60, "the DAG to be parsed")
    batch_ids = [create(emulator_process, 2), *([one] for one in create(emulator_process, WAITS - 1))]
    run_id = local_airflow.api.trigger(DAG, {"jobs": batch_ids})
    waiting = Waiting(local_airflow, emulator_process, run_id, batch_ids)
    wait_until(lambda: waiting.states()["deferred"] == WAITS, 300, "all waits to be deferred")
    waiting.look_again()
    yield waiting
    local_airflow.stop_retired()  # a second triggerer would have some waits of the tests to come
    emulator_process.reset()


@contextlib.contextmanager
def frozen(airflow: LocalAirflow, process: ManagedProcess) -> Iterator[None]:
    """Stop a component and the process that runs its triggers, as a machine does that is suspended.

    Between two of its transactions: with SQLite a frozen one would lock out everybody else.
    """
    members = process.members()

    def stop() -> bool:
        for member in members:
            member.send_signal(signal.SIGSTOP)
        if is_writable(airflow):
            return True
        resume()
        return False

    def resume() -> None:
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)

    wait_until(stop, 30, "a moment at which the triggerer holds no lock")
    try:
        yield
    finally:
        resume()


def is_writable(airflow: LocalAirflow) -> bool:
    with contextlib.closing(sqlite3.connect(airflow.home / "airflow.db", timeout=2)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        database.rollback()
        return True


def test_people_see_how_far_a_wait_has_come(waiting: Waiting) -> None:
    api = waiting.airflow.api
    waiting.emulator.end(waiting.batch_ids[0][0])

    def progress() -> dict[str, Any] | None:
        return api.xcom(DAG, waiting.run_id, "wait", key="progress", map_index=0)

    shown = wait_until(progress, 60, "the progress XCom")
    assert (shown["ended"], shown["batches"]) == (1, 2)
    assert "1 of 2 batches ended" in api.task_log(DAG, waiting.run_id, "wait", map_index=0)


def test_a_batch_that_nothing_here_waits_for_is_announced_when_it_ends(waiting: Waiting) -> None:
    [external] = create(waiting.emulator)
    waiting.emulator.end(external)
    wait_until(lambda: external in waiting.announced(), 60, "the end to be announced")
    time.sleep(2 * SETTLE_SECONDS)  # a triggerer lost before it has remembered this announces it again


def test_a_triggerer_that_was_frozen_and_wakes_up_cancels_nothing(waiting: Waiting) -> None:
    airflow = waiting.airflow
    sleeper = airflow.component("triggerer")
    airflow.start_component("triggerer")
    started = waiting.starts()
    with frozen(airflow, sleeper):
        wait_until(lambda: waiting.starts() >= started + WAITS, 90, "the other triggerer to take over")
    wait_until(lambda: waiting.said("nobody has ended the task") == WAITS, 60, "it to be told to stop")
    waiting.look_again()
    assert waiting.cancelled() == []
    assert waiting.states() == {"deferred": WAITS}


def test_a_triggerer_that_is_killed_loses_no_wait(waiting: Waiting) -> None:
    airflow = waiting.airflow
    airflow.kill_component("triggerer")  # the one that has the waits; the other takes them over
    waiting.look_again(timeout=90)
    assert waiting.cancelled() == []
    assert waiting.states() == {"deferred": WAITS}
    airflow.start_component("triggerer")


def test_marking_one_wait_as_failed_cancels_its_batch_and_no_other(waiting: Waiting) -> None:
    api = waiting.airflow.api
    api.mark_task(DAG, waiting.run_id, "wait", "failed", map_index=7)
    waiting.emulator.wait_for("POST", CANCEL, timeout=30)
    waiting.look_again()
    assert waiting.cancelled() == waiting.batch_ids[7]


def test_clearing_a_wait_cancels_nothing(waiting: Waiting) -> None:
    api = waiting.airflow.api
    before = waiting.cancelled()
    tried = api.task_instance(DAG, waiting.run_id, "wait", map_index=8)["try_number"]
    body = {"dag_run_id": waiting.run_id, "task_ids": [["wait", 8]], "dry_run": False, "only_failed": False}
    api._call("POST", f"/api/v2/dags/{DAG}/clearTaskInstances", json=body)

    def waits_again() -> bool:
        instance = api.task_instance(DAG, waiting.run_id, "wait", map_index=8)
        return instance["state"] == "deferred" and instance["try_number"] > tried

    wait_until(waits_again, 60, "the cleared wait to wait again")
    waiting.look_again()
    assert waiting.cancelled() == before


def test_every_wait_hears_of_its_end(waiting: Waiting) -> None:
    for batch_ids in waiting.batch_ids:
        waiting.emulator.end(batch_ids[-1])
    wait_until(lambda: waiting.states()["deferred"] == 0, 60, "every wait to end")
    states = waiting.states()
    assert states["failed"] == 1  # the one that was marked
    assert sum(states.values()) == WAITS
    wait_until(lambda: stop_run(waiting), 120, "the run to be stopped")


def stop_run(waiting: Waiting) -> bool:
    """Three hundred short tasks would keep the other tests' from running."""
    try:
        path = f"/api/v2/dags/{DAG}/dagRuns/{waiting.run_id}"
        waiting.airflow.api._call("PATCH", path, json={"state": "failed"})
    except httpx.HTTPStatusError:  # SQLite, while they all start
        return False
    return True


def test_frozen_and_killed_triggerers_have_announced_each_batch_once(waiting: Waiting) -> None:
    first_to_end = waiting.batch_ids[0][0]
    ended = {batch["id"] for batch in waiting.emulator.batches() if batch["processing_status"] == "ended"}
    wait_until(lambda: ended <= set(waiting.announced()), 60, "all ends to be announced")
    times = Counter(waiting.announced())
    assert times[first_to_end] == 1
    # One that SQLite has locked out is lost, and what it announced in its last seconds comes again.
    log = waiting.airflow.home / "components/triggerer.log"
    most = 2 if "database is locked" in log.read_text() else 1
    assert (times.keys(), max(times.values()) <= most) == (ended, True), times
