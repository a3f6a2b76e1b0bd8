"""``list``, ``show``, ``whose``, ``cancel`` and ``fetch``."""

from __future__ import annotations

from pathlib import Path

import anthropic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import read_both
from tests.batches.helpers import IDENTITY, records, submit
from tests.cli.conftest import Run

JOB = "reports/scheduled__2026-11-22T00:00:00+00:00/submit/job-1"


def stranger(emulator: Emulator) -> str:
    """A batch that something else submits."""
    client = anthropic.Anthropic(api_key="any", base_url=emulator.url)
    message = {"role": "user", "content": "Hello"}
    params = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [message]}
    requests = [{"custom_id": f"s-{number}", "params": params} for number in range(2)]
    return client.messages.batches.create(requests=requests).id


def test_jobs_are_listed_with_what_is_known_of_them(run: Run, root: Folder, api: BatchesApi) -> None:
    submit(root, api, records(5), per_part=2)
    submit(root, api, records(1), identity=Identity(dag_id="other", run_id="r", task_id="t", map_index=3))
    newest, oldest = run("list", "-o", "json").data
    assert (newest["job"], newest["map_index"]) == ("other/r/t/3/job-1", 3)
    assert (oldest["job"], oldest["state"], oldest["batches"], oldest["requests"]) == (JOB, "waiting", 3, 5)
    table = run("list", "--dag", "reports", "--since", "1h", "--state", "waiting").out
    assert JOB in table
    assert "other" not in table
    for nothing in (("--since", "2031-01-01"), ("--state", "failed"), ("--tag", "team=x"), ("--dag", "repo")):
        assert run("list", *nothing, "-o", "json").data == []
    assert "waiting" in run("list", "--state", "wating").err


