"""A real task waits for a batch that only may be its own, and for an API that is down.

The stranger's batch has the size and the custom_ids of the part whose POST was answered with 500.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from airflow_claude_batch.emulator.testing import CANCEL, CREATE
from tests.batches.helpers import sent_ids
from tests.harness.processes import wait_until
from tests.system.cancels import cancel_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "uncertain"
REQUESTS = 30
OUTAGE_SECONDS = 45
"""With a wait that looks every second: fifteen minutes of one that looks every twenty."""
SOURCE = """
    import datetime
    from airflow.sdk import DAG
    from airflow_claude_batch import ClaudeBatchOperator, Limits

    with DAG("uncertain"):
        ClaudeBatchOperator(
            task_id="ask", requests=[{"custom_id": f"r-{n}", "prompt": "Hello"} for n in range(30)],
            model="claude-haiku-4-5", max_tokens=50, limits=Limits(requests=10), poll_interval=1,
            retries=1, retry_delay=datetime.timedelta(seconds=1),
        )
"""


@pytest.fixture
def airflow(local_airflow: LocalAirflow) -> LocalAirflow:
    local_airflow.add_dag(DAG, SOURCE)
    return local_airflow


@pytest.fixture
def begin(airflow: LocalAirflow) -> Iterator[Callable[[], str]]:
    """Starts a run, and ends it after the test."""
    begun = []

    def begin() -> str:
        begun.append(airflow.api.trigger(DAG))
        return begun[-1]

    yield begin
    for run_id in begun:
        airflow.api.mark_run(DAG, run_id, "failed")


def strangers_batch(emulator: Emulator) -> str:
    client = anthropic.Anthropic(api_key="any-key", base_url=emulator.url)
    params: Any = {"model": "claude-haiku-4-5", "max_tokens": 5}
    params["messages"] = [{"role": "user", "content": "theirs"}]
    requests: Any = [{"custom_id": f"r-{n}", "params": params} for n in range(10)]
    return client.messages.batches.create(requests=requests).id


def waits(airflow: LocalAirflow, emulator: Emulator, begin: Callable[[], str]) -> tuple[str, str]:
    """A run whose task waits in the triggerer for a stranger's batch; the run and the batch."""
    theirs = strangers_batch(emulator)
    emulator.fault("status", method="POST", path=CREATE, skip=2, status=500)
    run_id = begin()
    wait_until(lambda: airflow.trigger_log(run_id).count("starting"), 90, "the wait to begin")
    emulator.wait_for("GET", rf"{theirs}$|batches$", timeout=60)
    assert len(emulator.batches()) == 3
    return run_id, theirs


def end_all(emulator: Emulator) -> bool:
    for batch in emulator.batches():
        if batch["processing_status"] != "ended":
            emulator.end(batch["id"])
    return True


def runs_to_its_end(airflow: LocalAirflow, emulator: Emulator, run_id: str, theirs: str) -> None:
    """All batches end as they come; then each request has been paid and answered once."""

    def finished() -> bool:
        end_all(emulator)
        return airflow.api.task_instance(DAG, run_id, "ask")["state"] in ("success", "failed")

    wait_until(finished, 150, "the task to end")
    summary = airflow.api.xcom(DAG, run_id, "ask")
    assert (summary["counts"]["total"], summary["counts"]["succeeded"]) == (REQUESTS, REQUESTS)
    assert theirs not in summary["batch_ids"]
    paid = Counter(n for batch in own(emulator, theirs) for n in sent_ids(emulator, batch))
    assert paid == dict.fromkeys((f"r-{n}" for n in range(REQUESTS)), 1)
    assert not cancel_calls(emulator)


def own(emulator: Emulator, theirs: str) -> list[str]:
    return [batch["id"] for batch in emulator.batches() if batch["id"] != theirs]


def test_a_triggerer_killed_while_a_task_waits_for_a_candidate_loses_nothing(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[], str]
) -> None:
    run_id, theirs = waits(airflow, emulator, begin)
    airflow.kill_component("triggerer")
    started = airflow.trigger_log(run_id).count("starting")
    airflow.start_component("triggerer")
    wait_until(
        lambda: airflow.trigger_log(run_id).count("starting") > started, 90, "the wait to be taken over"
    )
    runs_to_its_end(airflow, emulator, run_id, theirs)


def test_a_task_that_is_cleared_while_it_waits_for_a_candidate_pays_nothing_twice(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[], str]
) -> None:
    run_id, theirs = waits(airflow, emulator, begin)
    airflow.api.clear(DAG, run_id, "ask")
    wait_until(
        lambda: "nobody has ended the task" in airflow.trigger_log(run_id), 60, "the wait to be told to stop"
    )
    runs_to_its_end(airflow, emulator, run_id, theirs)


def test_a_task_that_is_marked_failed_while_it_waits_for_a_candidate_cancels_only_its_own(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[], str]
) -> None:
    run_id, theirs = waits(airflow, emulator, begin)
    airflow.api.mark_task(DAG, run_id, "ask", "failed")
    emulator.wait_for("POST", CANCEL, count=2, timeout=60)
    time.sleep(2)
    assert sorted(cancel_calls(emulator)) == sorted(own(emulator, theirs))


def test_an_outage_from_the_post_to_the_wait_costs_nothing(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[[], str]
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE, skip=1, times=1)
    emulator.fault("hang", method="POST", path=CREATE, skip=1, times=1, seconds=3, when="after")
    run_id = begin()
    wait_until(lambda: len(emulator.batches()) == 3, 60, "three batches", poll=0.05)
    outage = emulator.fault("drop_before", times=None)
    time.sleep(OUTAGE_SECONDS)
    emulator.clear_faults(outage)
    runs_to_its_end(airflow, emulator, run_id, theirs="")
    assert len(emulator.batches()) == 3
