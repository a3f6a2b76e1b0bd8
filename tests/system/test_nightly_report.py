"""The seed example end to end: through real scheduler and triggerer, and through `dag.test()`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.emulator.testing import CREATE
from tests.batches.helpers import sent_ids
from tests.system.conftest import DAGS

if TYPE_CHECKING:
    import pytest

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "nightly_report"
ACCOUNTS = 12
ERRORED = {
    "custom_ids": ["report-ACC-00003"],
    "outcome": "errored",
    "error_type": "invalid_request_error",
    "message": "prompt is too long",
}
EXPIRED = {"custom_ids": ["report-ACC-00007"], "outcome": "expired"}


def test_the_wait_holds_no_worker_slot_and_every_request_is_delivered_once(
    local_airflow: LocalAirflow, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [ERRORED, EXPIRED]})
    api = local_airflow.api
    api.wait_for_dag(DAG)
    run_id = api.trigger(DAG, {"accounts": ACCOUNTS, "output": tmp_path.as_uri()})

    api.wait_for_task(DAG, run_id, "wait", "deferred")
    pool = api.pool()
    assert (pool["occupied_slots"], pool["deferred_slots"]) == (0, 1)
    states = {instance["task_id"]: instance["state"] for instance in api.task_instances(DAG, run_id)}
    assert states == {"submit": "success", "wait": "deferred", "results": None, "write_report": None}

    [batch] = emulator.batches()
    emulator.end(batch["id"])  # what sees that can only be the triggerer: nobody else is awake
    emulator.wait_for("POST", CREATE, count=2, timeout=60)
    second = emulator.batches()[1]["id"]
    assert sent_ids(emulator, second) == set(EXPIRED["custom_ids"]), "only what is worth it is sent again"
    emulator.end(second)
    api.wait_for_success(DAG, run_id, timeout=90)

    assert len(emulator.journal(method="POST", path=CREATE)) == 2
    summary = api.xcom(DAG, run_id, "results")
    assert summary["batch_ids"] == [batch["id"], second]
    assert_delivered(summary, succeeded=ACCOUNTS - 2, errored=1, expired=1)
    assert summary["errors"] == {"invalid_request_error": 1, "expired": 1}

    folder = local_path(summary["summary_path"]).parent
    assert folder.parent == tmp_path
    assert {record["custom_id"] for record in records(folder / "errored")} == {
        "report-ACC-00003",
        "report-ACC-00007",
    }
    report = (folder / "report.md").read_text()
    assert "10 of 12 summaries were written, 2 were not." in report
    assert "ACC-00003: invalid_request_error" in report
    assert "ACC-00007: expired" in report


def test_dag_test_runs_the_same_dag_in_one_process(
    emulator: Emulator, airflow_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection))
    emulator.settings(duration=2)

    run = load_dag().test(run_conf={"accounts": 3, "output": tmp_path.as_uri()})

    assert run.state == "success"
    assert len(emulator.journal(method="POST", path=CREATE)) == 1
    [summary_file] = tmp_path.glob("*/summary.json")
    assert_delivered(json.loads(summary_file.read_text()), succeeded=3)
    assert (summary_file.parent / "report.md").exists()


def assert_delivered(summary: dict[str, Any], **expected: int) -> None:
    """The counts are these and no others, and the files hold as many records."""
    counts = dict(summary["counts"])
    total = counts.pop("total")
    assert {outcome: number for outcome, number in counts.items() if number} == expected
    assert total == sum(expected.values())

    folder = local_path(summary["summary_path"]).parent
    succeeded, errored = records(folder / "succeeded"), records(folder / "errored")
    assert len(succeeded) == expected["succeeded"]
    assert len(errored) == total - expected["succeeded"]
    assert len({record["custom_id"] for record in succeeded + errored}) == total
    for record in succeeded:
        assert record["text"]
        assert record["custom_id"] == f"report-{record['input']['account']}"


def records(folder: Path) -> list[dict[str, Any]]:
    parts = sorted(folder.glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def local_path(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def load_dag() -> Any:
    spec = importlib.util.spec_from_file_location(DAG, DAGS / f"{DAG}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag
