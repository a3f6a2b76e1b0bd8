"""A person between the trial and the whole, through a real scheduler and triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.emulator.testing import CREATE
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "trial_then_approve"


def scheduler_knows(local_airflow: LocalAirflow, run_id: str) -> bool:
    """Whether it has heard that the task's process has ended. Who answers before, as no person does, makes
    Airflow 3.3 take the task, which is queued again by then, for one whose process is lost."""
    log = (local_airflow.home / "components" / "scheduler.log").read_text()
    heard = f"executor event with state success for task instance TaskInstanceKey(dag_id='{DAG}', "
    return f"{heard}task_id='approve', run_id='{run_id}'" in log


@pytest.mark.parametrize(("answer", "state", "sent"), [("Reject", "skipped", 0), ("Approve", "success", 35)])
def test_the_whole_is_sent_when_a_person_has_seen_plan_costs_and_answers(
    local_airflow: LocalAirflow, emulator: Emulator, tmp_path: Path, answer: str, state: str, sent: int
) -> None:
    emulator.settings(duration=1, answer_bytes=100)  # an answer that is cut off is not reused
    api = local_airflow.api
    api.wait_for_dag(DAG)
    run_id = api.trigger(DAG, {"products": 40, "output": tmp_path.as_uri()})
    api.wait_for_task(DAG, run_id, "approve", "deferred", "awaiting_input", timeout=120)
    assert emulator.journal(method="POST", path=CREATE) == []
    # The second run has them from the first one's trial.
    assert emulator.ledger()["direct_answers"] == (5 if answer == "Reject" else 0)
    page = api.xcom(DAG, run_id, "proposal")
    assert "40 requests in 1 batch(es)" in page
    assert "5 of 5 tried records were answered" in page

    wait_until(
        lambda: scheduler_knows(local_airflow, run_id), 30, "the scheduler to hear that the task waits"
    )
    api.respond(DAG, run_id, "approve", answer)
    api.wait_for_success(DAG, run_id, timeout=120)
    assert api.task_instance(DAG, run_id, "descriptions")["state"] == state
    assert sum(len(emulator.custom_ids(batch["id"])) for batch in emulator.batches()) == sent