def test_batches_that_no_job_claims_are_strangers(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    (mine,), _ = submit(root, api, records(3))
    theirs = stranger(emulator)
    assert [row["batch"] for row in run("list", "--strangers", "-o", "json").data] == [theirs]
    assert run("show", mine, "-o", "json").data["job"].endswith(JOB)
    shown = run("show", theirs)
    assert (shown.code, "something else has submitted it" in shown.err) == (0, True)


def test_a_job_is_shown_with_its_parts_rounds_errors_and_places(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failure = {"custom_ids": ["r-1"], "outcome": "errored", "error_type": "overloaded_error"}
    emulator.settings(outcomes={"failures": [failure]})
    batch_ids, _ = submit(root, api, records(4), per_part=2)
    emulator.end(batch_ids[0])
    before = run("show", JOB, "-o", "json").data
    assert [part["status"] for part in before["parts"]] == ["ended", "in_progress"]
    assert before["parts"][0]["counts"] == {"succeeded": 1, "errored": 1}
    assert run("show", JOB, "--offline", "-o", "json").data["parts"][0]["status"] is None
    emulator.end(batch_ids[1])
    assert run("retry", JOB, "--output", tmp_path / "out").code == 0
    after = run("show", batch_ids[1], "-o", "json").data
    assert (after["state"], after["counts"]) == ("partial", {"succeeded": 3, "errored": 1})
    assert after["output"] == (tmp_path / "out").as_uri()
    assert [(error["error"], error["count"]) for error in after["errors"]] == [("overloaded_error", 1)]
    assert after["cost_usd"] > 0
    table = run("show", JOB).out
    assert "overloaded_error" in table
    assert batch_ids[0] in table


def test_it_says_whose_a_batch_is(run: Run, root: Folder, api: BatchesApi) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    [row] = run("whose", batch_id, "-o", "json").data
    assert (row["dag"], row["run"], row["task"], row["part"]) == (
        IDENTITY.dag_id,
        IDENTITY.run_id,
        IDENTITY.task_id,
        0,
    )
    assert row["job"].endswith(JOB)
    assert run("whose", "msgbatch_nobody").code == 1


def test_a_cancel_asks_first_and_says_what_was_answered(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration=600, cancel_duration=0.2, cancel_finished_share=0.5)
    batch_ids, _ = submit(root, api, records(6), per_part=4)
    emulator.end(batch_ids[0])
    refused = run("cancel", JOB)
    assert (refused.code, "say --yes" in refused.err) == (2, True)
    assert "cancel" not in str(emulator.journal(method="POST"))
    done = run("cancel", JOB, "--yes", "-o", "json")
    assert done.code == 0
    before, now = done.data
    assert (before["batch"], before["result"], before["answered"]) == (batch_ids[0], "had ended before", 4)
    assert (now["batch"], now["result"], now["answered"] + now["canceled"]) == (batch_ids[1], "cancelled", 2)
    again = run("cancel", batch_ids[1], "--yes", "-o", "json").data
    assert again[0]["result"] == "had ended before"


def test_a_stranger_is_cancelled_by_its_id_only(run: Run, root: Folder, emulator: Emulator) -> None:
    Path(root.path).mkdir()
    theirs = stranger(emulator)
    done = run("cancel", theirs, "--yes", "--wait", "0", "-o", "json")
    assert done.data[0]["status"] == "canceling"
    assert "No job" in done.err


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
def test_results_of_any_batch_are_fetched_with_what_is_known_of_it(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: str
) -> None:
    (mine,), _ = submit(root, api, records(3))
    theirs = stranger(emulator)
    out = tmp_path / "out"
    early = run("fetch", mine, "--output", out)
    assert (early.code, "not ended" in early.err, out.exists()) == (3, True, False)
    for batch_id in (mine, theirs):
        emulator.end(batch_id)
    done = run("fetch", mine, theirs, "--output", out, "--format", format, "-o", "json")
    assert (done.code, done.data["counts"]["succeeded"]) == (0, 5)
    assert run("fetch", theirs, "--output", out).code == 2  # another delivery's place
    if format == "jsonl":
        succeeded, _ = read_both(out)
        assert sorted(succeeded) == ["r-0", "r-1", "r-2", "s-0", "s-1"]
        assert succeeded["r-2"]["input"] == {"n": 2}
    if format == "raw":
        assert '"r-0"' in (out / "succeeded" / "part-00000.jsonl").read_text()


HOSTILE = [
    "nobody/r/t/job-1",
    "../../etc/passwd",
    "jobs/../../x",
    "msgbatch_nobody",
    "..",
    "",
    "file:///etc/jobs/x",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
def test_what_is_no_job_is_refused_in_a_line(run: Run, root: Folder, command: str, name: str) -> None:
    Path(root.path).mkdir()
    done = run(command, name, *(["--output", "/nowhere"] if command == "retry" else []))
    assert done.code in (1, 2)
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert [path.name for path in Path(root.path).rglob("*")] == []


@pytest.mark.parametrize("batch_id", ["../x", "msgbatch_1/cancel", "msgbatch_nobody"])
def test_what_is_no_batch_is_fetched_from_nowhere(
    run: Run, root: Folder, tmp_path: Path, batch_id: str
) -> None:
    done = run("fetch", batch_id, "--output", tmp_path / "out")
    assert (done.code, (tmp_path / "out").exists()) == (2, False)
    assert ("does not know" if batch_id == "msgbatch_nobody" else "is no batch id") in done.err


def test_another_storage_path_has_other_jobs(run: Run, root: Folder, api: BatchesApi, tmp_path: Path) -> None:
    submit(root, api, records(1))
    (tmp_path / "empty").mkdir()
    assert run("list", "--storage-path", tmp_path / "empty", "-o", "json").data == []
    assert run("show", JOB, "--storage-path", tmp_path / "empty").code == 1
    nowhere = run("list", "--storage-path", tmp_path / "nowhere")
    assert (nowhere.code, "There is no file://" in nowhere.err) == (2, True)


def test_a_ledger_that_cannot_be_read_hides_no_other_job(run: Run, root: Folder, api: BatchesApi) -> None:
    submit(root, api, records(1))
    submit(root, api, records(1), identity=Identity(dag_id="other", run_id="r", task_id="t"))
    folder = IDENTITY.folder(root).child("job-1")
    folder.write(ledgers.file_name(ledgers.versions(folder)[-1]), b"{")
    done = run("list", "-o", "json")
    assert (done.code, [row["dag"] for row in done.data]) == (2, ["other"])
    assert f"claude-batch adopt --job {folder.url}" in done.err


def lost(root: Folder, api: BatchesApi) -> str:
    """A batch whose job's folder is gone; the claim on it is left."""
    (batch_id,), _ = submit(root, api, records(3))
    root.child("jobs").remove()
    return batch_id


def test_a_batch_whose_job_is_lost_is_listed_shown_and_cancelled_like_a_strangers(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration="manual")
    batch_id = lost(root, api)
    [row] = run("list", "--strangers", "-o", "json").data
    assert (row["batch"], row["lost_job"].endswith(JOB)) == (batch_id, True)
    for done in (run("show", batch_id), run("cancel", batch_id, "--yes", "--wait", "0")):
        assert (done.code, "/job-1, whose ledger is lost. `claude-batch adopt`" in done.err) == (0, True), (
            done
        )
    assert emulator.batches()[0]["processing_status"] == "canceling"


def test_a_batch_whose_jobs_ledger_cannot_be_read_is_shown_and_cancelled(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration="manual")
    (batch_id,), _ = submit(root, api, records(3))
    folder = IDENTITY.folder(root).child("job-1")
    folder.write(ledgers.file_name(ledgers.versions(folder)[-1]), b"{")
    for done in (run("show", batch_id), run("cancel", batch_id, "--yes", "--wait", "0")):
        assert (done.code, "whose ledger says nothing: " in done.err) == (0, True), done


def test_one_batch_that_the_api_does_not_know_keeps_no_other_from_being_cancelled(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration="manual")
    batch_ids, _ = submit(root, api, records(6), per_part=2)
    emulator.delete(batch_ids[0])
    emulator.hide(batch_ids[1], lookups=1)
    done = run("cancel", JOB, "--yes", "--wait", "0", "-o", "json")
    assert (done.code, [row["result"] for row in done.data]) == (
        3,
        ["could not be cancelled", "cancelled", "cancelled"],
    )
    assert "HTTP 404" in done.data[0]["problem"]


def test_what_was_cancelled_is_said_though_the_wait_is_interrupted(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.settings(duration="manual")
    submit(root, api, records(2))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BatchesApi, "retrieve_known", interrupt)
    done = run("cancel", JOB, "--yes", "-o", "json")
    assert (done.code, [row["result"] for row in done.data]) == (130, ["cancelled"])


@pytest.mark.parametrize("since", ["9999999999999d", "1000000d", "0001-01-01"])
@pytest.mark.parametrize("strangers", [(), ("--strangers",)], ids=["jobs", "strangers"])
def test_since_ever_is_since_there_were_batches(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, since: str, strangers: tuple[str, ...]
) -> None:
    submit(root, api, records(1))
    stranger(emulator)
    done = run("list", "--since", since, "-o", "json", *strangers)
    assert (done.code, len(done.data)) == (0, 1), done.err


def test_a_connection_that_is_not_defined_is_no_answer_of_the_api(
    run: Run, root: Folder, api: BatchesApi
) -> None:
    submit(root, api, records(1))
    done = run("show", JOB, "--conn-id", "nobody")
    assert ("The connection 'nobody' isn't defined" in done.err, "HTTP 404" in done.err) == (True, False)
