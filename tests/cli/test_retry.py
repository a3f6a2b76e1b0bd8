"""``retry``: what failed is sent again, and the output is whole afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import MESSAGES, Emulator
from tests.batches.delivering import read_both
from tests.batches.direct.calling import calls, start_direct
from tests.batches.helpers import IDENTITY, creates, records, sent_ids, started, submit
from tests.cli.conftest import Run

JOB = "reports/scheduled__2026-11-22T00:00:00+00:00/submit/job-1"
FAILURES = [
    {"custom_ids": ["r-1"], "outcome": "errored", "error_type": "authentication_error", "tries": 1},
    {"custom_ids": ["r-2"], "outcome": "errored", "error_type": "invalid_request_error", "tries": 1},
    {"custom_ids": ["r-3"], "outcome": "expired", "tries": 1},
]


@pytest.fixture
def out(run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path) -> Path:
    """A job of two batches that was delivered with three failures."""
    emulator.settings(outcomes={"failures": FAILURES}, duration=0.01)
    submit(root, api, records(5), per_part=3)
    done = run("retry", JOB, "--output", tmp_path / "out", "--poll-interval", "0.1")
    assert (done.code, creates(emulator)) == (0, 2)
    return tmp_path / "out"


def test_what_is_asked_for_is_sent_again_and_merged_into_the_output(
    run: Run, emulator: Emulator, out: Path
) -> None:
    asked = run("retry", JOB, "--only", "errored", "expired")
    assert (asked.code, "Send up to 3 of 5 requests again" in asked.err) == (2, True)
    done = run("retry", JOB, "--only", "errored", "expired", "--yes", "--poll-interval", "0.1", "-o", "json")
    assert done.code == 0
    assert sent_ids(emulator, emulator.batches()[-1]["id"]) == {"r-1", "r-3"}
    succeeded, errored = read_both(out)
    assert (sorted(succeeded), sorted(errored)) == (["r-0", "r-1", "r-3", "r-4"], ["r-2"])
    assert succeeded["r-3"]["input"] == {"n": 3}
    assert json.loads((out / "summary.json").read_text()) == done.data
    assert (done.data["rounds"], done.data["counts"]["total"]) == (2, 5)
    assert run("retry", JOB, "--only", "expired", "--yes").code == 1
    assert creates(emulator) == 3


def test_ids_of_a_file_are_sent_whatever_they_failed_of_and_answers_are_left_alone(
    run: Run, emulator: Emulator, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "ids").write_text("r-2\nr-0\nnobody\n")
    done = run("retry", JOB, "--only", "ids", tmp_path / "ids", "--yes", "--poll-interval", "0.1")
    assert (done.code, "2 of the ids are not sent" in done.err) == (0, True)
    assert sent_ids(emulator, emulator.batches()[-1]["id"]) == {"r-2"}
    assert sorted(read_both(out)[1]) == ["r-1", "r-3"]


def test_what_was_sent_without_waiting_is_gone_on_with(run: Run, emulator: Emulator, out: Path) -> None:
    sent = run("retry", JOB, "--only", "expired", "--yes", "--no-wait")
    assert (sent.code, f"claude-batch retry {JOB}" in sent.out) == (0, True)
    assert run("retry", JOB, "--poll-interval", "0.1").code == 0
    assert sorted(read_both(out)[1]) == ["r-1", "r-2"]
    assert creates(emulator) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--only", "overloaded"], 2, "it takes errored, expired"),
        (["--only", "invalid", "--yes"], 1, "No request"),
        (["--only", "ids", "/nowhere/ids"], 2, "FileNotFoundError"),
    ],
)
def test_a_retry_that_cannot_be_says_why(
    run: Run, emulator: Emulator, out: Path, arguments: list[str], code: int, words: str
) -> None:
    done = run("retry", JOB, *arguments)
    assert (done.code, words in done.err, creates(emulator)) == (code, True, 2)


def test_a_job_that_a_worker_is_at_work_on_is_not_disturbed(run: Run, root: Folder, out: Path) -> None:
    with lease.hold(IDENTITY.folder(root)):
        assert run("retry", JOB, "--only", "expired", "--yes").code == 3


def test_what_a_budget_has_no_room_for_is_not_sent_again_until_it_is_raised(
    run: Run, emulator: Emulator, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retry = ("retry", JOB, "--only", "expired", "--yes", "--poll-interval", "0.1")
    for usd, said, failed in (
        (0.000001, "Not sent again: 1 requests", ["r-1", "r-2", "r-3"]),
        (1, "", ["r-1", "r-2"]),
    ):
        monkeypatch.setenv(
            "AIRFLOW__CLAUDE_BATCH__BUDGETS", f'[{{"max_usd": {usd}, "per": "day", "scope": "all"}}]'
        )
        done = run(*retry)
        assert (said in done.err, "a day for all has $0.0" in done.err) == (True, bool(said)), done.err
        assert sorted(read_both(out)[1]) == failed
    assert creates(emulator) == 3


def test_a_job_that_was_stored_without_an_estimate_is_held_to_a_budget_for_one_too(
    run: Run, root: Folder, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(root, records(3)):
        pass
    budgets = '[{"max_usd": 0.0000001, "per": "job", "scope": "all"}]'
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGETS", budgets)
    done = run("retry", JOB, "--output", tmp_path / "out")
    assert (done.code, "above max_usd=1e-07. Nothing was sent" in done.err) == (2, True), done.err
    assert creates(emulator) == 0


def test_a_job_of_single_calls_is_left_as_it_is(
    run: Run, root: Folder, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("status", path=MESSAGES, times=1, status=400, message="max_tokens: too high")
    url = start_direct(root, records(5), per_part=3)
    with open_job(root, url) as job:
        calls(job, emulator.url).run()
    assert run("retry", JOB, "--output", tmp_path / "out").code == 0
    before = run("show", JOB, "-o", "json").data
    (tmp_path / "ids").write_text("\n".join(read_both(tmp_path / "out")[1]))
    done = run("retry", JOB, "--only", "ids", tmp_path / "ids", "--yes")
    assert (done.code, "Nothing was sent or changed" in done.err) == (2, True), done.err
    assert run("show", JOB, "-o", "json").data == before


def test_a_file_without_ids_is_named(run: Run, out: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("\n")
    done = run("retry", JOB, "--only", "ids", tmp_path / "ids", "--yes")
    assert (done.code, f"{tmp_path}/ids: the file names no custom_id" in done.err) == (2, True), done.err


def test_where_nobody_is_there_to_answer_nothing_is_delivered_first(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    submit(root, api, records(2))
    done = run("retry", JOB, "--only", "errored", "--output", tmp_path / "out", "--poll-interval", "0.1")
    assert (done.code, "say --yes. Nothing was done" in done.err) == (2, True), done.err
    assert not (tmp_path / "out").exists()


def test_a_part_that_was_given_up_is_asked_for_as_a_whole(
    run: Run, emulator: Emulator, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = '[{"max_usd": 0.000001, "per": "day", "scope": "all"}]'
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGETS", budgets)
    retry = ("retry", JOB, "--yes", "--poll-interval", "0.1", "--only")
    assert "Not sent again: 2 requests" in run(*retry, "errored", "expired").err
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__BUDGETS")
    (tmp_path / "ids").write_text("r-1\n")
    refused = run(*retry, "ids", tmp_path / "ids")
    assert (refused.code, "1 of its 2 requests are asked for" in refused.err) == (2, True), refused.err
    assert creates(emulator) == 2
    (tmp_path / "ids").write_text("r-1\nr-3\n")
    assert run(*retry, "ids", tmp_path / "ids").code == 0
    assert sorted(read_both(out)[1]) == ["r-2"]


def test_what_was_reused_is_not_in_the_estimate_of_what_is_sent_again(
    run: Run, root: Folder, out: Path
) -> None:
    with open_job(root, f"{root.url}/jobs/{JOB}") as job, job.change() as ledger:
        ledger.estimate = {"requests": 2, "total_usd": 0.5}
    assert "Send up to 1 of 5 requests again, about $0.2500?" in run("retry", JOB, "--only", "expired").err


@pytest.mark.parametrize(
    ("text", "problem"),
    [("def f(:\n", "SyntaxError: "), ("import no_such_module\n", "ModuleNotFoundError: ")],
)
def test_a_check_whose_file_has_an_error_is_said_in_a_line(
    run: Run, out: Path, tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "checks.py").write_text(text)
    done = run("retry", JOB, "--check", tmp_path / "checks.py:f")
    assert (done.code, f"the file cannot be loaded: {problem}" in done.err) == (2, True), done.err
