"""The example of event-driven scheduling, in a real triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import outsider
from tests.harness.processes import WaitTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow


@pytest.fixture
def airflow(local_airflow: LocalAirflow, emulator: Emulator) -> Iterator[LocalAirflow]:
    """With the example DAG at work; it would start for the batches of all other tests, too."""
    local_airflow.api.wait_for_dag(outsider.DAG)
    outsider.begin_watching(local_airflow, emulator)
    yield local_airflow
    outsider.end_watching(local_airflow)


def test_a_batch_that_something_outside_airflow_submits_starts_the_example_and_is_delivered(
    airflow: LocalAirflow, emulator: Emulator
) -> None:
    run_id = ""
    for _ in range(2):  # the first look may have been another watcher's, and this batch's end before its own
        batch_id = outsider.submit(emulator.url)
        emulator.end(batch_id)
        try:
            run_id = outsider.wait_for_its_run(airflow, timeout=45)
            break
        except WaitTimeout:
            continue
    assert airflow.api.wait_for_run(outsider.DAG, run_id, timeout=60) == "success"
    assert airflow.api.xcom(outsider.DAG, run_id, "ended") == [batch_id]
    assert airflow.api.xcom(outsider.DAG, run_id, "results")["counts"]["succeeded"] == 3
    assert len(airflow.api.runs(outsider.DAG)) == 1
