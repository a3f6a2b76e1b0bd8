"""Somebody outside Airflow who submits a batch: what `dags/external_batch.py` waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from tests.harness.local_airflow import LocalAirflow

DAG = "external_batch"
NOTICED_SECONDS = 90
SETTINGS = {
    # The asset's events start runs; all other DAGs stay paused, or their schedules would, too.
    "scheduler": {"use_job_schedule": "True"},
    "core": {"dags_are_paused_at_creation": "True"},
    # Airflow starts a watcher when it reads the file of the unpaused DAG again.
    "dag_processor": {"min_file_process_interval": "5"},
}
"""Of an Airflow in which the DAG can be started from outside."""
QUESTIONS = ["What is a message batch?", "Who waits for it?", "What does waiting cost?"]


def begin_watching(airflow: LocalAirflow, emulator: Emulator) -> None:
    """Unpause the DAG, and return when its watcher has looked at the workspace for the first time."""
    seen = emulator.state()["received"]
    airflow.api.unpause(DAG)
    emulator.wait_for("GET", CREATE, timeout=60, since=seen)


def submit(url: str) -> str:
    """Submit a batch as any program would; returns its id."""
    import anthropic  # takes a second, and most demos do without

    requests: list[Any] = [
        {
            "custom_id": f"question-{number}",
            "params": {
                "model": "claude-haiku-4-5",
                "max_tokens": 200,
                "messages": [{"role": "user", "content": question}],
            },
        }
        for number, question in enumerate(QUESTIONS, 1)
    ]
    with anthropic.Anthropic(api_key="any-key", base_url=url) as client:
        return client.messages.batches.create(requests=requests).id


def wait_for_its_run(airflow: LocalAirflow, timeout: float = NOTICED_SECONDS) -> str:
    """Id of the first run that a batch's end has started."""
    runs: list[dict[str, Any]] = wait_until(lambda: airflow.api.runs(DAG), timeout, "a run to start")
    run_id: str = runs[0]["dag_run_id"]
    return run_id
