"""The examples of the reference, made by a small job: ``python -m tests.docs_examples`` writes them anew."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.local_airflow import airflow_environment, common_settings, create_database, write_settings

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator

REPOSITORY = Path(__file__).parents[1]
FILE = REPOSITORY / "docs" / "_ext" / "examples.json"
TICKET = {
    "type": "object",
    "properties": {"team": {"type": "string", "enum": ["billing", "login"]}, "urgent": {"type": "boolean"}},
    "required": ["team", "urgent"],
    "additionalProperties": False,
}
LONG_NAME = re.compile(r"\b(msgbatch_\w{6}|[0-9a-f]{6})\w{14,}\b")
"""Ids of batches and hashes, which are shortened."""
FAILURE = {
    "custom_ids": ["ticket-4"],
    "outcome": "errored",
    "error_type": "invalid_request_error",
    "message": "messages.0.content: prompt is too long",
}


def make(emulator: Emulator, folder: Path) -> dict[str, Any]:
    """Run the job, and say what came out of it; without the folder's name, and with short ids."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.sdk import DAG, Asset
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator
    from airflow_claude_batch.testing.dag_runs import run_dag

    emulator.settings(duration=0.3, outcomes={"failures": [FAILURE]})
    tickets = Asset("s3://bucket/tickets-of-the-documentation")
    with DAG("tickets", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(
            task_id="submit",
            requests=[
                {
                    "custom_id": f"ticket-{number}",
                    "prompt": f"Ticket {number}: which team?",
                    "customer": number,
                }
                for number in range(1, 6)
            ],
            model="claude-haiku-4-5",
            max_tokens=100,
            output_schema=TICKET,
            storage_path=(folder / "storage").as_uri(),
        )
        ClaudeBatchResultsOperator(
            task_id="results",
            batch=submit.output,
            output_path=(folder / "tickets").as_uri(),
            storage_path=(folder / "storage").as_uri(),
            outlets=[tickets],
            poll_interval=0.2,
        )
    run = run_dag(dag)
    assert run.state == "success"
    with create_session() as session:
        wanted = select(AssetEvent).join(AssetModel, AssetEvent.asset_id == AssetModel.id)
        [event] = session.scalars(wanted.where(AssetModel.uri == tickets.uri)).all()
    made = {
        "handle": run.xcom("submit"),
        "estimate": run.xcom("submit", key="estimate"),
        "summary": run.xcom("results"),
        "succeeded": _first(folder / "tickets" / "succeeded"),
        "errored": _first(folder / "tickets" / "errored"),
        "asset_event_extra": event.extra,
    }
    text = json.dumps(made).replace(str(folder), "/data")
    found: dict[str, Any] = json.loads(LONG_NAME.sub(r"\1...", text))
    return found


def _first(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "part-00000.jsonl").read_text().splitlines()[0])
    return record


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "airflow"
        home.mkdir()
        os.environ.update(airflow_environment(home, {}))
        write_settings(home, common_settings(home, [home / "dags"]))
        create_database(home)
        from airflow_claude_batch.emulator.testing import start_emulator

        with start_emulator() as emulator:
            connection = {"conn_type": "anthropic", "password": "test-key", "host": emulator.url}
            os.environ["AIRFLOW_CONN_ANTHROPIC_DEFAULT"] = json.dumps(connection)
            made = make(emulator, Path(name))
    FILE.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
