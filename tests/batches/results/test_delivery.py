"""Delivery as a whole: records, counts, verdict, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch import __version__
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import (
    ConfigurationError,
    LostOwnershipError,
    ResultsTooLargeError,
    TooManyFailuresError,
)
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output.inline import Inline
from airflow_claude_batch.batches.results.summarise import judge
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import contents, deliver, delivery_to, read_both, submit_all
from tests.batches.helpers import records
from tests.batches.s3 import S3
from tests.harness.processes import wait_until


def result_line(custom_id: str, result: dict[str, Any]) -> dict[str, Any]:
    return {"text": json.dumps({"custom_id": custom_id, "result": result})}


def test_unknown_types_are_delivered_whole_as_errored(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(4))
    paused = {"type": "paused", "until": "tomorrow"}
    new_error = {"type": "error", "error": {"type": "moon_error", "message": "full"}, "request_id": "req_1"}
    odd_message = {"type": "succeeded", "message": {"content": "not a list"}}
    lines = [
        result_line("r-0", paused),
        result_line("r-1", {"type": "errored", "error": new_error}),
        result_line("r-2", odd_message),
    ]
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert (summary["counts"]["succeeded"], summary["counts"]["errored"]) == (1, 3)
    _, errored = read_both(tmp_path / "out")
    assert errored["r-0"]["result"] == paused
    assert "'paused'" in errored["r-0"]["message"]
    assert (errored["r-1"]["error_type"], errored["r-1"]["request_id"]) == ("moon_error", "req_1")
    assert "result" not in errored["r-1"]
    assert errored["r-2"]["result"] == odd_message


def test_an_errored_record_says_what_support_wants_to_know(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failure = {"custom_ids": ["r-0"], "error_type": "overloaded_error", "message": "Overloaded"}
    emulator.settings(outcomes={"failures": [failure]})
    url = submit_all(root, api, records(2))
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    record = read_both(tmp_path / "out")[1]["r-0"]
    assert record.pop("request_id").startswith("req_")
    assert len(record.pop("request_digest")) == 32
    assert record == {
        "custom_id": "r-0",
        "outcome": "errored",
        "error_type": "overloaded_error",
        "message": "Overloaded",
        "retryable": True,
        "rounds": 1,
        "input": {"n": 0},
        "cost_usd": None,
        "model": None,
        "prompt_version": None,
        "version": __version__,
    }


def test_refusals_and_cut_answers_are_counted_apart_and_fail_only_on_request(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failures = [
        {"custom_ids": ["r-0"], "outcome": "refusal"},
        {"custom_ids": ["r-1"], "outcome": "max_tokens"},
    ]
    emulator.settings(answer_bytes=40, outcomes={"failures": failures})
    url = submit_all(root, api, records(4))
    summary = deliver(root, url, delivery_to(tmp_path / "a", api), emulator)
    assert summary["counts"]["succeeded"] == 4
    assert summary["stop_reasons"] == {"end_turn": 2, "max_tokens": 1, "refusal": 1}

    reading = Reading(count_as_failed=("refusal",))
    summary = deliver(root, url, delivery_to(tmp_path / "b", api, reading=reading), emulator)
    assert (summary["counts"]["succeeded"], summary["counts"]["invalid"]) == (3, 1)
    record = read_both(tmp_path / "b")[1]["r-0"]
    assert (record["outcome"], record["error_type"]) == ("invalid", "refusal")
    assert record["result"]["message"]["stop_reason"] == "refusal"
    assert record["cost_usd"] > 0


def test_the_whole_message_comes_along_on_request(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(2))
    delivery = delivery_to(tmp_path / "out", api, reading=Reading(include_message=True))
    deliver(root, url, delivery, emulator)
    record = read_both(tmp_path / "out")[0]["r-0"]
    assert record["message"]["content"][0]["text"] == record["text"]
    assert record["message"]["usage"] == record["usage"]


def test_everything_errored_is_delivered_before_the_verdict_fails(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"errored": {"invalid_request_error": 0.7, "not_found_error": 0.3}})
    url = submit_all(root, api, records(50))
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=1), emulator)
    assert len(read_both(tmp_path / "out")[1]) == 50
    assert (tmp_path / "out" / "summary.json").exists()
    with pytest.raises(TooManyFailuresError, match=r"50 of 50 .*nothing succeeded.*x invalid_request_error"):
        judge(summary, max_failed_fraction=1.0)


@pytest.mark.parametrize(("allowed", "fails"), [(0.0, True), (0.19, True), (0.2, False), (1.0, False)])
def test_the_verdict_compares_the_failed_share(allowed: float, fails: bool) -> None:
    counts = {"total": 10, "succeeded": 8, "errored": 2, "canceled": 0}
    summary = {"counts": counts, "errors": {"api_error": 2}, "errored_path": "s3://b/errored"}
    if fails:
        with pytest.raises(TooManyFailuresError, match=r"2 x api_error.*s3://b/errored"):
            judge(summary, allowed)
    else:
        judge(summary, allowed)


def test_batches_of_somebody_else_are_delivered_without_a_join(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failure = {"custom_ids": ["r-3"], "error_type": "overloaded_error"}
    emulator.settings(outcomes={"failures": [failure]})
    submit_all(root, api, records(10), per_part=6)
    batch_ids = [batch["id"] for batch in emulator.batches()]
    for batch_id in batch_ids:
        emulator.end(batch_id)
    emulator.fault("cut_results", times=2, fraction=0.4)
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=3)
    summary = delivery.deliver_batches(batch_ids)
    assert (summary["counts"]["total"], summary["counts"]["succeeded"]) == (10, 9)
    assert summary["job"] is None
    assert summary["cost"]["total_usd"] > 0
    assert len(emulator.batches()) == 2
    succeeded, _ = read_both(tmp_path / "out")
    assert succeeded["r-1"]["input"] is None


def test_inline_records_come_in_the_order_of_parts_and_keep_to_their_limit(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    failure = {"custom_ids": ["r-1"], "error_type": "overloaded_error", "tries": 1}
    emulator.settings(answer_bytes=30, outcomes={"failures": [failure]})
    url = submit_all(root, api, records(6), per_part=2)
    delivery = Delivery(api=api, output=Inline(100_000), resubmit_rounds=1)
    value = deliver(root, url, delivery, emulator)
    assert value["counts"]["succeeded"] == len(value["succeeded"]) == 6
    assert value["succeeded"][-1]["custom_id"] == "r-1"
    assert value["succeeded_path"] is None
    with pytest.raises(ResultsTooLargeError, match="output_path"):
        deliver(root, url, Delivery(api=api, output=Inline(500)), emulator)


def test_a_directory_of_another_job_is_not_overwritten_unasked(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    first = submit_all(root, api, records(3))
    deliver(root, first, delivery_to(tmp_path / "out", api), emulator)
    before = contents(tmp_path / "out") | {"summary": (tmp_path / "out" / "summary.json").read_bytes()}
    other = Identity(dag_id="reports", run_id="next", task_id="submit")
    second = submit_all(root, api, records(4, "Translate"), identity=other)

    with pytest.raises(ConfigurationError, match=r"output_path of its own.*overwrite=True") as refused:
        deliver(root, second, delivery_to(tmp_path / "out", api), emulator)
    assert first in str(refused.value)
    assert second in str(refused.value)
    after = contents(tmp_path / "out") | {"summary": (tmp_path / "out" / "summary.json").read_bytes()}
    assert after == before
    batch_ids = [batch["id"] for batch in emulator.batches()]
    with pytest.raises(ConfigurationError, match="the batches msgbatch_"):
        delivery_to(tmp_path / "out", api).deliver_batches(batch_ids)

    output = open_directory(Folder.at((tmp_path / "out").as_uri()), overwrite=True)
    summary = deliver(root, second, delivery_to(tmp_path / "out", api, output=output), emulator)
    assert summary["job"] == second
    assert len(read_both(tmp_path / "out")[0]) == 4
    with pytest.raises(ConfigurationError):
        deliver(root, first, delivery_to(tmp_path / "out", api), emulator)


def test_a_directory_that_another_job_is_filling_is_refused_before_it_has_a_summary(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    first = submit_all(root, api, records(3))
    with open_job(root, first) as job:
        delivery_to(tmp_path / "out", api).begin(job, 1)
    other = Identity(dag_id="reports", run_id="next", task_id="submit")
    second = submit_all(root, api, records(4, "Translate"), identity=other)
    with pytest.raises(ConfigurationError, match="is being filled"):
        deliver(root, second, delivery_to(tmp_path / "out", api), emulator)
    assert deliver(root, first, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 3
    assert "_delivery.json" not in contents(tmp_path / "out")


def test_a_newer_job_of_the_same_task_instance_replaces_what_the_older_one_delivered(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    deliver(root, submit_all(root, api, records(3)), delivery_to(tmp_path / "out", api), emulator)
    newer = submit_all(root, api, records(4, "Translate"), generation=2)
    assert newer.endswith("/job-2")
    summary = deliver(root, newer, delivery_to(tmp_path / "out", api), emulator)
    assert (summary["job"], summary["counts"]["succeeded"]) == (newer, 4)


def test_batches_of_somebody_else_are_delivered_again_to_the_same_place_but_not_others(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    submit_all(root, api, records(6), per_part=3)
    first, second = [batch["id"] for batch in emulator.batches()]
    for batch_id in (first, second):
        emulator.end(batch_id)
    for _ in range(2):
        summary = delivery_to(tmp_path / "out", api).deliver_batches([first])
        assert summary["counts"]["succeeded"] == 3
    with pytest.raises(ConfigurationError, match=f"{first}.*{second}"):
        delivery_to(tmp_path / "out", api).deliver_batches([second])


KILLED = """
import sys, threading, os, signal
import anthropic
from pathlib import Path
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.storage import Folder
from tests.batches.s3 import S3
from tests.batches.delivering import delivery_to

base, storage, url, out = sys.argv[1:]
api = BatchesApi(anthropic.Anthropic(api_key="test-key", base_url=base))
root = Folder.at(storage)
with open_job(root, url) as job:
    delivery = delivery_to(Path(out), api)
    delivery.output.parts_at_a_time = 1
    delivery.begin(job, 1)
    print("writing", flush=True)
    delivery.deliver_ended(job)
    print("done", flush=True)
"""


@pytest.mark.parametrize("files", [1, 3, 4])
def test_a_kill_9_during_writing_and_a_retry_give_the_bytes_of_an_undisturbed_run(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, files: int
) -> None:
    url = submit_all(root, api, records(6000), per_part=1500)
    for batch in emulator.batches():
        emulator.end(batch["id"])
    deliver(root, url, delivery_to(tmp_path / "undisturbed", api), emulator)

    out = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, emulator.url, root.url, url, str(out)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    wait_until(
        lambda: len(list(out.rglob("part-*"))) >= files or process.poll() is not None,
        30,
        f"{files} files",
        poll=0.001,
    )
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "summary.json").exists()

    summary = deliver(root, url, delivery_to(out, api), emulator)
    assert summary["counts"]["succeeded"] == 6000
    assert contents(out) == contents(tmp_path / "undisturbed")


class FailingFile:
    """A file of a store that fails after some bytes."""

    def __init__(self, file: Any, left: list[int]) -> None:
        self._file, self._left = file, left

    def __enter__(self) -> FailingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> int:
        self._left[0] -= len(data)
        if self._left[0] < 0:
            raise OSError(28, "No space left on device")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_storage_that_fails_amidst_writing_leaves_no_partial_file_and_a_retry_goes_on(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = submit_all(root, api, records(4000), per_part=1000)
    deliver(root, url, delivery_to(tmp_path / "undisturbed", api), emulator)

    out = Folder.at((tmp_path / "out").as_uri())
    left = [1_500_000]
    open_ = out.fs.open

    def failing_open(path: str, mode: str = "rb", **options: Any) -> Any:
        file = open_(path, mode, **options)
        return FailingFile(file, left) if "w" in mode else file

    with monkeypatch.context() as disk:
        disk.setattr(out.fs, "open", failing_open)
        delivery = Delivery(api=api, output=open_directory(out))
        with open_job(root, url) as job, pytest.raises(OSError, match="No space left"):
            delivery.deliver_ended(job)
    assert not list((tmp_path / "out").rglob("*.tmp-*"))
    assert not (tmp_path / "out" / "summary.json").exists()

    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_object_storage_that_fails_amidst_an_upload_shows_nothing_partial_and_a_retry_goes_on(
    root: Folder, api: BatchesApi, emulator: Emulator, s3: S3, tmp_path: Path
) -> None:
    emulator.settings(answer_bytes_by_id={f"r-{number}": 12_000 for number in range(2000)})
    url = submit_all(root, api, records(2000), per_part=1000)
    deliver(root, url, delivery_to(tmp_path / "undisturbed", api), emulator)

    out = s3.folder(tmp_path.name)
    uploaded: list[str] = []

    def fails(request: dict[str, Any]) -> bool:
        """After the first block of a file of some, and from then on."""
        if request["REQUEST_METHOD"] == "PUT" and "partNumber" in request["QUERY_STRING"]:
            uploaded.append(request["PATH_INFO"])
        return len(uploaded) > 1

    s3.fails = fails
    with open_job(root, url) as job, pytest.raises(OSError, match="Unavailable"):
        Delivery(api=api, output=open_directory(out)).deliver_ended(job)
    s3.fails = lambda request: False
    assert uploaded
    # The small file of the errored ones may be there before the other fails: whole.
    assert set(out.names()) <= {"_delivery.json", "errored"}
    errored = {f"errored/{name}": out.child("errored").read(name) for name in out.child("errored").names()}
    assert errored.items() <= contents(tmp_path / "undisturbed").items()

    deliver(root, url, Delivery(api=api, output=open_directory(out)), emulator)
    stored = {name: out.read(name) for name in contents(tmp_path / "undisturbed")}
    assert stored == contents(tmp_path / "undisturbed")


def test_a_worker_that_wakes_after_its_successor_has_finished_leaves_its_summary(
    emulator: Emulator, api: BatchesApi, root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = submit_all(root, api, records(3))
    sleeper = delivery_to(tmp_path / "out", api)
    begin = sleeper.output.begin

    def begin_late(*inputs: Any) -> bytes | None:
        """Frozen between the check and the first change, while another worker delivers."""
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
        return begin(*inputs)

    monkeypatch.setattr(sleeper.output, "begin", begin_late)
    with open_job(root, url) as job:
        sleeper.begin(job, 1)
        emulator.end(emulator.batches()[0]["id"])
        with pytest.raises(LostOwnershipError):
            sleeper.deliver_ended(job)
    assert json.loads((tmp_path / "out/summary.json").read_text())["counts"]["succeeded"] == 3
    assert not list((tmp_path / "out").glob("*.tmp-*"))
