"""The example of event-driven scheduling, in an Airflow of its own: the tests' other one starts no runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import outsider
from tests.harness.local_airflow import LocalAirflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_claude_batch.emulator.testing import Emulator

EXAMPLE = Path(__file__).parents[2] / "dags" / f"{outsider.DAG}.py"


@pytest.fixture
def emulator(claude_batch_emulator: Emulator) -> Emulator:
    """One that no other watcher looks at."""
    return claude_batch_emulator


@pytest.fixture
def airflow(emulator: Emulator, tmp_path: Path) -> Iterator[LocalAirflow]:
    """With the example DAG at work, and no other whose file is read every few seconds."""
    connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
    with LocalAirflow(
        tmp_path / "airflow",
        connections={"anthropic_default": connection},
        settings=outsider.SETTINGS,
    ) as airflow:
        airflow.add_dag(outsider.DAG, EXAMPLE.read_text())
        outsider.begin_watching(airflow, emulator)
        yield airflow


def test_a_batch_that_something_outside_airflow_submits_starts_the_example_and_is_delivered(
    airflow: LocalAirflow, emulator: Emulator
) -> None:
    batch_id = outsider.submit(emulator.url)
    emulator.end(batch_id)
    run_id = outsider.wait_for_its_run(airflow)
    airflow.api.wait_for_success(outsider.DAG, run_id, timeout=60)
    assert airflow.api.xcom(outsider.DAG, run_id, "ended") == [batch_id]
    assert airflow.api.xcom(outsider.DAG, run_id, "results")["counts"]["succeeded"] == 3
    assert len(airflow.api.runs(outsider.DAG)) == 1
