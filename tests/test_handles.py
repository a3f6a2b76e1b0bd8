from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSensor, ClaudeBatchSubmitOperator
from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.batches.waits import create

HANDLES = [{"job": f"file:///jobs/{n}", "batch_ids": [f"b{n}"], "request_count": 1} for n in range(2)]


@pytest.fixture
def emulator(emulator: Emulator) -> Emulator:
    """One whose batches end after a second."""
    emulator.settings(duration=1)
    return emulator


@pytest.mark.parametrize("value", [None, "", " ", [], {}, {"batch_ids": []}, [""], ["b1", None], 7])
def test_what_names_no_batch_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match="a batch id, or a list of batch ids is wanted"):
        Handle.parse(value)


def test_several_jobs_are_refused_with_the_way_to_a_task_for_each() -> None:
    with pytest.raises(InputError, match=r"expand\(batch=submit\.output\)"):
        Handle.parse(HANDLES)


def test_the_ids_that_mapped_tasks_return_are_waited_for_and_delivered_together(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    ids = create(emulator, 3)
    with DAG("mapped_ids", schedule=None) as dag:

        @task
        def known(batch_id: str) -> str:
            return batch_id

        wait = ClaudeBatchSensor(task_id="wait", batch=known.expand(batch_id=ids), poll_interval=0.3)
        ClaudeBatchResultsOperator(task_id="results", batch=wait.output)

    run = run_dag(dag)

    assert run.state == "success"
    assert run.xcom("wait")["batch_ids"] == ids
    assert run.xcom("results")["counts"]["succeeded"] == 3


def test_mapped_submissions_have_mapped_waits_and_results_each_its_own_job(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    with DAG("mapped_jobs", schedule=None) as dag:
        storage = (tmp_path / "storage").as_uri()
        submit = ClaudeBatchSubmitOperator.partial(
            task_id="submit", model="claude-haiku-4-5", max_tokens=50, storage_path=storage
        ).expand(requests=[[{"prompt": "Hello"}], [{"prompt": "Hello"}, {"prompt": "Bye"}]])
        wait = ClaudeBatchSensor.partial(task_id="wait", poll_interval=0.3).expand(batch=submit.output)
        ClaudeBatchResultsOperator.partial(
            task_id="results", storage_path=storage, output_path=(tmp_path / "out").as_uri()
        ).expand(batch=wait.output)

    run = run_dag(dag)

    assert run.state == "success"
    summaries = [json.loads((tmp_path / "out" / str(n) / "summary.json").read_text()) for n in range(2)]
    assert [summary["counts"]["succeeded"] for summary in summaries] == [1, 2]
