"""A real task whose batch is late for its deadline: what triggerer, worker and people do meanwhile.

In every case the API counts: answers of batches and of single calls are the requests, none both ways.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.emulator.testing import CREATE
from tests.harness.processes import wait_until
from tests.system.cancels import cancel_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "late"
REQUESTS, AT_ONCE = 120, 8
SOURCE = """
    from airflow.sdk import DAG, Param
    from airflow_claude_batch import ClaudeBatchOperator

    with DAG("late", params={"deadline": Param("PT1M", type="string")}):
        ClaudeBatchOperator(
            task_id="ask", requests=[{"custom_id": f"r-{n}", "prompt": f"Count to {n}"} for n in range(120)],
            model="claude-haiku-4-5", max_tokens=50, poll_interval=1,
            deadline="{{ params.deadline }}", direct_minutes=0,
        )
"""


@pytest.fixture
def airflow(local_airflow: LocalAirflow) -> LocalAirflow:
    local_airflow.add_dag(DAG, SOURCE)
    return local_airflow


@pytest.fixture
def begin(airflow: LocalAirflow, emulator: Emulator) -> Iterator[Callable[[str], str]]:
    """Starts a run whose batch never ends by itself; ends it after the test."""
    emulator.settings(duration=10_000, cancel_duration=0.5, cancel_finished_share=0.4)
    begun = []

    def begin(deadline: str) -> str:
        begun.append(airflow.api.trigger(DAG, {"deadline": deadline}))
        return begun[-1]

    yield begin
    for run_id in begun:
        airflow.api.mark_run(DAG, run_id, "failed")


def answers(emulator: Emulator) -> int:
    given: int = emulator.ledger()["direct_answers"]
    return given


def delivered(airflow: LocalAirflow, emulator: Emulator, run_id: str, *, twice: int = 0) -> dict[str, Any]:
    """The summary of a run, once it is there and the sums are right."""
    api = airflow.api
    api.wait_for_success(DAG, run_id, timeout=90)
    summary: dict[str, Any] = api.xcom(DAG, run_id, "ask")
    assert (summary["counts"]["total"], summary["counts"]["succeeded"]) == (REQUESTS, REQUESTS)
    told = emulator.ledger()
    by_way = sum(way["requests"] for way in summary["ways"].values())
    assert told["billed"] + told["direct"] == by_way == REQUESTS
    assert told["both_ways_count"] == told["billed_more_than_once_count"] == 0
    assert told["direct_answers"] - told["direct"] <= twice
    return summary


def batches_sent(emulator: Emulator) -> int:
    return len(emulator.journal(method="POST", path=CREATE))


def test_a_triggerer_that_is_killed_at_the_deadline_makes_a_job_late_and_loses_nothing(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[str], str]
) -> None:
    run_id = begin("PT10S")
    wait_until(lambda: "starting" in airflow.trigger_log(run_id), 30, "the wait to begin")
    airflow.kill_component("triggerer")
    airflow.start_component("triggerer")
    assert not cancel_calls(emulator), "it was killed before the deadline"
    summary = delivered(airflow, emulator, run_id)
    assert batches_sent(emulator) == 1
    assert airflow.trigger_log(run_id).count("starting") == 2
    assert (summary["on_time"], summary["without_batches"]) == (False, "direct")
    shown = airflow.api.xcom(DAG, run_id, "ask", key="going_direct")
    assert shown["requests"] == summary["ways"]["direct"]["requests"] > 0


def test_clearing_and_ending_a_task_that_makes_single_calls_stops_them_and_pays_nothing_twice(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[str], str]
) -> None:
    emulator.settings(message_seconds=2, cancel_finished_share=0.1)
    run_id = begin("PT1S")
    wait_until(lambda: answers(emulator) >= AT_ONCE, 40, "the first answers", poll=0.1)
    airflow.api.clear(DAG, run_id, "ask")
    wait_until(lambda: airflow.api.task_instance(DAG, run_id, "ask")["try_number"] == 2, 30, "the second try")
    before = answers(emulator)
    wait_until(lambda: answers(emulator) > before, 60, "its answers", poll=0.1)
    airflow.api.mark_task(DAG, run_id, "ask", "failed")
    time.sleep(6)  # a worker hears of it with its next heartbeat, and calls that have begun are awaited
    stopped = answers(emulator)
    time.sleep(3)
    assert answers(emulator) == stopped
    emulator.settings(message_seconds=0)
    airflow.api.clear(DAG, run_id, "ask")
    summary = delivered(airflow, emulator, run_id, twice=2 * AT_ONCE)
    assert batches_sent(emulator) <= 1  # none, where Airflow took longer to begin than until the deadline
    assert stopped < summary["ways"]["direct"]["requests"]
