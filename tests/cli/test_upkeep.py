"""``doctor`` and ``purge``."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import IDENTITY, creates, records, submit
from tests.cli.conftest import Run


def test_the_doctor_has_a_line_for_each_check(run: Run, root: Folder) -> None:
    done = run("doctor", "-o", "json")
    results = {row["check"]: row["result"] for row in done.data}
    triggerer = results.pop("triggerer running")
    # Whether Airflow's database is there depends on the tests before.
    assert (triggerer, done.code) in (("failed", 1), ("not checked", 0)), done.out
    assert set(results.values()) == {"ok"}, done.out
    assert [path.name for path in Path(root.path).iterdir()] == []


def test_the_doctor_says_what_is_wrong(
    run: Run, root: Folder, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    emulator.settings(api_key="right")
    wrong = json.dumps({"conn_type": "anthropic", "host": emulator.url, "password": "wrong"})
    monkeypatch.setenv("AIRFLOW_CONN_WRONG_KEY", wrong)
    (tmp_path / "file").write_text("")
    done = run("doctor", "--conn-id", "wrong_key", "--storage-path", tmp_path / "file", "-o", "json")
    rows = {row["check"]: row for row in done.data}
    assert done.code == 1
    assert rows["reachable"]["result"] == "ok"
    assert "HTTP 401" in rows["key accepted"]["details"]
    assert [rows[name]["result"] for name in ("key accepted", "models listed", "exclusive create")] == (
        ["failed"] * 3
    )
    missing = {row["check"]: row for row in run("doctor", "--conn-id", "nobody", "-o", "json").data}
    assert (missing["connection"]["result"], missing["reachable"]["result"]) == ("failed", "not checked")


def test_a_purge_leaves_nothing_of_a_job_behind(run: Run, root: Folder, api: BatchesApi) -> None:
    for generation in (1, 2):
        submit(root, api, records(3 + generation), generation=generation)
    purge = ("purge", "--older-than", "0", "--undelivered")
    assert "would delete 2 jobs" in run(*purge, "--dry-run").out
    assert run(*purge).code == 2  # nobody is here to say yes
    done = run(*purge, "--yes")
    assert "deleted 2 jobs, 2 claims, 0 intents and 1 empty task folders with their leases" in done.out
    left = [path for path in Path(root.path).rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["exclusive-create"]
    assert not (Path(root.path) / "jobs").joinpath(IDENTITY.dag_id).exists()


def test_a_purge_leaves_alone_what_is_sent_and_not_delivered_unless_it_is_told_to_delete_it(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    submit(root, api, records(3))
    for last in ("--dry-run", "--yes"):
        kept = run("purge", "--older-than", "0", last)
        assert ("delete 0 jobs" in kept.out.replace("deleted", "delete"), kept.code) == (True, 0)
        assert "1 jobs are left alone: they are sent and not delivered" in kept.err
    asked = run("purge", "--older-than", "0", "--undelivered")
    assert ("Delete 1 jobs" in asked.err, "1 of the jobs are sent and not delivered" in asked.err) == (
        True,
        True,
    )
    assert submit(root, api, records(3), generation=2)[1] is None
    assert creates(emulator) == 1
    [job] = [row["job"] for row in run("list", "-o", "json").data]
    assert run("retry", job, "--output", tmp_path / "out", "--poll-interval", "0.1").code == 0
    assert "deleted 1 jobs" in run("purge", "--older-than", "0", "--yes").out


def test_a_purge_leaves_a_job_alone_that_somebody_is_at_work_on(
    run: Run, root: Folder, api: BatchesApi
) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    with lease.hold(IDENTITY.folder(root)):
        done = run("purge", "--older-than", "0", "--undelivered", "--yes")
    assert ("deleted 0 jobs" in done.out, "1 jobs were left alone" in done.err) == (True, True)
    assert run("whose", batch_id).code == 0


def test_a_purge_of_what_is_not_there_is_an_error(run: Run, root: Folder) -> None:
    done = run("purge", "--older-than", "0", "--yes")
    assert (done.code, f"There is no {root.url}" in done.err) == (2, True)


def test_a_dag_without_jobs_and_a_place_that_is_none_are_said(
    run: Run, root: Folder, api: BatchesApi, tmp_path: Path
) -> None:
    submit(root, api, records(1))
    nothing = run("reuse", "build", "--dag", "no_such_dag")
    assert (nothing.code, "no job of DAG no_such_dag" in nothing.err) == (1, True)
    for command in (("costs",), ("list",), ("reuse", "build", "--dag", "reports")):
        done = run(*command, "--storage-path", tmp_path / "nowhere")
        assert (done.code, f"There is no file://{tmp_path}/nowhere." in done.err) == (2, True), command


def test_an_age_that_no_job_has_is_refused_by_the_parser(run: Run, root: Folder) -> None:
    done = run("purge", "--older-than", "999999999999")
    assert (done.code, "is no number of days from 0 to 36500" in done.err) == (2, True), done.err


@pytest.mark.parametrize("stdin", ["closed", "ended"])
def test_no_answer_is_no(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, stdin: str
) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", None if stdin == "closed" else terminal)
    done = run("cancel", batch_id)
    assert (done.code, "say --yes" in done.err) == ((2, True) if stdin == "closed" else (1, False)), done.err
    assert emulator.batches()[0]["processing_status"] == "in_progress"


def test_a_job_of_before_connections_were_recorded_is_read_over_the_default_one(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration=0.01)
    submit(root, api, records(2), conn_id="")
    done = run("reuse", "build", "--dag", IDENTITY.dag_id)
    assert "isn't defined" not in done.err
    assert done.code == 0, done
