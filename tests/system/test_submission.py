"""Submission under a real scheduler: tasks are killed, retried and failed, and the bill is counted."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.emulator.testing import CREATE
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "submission_under_fire"
SECONDS = 30
SOURCE = """
    import datetime
    import pendulum
    from airflow.sdk import DAG
    from airflow_claude_batch import ClaudeBatchSubmitOperator, Limits

    def build():
        now = datetime.datetime.now().isoformat()
        for number in range(30):
            yield {{"custom_id": f"r-{{number}}", "prompt": f"It is {{now}}"}}

    with DAG("{dag}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        ClaudeBatchSubmitOperator(
            task_id="submit", requests=build, model="claude-haiku-4-5", max_tokens=50,
            limits=Limits(requests=10), retries=3, retry_delay=datetime.timedelta(seconds=1),
        )
"""


@pytest.fixture
def airflow(local_airflow: LocalAirflow) -> LocalAirflow:
    local_airflow.write_dag(DAG, textwrap.dedent(SOURCE.format(dag=DAG)))
    local_airflow.api.wait_for_dag(DAG)
    return local_airflow


def test_a_worker_killed_between_post_and_record_costs_nothing(
    airflow: LocalAirflow, emulator: Emulator
) -> None:
    """The prompts contain the time: were the source asked again, the retry would be another job."""
    emulator.fault("hang", method="POST", path=CREATE, skip=2, seconds=60, when="after")
    run_id = airflow.api.trigger(DAG)
    wait_until(lambda: len(emulator.batches()) == 3, SECONDS, "three batches", poll=0.05)
    airflow.kill_task(DAG, run_id, "submit")
    for batch in emulator.batches():
        emulator.end(batch["id"])  # so that the one of the lost answer shows whose it is
    airflow.api.wait_for_success(DAG, run_id, timeout=120)
    handle = airflow.api.xcom(DAG, run_id, "submit")
    assert sorted(handle["batch_ids"]) == sorted(batch["id"] for batch in emulator.batches())
    assert emulator.ledger()["submitted_once"] == 30
    assert airflow.api.task_instance(DAG, run_id, "submit")["try_number"] == 2


def test_a_full_queue_frees_the_worker_slot_until_it_drains(
    airflow: LocalAirflow, emulator: Emulator
) -> None:
    emulator.settings(queue_limit=20, retry_after=11)
    run_id = airflow.api.trigger(DAG)
    airflow.api.wait_for_task(DAG, run_id, "submit", "deferred")
    assert airflow.api.pool()["occupied_slots"] == 0
    for batch in emulator.batches():
        emulator.end(batch["id"])
    airflow.api.wait_for_success(DAG, run_id, timeout=120)
    assert len(airflow.api.xcom(DAG, run_id, "submit")["batch_ids"]) == 3
    assert emulator.ledger()["submitted_once"] == 30


def test_marking_the_running_task_failed_cancels_what_it_submitted(
    airflow: LocalAirflow, emulator: Emulator
) -> None:
    emulator.fault("hang", method="POST", path=CREATE, skip=2, seconds=60, when="before")
    run_id = airflow.api.trigger(DAG)
    wait_until(lambda: len(emulator.batches()) == 2, SECONDS, "two batches", poll=0.05)
    airflow.api.mark_task(DAG, run_id, "submit", "failed")
    wait_until(
        lambda: all(batch["processing_status"] == "canceling" for batch in emulator.batches()),
        SECONDS,
        "all batches to be cancelled",
    )
    assert len(emulator.batches()) == 2
