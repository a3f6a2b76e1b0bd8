"""Memory of the processes that run a task of 100,000 requests, as a Kubernetes pod would have to hold them.

    python -m benchmarks.pod_memory [--requests 100000] [--bytes 2000]

Real Airflow, one batch against the emulator, records to local disk. For the submit and for the results task:
the peak resident memory of the task's own process and of the supervisor beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import textwrap
from pathlib import Path

import psutil

from airflow_claude_batch.emulator.testing import start_emulator
from tests.harness.local_airflow import LocalAirflow
from tests.harness.processes import wait_until

DAG = "pod_memory"
SECONDS = 900
SOURCE = """
    import pendulum
    from airflow.sdk import DAG
    from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator

    def requests():
        for number in range({requests}):
            yield {{"custom_id": f"r-{{number}}", "prompt": f"{{number}} ".ljust({size}, "x")}}

    with DAG("{dag}", schedule=None, start_date=pendulum.datetime(2026, 1, 1)):
        submit = ClaudeBatchSubmitOperator(
            task_id="submit", requests=requests, model="claude-haiku-4-5", max_tokens=50
        )
        ClaudeBatchResultsOperator(
            task_id="results", batch=submit.output, output_path="{output}", poll_interval=2
        )
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=2_000, help="of a prompt")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder_name, start_emulator(duration=1.0) as emulator:
        folder = Path(folder_name)
        connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
        with LocalAirflow(folder / "airflow", connections={"anthropic_default": connection}) as airflow:
            output = (folder / "output").as_uri()
            source = SOURCE.format(dag=DAG, requests=options.requests, size=options.bytes, output=output)
            airflow.write_dag(DAG, textwrap.dedent(source))
            airflow.api.wait_for_dag(DAG)
            run_id = airflow.api.trigger(DAG)
            peaks = {"submit": (0, 0), "results": (0, 0)}

            def sample() -> str | None:
                for task_id, peak in peaks.items():
                    instance = airflow.api.task_instance(DAG, run_id, task_id)
                    if instance["state"] == "running" and instance["pid"]:
                        now = resident(instance["pid"])
                        peaks[task_id] = max(peak[0], now[0]), max(peak[1], now[1])
                state = airflow.api.run(DAG, run_id)["state"]
                return state if state in ("success", "failed") else None

            state = wait_until(sample, SECONDS, "the run to finish")
    print(f"{options.requests:,} requests of {options.bytes:,} bytes: {state}")
    for task_id, (own, beside) in peaks.items():
        print(f"{task_id:8} task {own >> 20} MiB, supervisor {beside >> 20} MiB")


def resident(pid: int) -> tuple[int, int]:
    """Resident bytes of the task's process and of its parent, which supervises it."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        parent = process.parent()
        return process.memory_info().rss, parent.memory_info().rss if parent else 0
    return 0, 0


if __name__ == "__main__":
    main()
