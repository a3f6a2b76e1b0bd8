"""DAGs of the cluster's tests: three tasks, one task, many mapped jobs, nights to catch up with."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_claude_batch import (
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Limits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

START = pendulum.datetime(2026, 1, 1)
OUTPUT = "s3://objects@claude/output/{{ dag.dag_id }}/{{ run_id }}"
RETRIES: dict[str, Any] = {"retries": 3, "retry_delay": datetime.timedelta(seconds=1)}
MODEL: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 50}
REQUESTS = 30


def requests() -> Iterator[dict[str, Any]]:
    """Requests that are others each time: were the source asked again, there would be a second job."""
    now = datetime.datetime.now(datetime.UTC).isoformat()
    for number in range(REQUESTS):
        yield {"custom_id": f"r-{number}", "prompt": f"It is {now}", "number": number}


def nightly(ds: str) -> Iterator[dict[str, Any]]:
    """Requests of one night."""
    for number in range(REQUESTS):
        yield {"custom_id": f"night-{ds}-{number}", "prompt": f"Number {number}"}


def three_tasks(dag_id: str, submit_queue: str = "default", results_queue: str = "default") -> None:
    with DAG(dag_id, schedule=None, start_date=START, default_args=RETRIES):
        submit = ClaudeBatchSubmitOperator(
            task_id="submit", requests=requests, limits=Limits(requests=10), queue=submit_queue, **MODEL
        )
        wait = ClaudeBatchSensor(task_id="wait", batch=submit.output, poll_interval=2)
        ClaudeBatchResultsOperator(
            task_id="results", batch=wait.output, output_path=OUTPUT, queue=results_queue
        )


three_tasks("three_tasks")
three_tasks("two_machines", submit_queue="worker-1", results_queue="worker-2")

with DAG("one_task", schedule=None, start_date=START, default_args=RETRIES):
    ClaudeBatchOperator(
        task_id="batch",
        requests=[{"custom_id": f"r-{number}", "prompt": f"Number {number}"} for number in range(REQUESTS)],
        output_path=OUTPUT,
        poll_interval=2,
        **MODEL,
    )

with DAG(
    "mapped", schedule=None, start_date=START, default_args=RETRIES, params={"jobs": Param(1, type="integer")}
):

    @task
    def inputs(params: dict[str, Any] | None = None) -> list[list[dict[str, str]]]:
        jobs = (params or {})["jobs"]
        return [[{"custom_id": f"r-{job}", "prompt": f"Job {job}"}] for job in range(jobs)]

    ClaudeBatchOperator.partial(task_id="batch", output_path=OUTPUT, poll_interval=5, **MODEL).expand(
        requests=inputs()
    )

with DAG(
    "nights",
    schedule="@daily",
    start_date=START,
    end_date=START.add(days=9),
    catchup=True,
    max_active_runs=3,
    is_paused_upon_creation=True,
    default_args=RETRIES,
):
    ClaudeBatchOperator(
        task_id="batch",
        requests=nightly,
        output_path="s3://objects@claude/output/nights/{{ ds }}",
        poll_interval=2,
        **MODEL,
    )
