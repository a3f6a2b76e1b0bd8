"""A person ends a task that waits: the batches that nobody wants any more are cancelled, and no others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.emulator.testing import CANCEL
from tests.batches.waits import create
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "killed"
SOURCE = """
    from airflow.sdk import DAG, Param, task
    from airflow_claude_batch import ClaudeBatchSensor, ClaudeBatchSubmitOperator, Limits
    from airflow_claude_batch.batches.job.claims import Claim, claim
    from airflow_claude_batch.common.settings import storage_root

    records = [{"custom_id": f"r-{number}", "prompt": "Hello"} for number in range(30)]

    with DAG("killed"):
        ClaudeBatchSubmitOperator(
            task_id="submit", requests=records, model="claude-haiku-4-5", max_tokens=50,
            limits=Limits(requests=10),
        )

    HOW = ("deferred", "poke", "reschedule")

    with DAG("killed_waits", params={how: Param([], type="array") for how in HOW}):
        for how in HOW:

            @task(task_id=f"{how}_job")
            def job(how, params=None):
                # What a submission leaves, as far as a kill asks for it.
                root = storage_root()
                url = f"{root.url}/jobs/killed_waits/{how}/job-1"
                for number, batch_id in enumerate(params[how]):
                    claim(root, batch_id, Claim(job=url, part=number, dag_id="killed_waits"))
                return {"job": url, "batch_ids": params[how], "request_count": 1}

            mode = {} if how == "deferred" else {"deferrable": False, "mode": how}
            ClaudeBatchSensor(task_id=how, batch=job(how), poll_interval=2, **mode)
"""


@pytest.fixture
def airflow(local_airflow: LocalAirflow) -> LocalAirflow:
    local_airflow.add_dag(DAG, SOURCE)
    local_airflow.api.wait_for_dag("killed_waits")
    return local_airflow


@pytest.fixture
def begin(airflow: LocalAirflow) -> Iterator[Callable[..., str]]:
    """Starts a run, and ends it after the test."""
    begun = []

    def begin(dag_id: str, **conf: Any) -> str:
        begun.append((dag_id, airflow.api.trigger(dag_id, conf)))
        return begun[-1][1]

    yield begin
    for dag_id, run_id in begun:
        airflow.api.mark_run(dag_id, run_id, "failed")


def pauses(airflow: LocalAirflow, begin: Callable[..., str], emulator: Emulator) -> str:
    """A run whose submission pauses in the triggerer, two of its three batches created."""
    emulator.settings(queue_limit=20, retry_after=300)
    run_id = begin(DAG)
    wait_until(lambda: "Pausing for" in airflow.trigger_log(run_id), 90, "the pause to begin")
    return run_id


def cancelled(emulator: Emulator) -> list[str]:
    """Batches that the API was asked to cancel and did."""
    calls = emulator.journal(method="POST", path=CANCEL)
    return sorted(call["batch_id"] for call in calls if call["status"] == 200)


def test_a_paused_submission_that_is_marked_failed_cancels_what_it_has_created(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[..., str]
) -> None:
    """In a triggerer that has done nothing yet: its first question to Airflow takes seconds."""
    airflow.kill_component("triggerer")
    airflow.start_component("triggerer")
    run_id = pauses(airflow, begin, emulator)
    airflow.api.mark_task(DAG, run_id, "submit", "failed")
    emulator.wait_for("POST", CANCEL, count=2, timeout=40)
    assert cancelled(emulator) == sorted(batch["id"] for batch in emulator.batches())
    assert len(emulator.batches()) == 2


def test_a_paused_submission_that_is_cleared_cancels_nothing_and_goes_on_with_the_same_batches(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[..., str]
) -> None:
    run_id = pauses(airflow, begin, emulator)
    created = [batch["id"] for batch in emulator.batches()]
    airflow.api.clear(DAG, run_id, "submit")
    wait_until(
        lambda: "nobody has ended the task" in airflow.trigger_log(run_id), 60, "the pause to be told to stop"
    )
    wait_until(lambda: airflow.trigger_log(run_id).count("Pausing for") == 2, 60, "the new try to pause, too")
    assert not emulator.journal(path=CANCEL)
    assert [batch["id"] for batch in emulator.batches()] == created


def test_waits_of_every_kind_that_are_marked_failed_cancel_their_batches_and_no_others(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[..., str]
) -> None:
    bystander, *ids = create(emulator, 4)
    deferred, poke, reschedule = ids
    # A rescheduled sensor has a process, which can be told, only while it looks.
    emulator.fault("hang", path=f"{reschedule}$", seconds=120)
    emulator.fault("status", path=f"{deferred}/cancel$", status=500)
    run_id = begin("killed_waits", deferred=[deferred], poke=[poke], reschedule=[reschedule])
    emulator.wait_for("GET", reschedule, timeout=90, waiting=True)
    emulator.wait_for("GET", poke, count=2, timeout=90)
    wait_until(lambda: "starting" in airflow.trigger_log(run_id), 90, "the trigger to start")
    for task_id in ("deferred", "poke", "reschedule"):
        airflow.api.mark_task("killed_waits", run_id, task_id, "failed")
    wait_until(lambda: len(cancelled(emulator)) == 3, 60, "all three to be cancelled")
    assert cancelled(emulator) == sorted(ids)
    assert bystander not in json.dumps(emulator.journal(path=CANCEL))


def test_a_poking_sensor_that_is_cleared_cancels_nothing(
    airflow: LocalAirflow, emulator: Emulator, begin: Callable[..., str]
) -> None:
    deferred, poke, reschedule = create(emulator, 3)
    run_id = begin("killed_waits", deferred=[deferred], poke=[poke], reschedule=[reschedule])
    emulator.wait_for("GET", poke, count=2, timeout=90)
    airflow.api.clear("killed_waits", run_id, "poke")

    def again() -> bool:
        instance = airflow.api.task_instance("killed_waits", run_id, "poke")
        return bool(instance["state"] == "running" and instance["try_number"] == 2)

    wait_until(again, 60, "the new try to run")
    seen = emulator.state()["received"]
    emulator.wait_for("GET", poke, count=2, since=seen, timeout=60)
    assert not emulator.journal(path=CANCEL)
