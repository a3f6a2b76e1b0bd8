"""OpenLineage: what its listener sends for a results task of running Airflow."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.processes import wait_until

pytest.importorskip("airflow.providers.openlineage")

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "lineage"
SOURCE = """
    from airflow.providers.openlineage.utils.selective_enable import enable_lineage
    from airflow.sdk import DAG

    from airflow_claude_batch.operators.claude_batch import ClaudeBatchOperator

    with DAG("lineage", schedule=None, params={"output": ""}) as dag:
        ClaudeBatchOperator(
            task_id="summaries",
            requests=[{"custom_id": f"r-{number}", "prompt": "Summarise"} for number in range(3)],
            model="claude-haiku-4-5",
            max_tokens=100,
            output_path="{{ params.output }}",
            poll_interval=0.5,
        )
    enable_lineage(dag)
"""


def test_a_results_task_tells_what_it_read_and_wrote(
    local_airflow: LocalAirflow, emulator: Emulator, lineage_file: Path, tmp_path: Path
) -> None:
    emulator.settings(duration=1)
    local_airflow.write_dag(DAG, textwrap.dedent(SOURCE))
    local_airflow.api.wait_for_dag(DAG)
    run_id = local_airflow.api.trigger(DAG, {"output": tmp_path.as_uri()})
    local_airflow.api.wait_for_success(DAG, run_id, timeout=90)

    def completed() -> dict[str, Any] | None:
        lines = lineage_file.read_text().splitlines() if lineage_file.exists() else []
        events = [json.loads(line) for line in lines]
        ended = [event for event in events if event["eventType"] == "COMPLETE"]
        return next((event for event in ended if event["job"]["name"] == f"{DAG}.summaries"), None)

    # Sent by a process of its own, which ends after the task.
    event = wait_until(completed, 60, "the event to be written")
    statistics = {output["name"]: output["outputFacets"]["outputStatistics"] for output in event["outputs"]}
    rows = {name: facet["rowCount"] for name, facet in statistics.items()}
    assert rows == {f"{tmp_path}/succeeded": 3, f"{tmp_path}/errored": 0}
    summary = local_airflow.api.xcom(DAG, run_id, "summaries")
    assert [given["name"] for given in event["inputs"]] == [summary["job"].removeprefix("file://")]
