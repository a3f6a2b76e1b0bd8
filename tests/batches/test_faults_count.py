"""The fault harness finds what it is there to find: each kind of fault is planted, and counted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from airflow_claude_batch.emulator.testing import Emulator
from benchmarks.faults import drive
from benchmarks.faults.count import FAULTS, Count, count
from benchmarks.faults.drive import Job, Run
from benchmarks.faults.plan import FORMATS, Fate, Format, Instant, Places, Spec, draw_fate, draw_specs
from benchmarks.faults.s3 import BUCKET, GIVEN_UP, LATE, S3, start_s3
from benchmarks.faults.world import World

Lines = list[dict[str, object]]


@pytest.fixture
def world(emulator: Emulator) -> World:
    return World(emulator)


class Delivered:
    """One job of three rows that is paid once, and delivered rightly until a test meddles with it."""

    def __init__(self, world: World, folder: Path, format: Format = "jsonl") -> None:
        self.world, self.folder, self.format = world, folder, format
        self.spec = Spec(
            name="j0", deployment="ours", requests=3, store="", output=folder.as_uri(), format=format
        )
        self.batch_id = world.post(self.spec.rows, key="ours")
        lines = world.results(self.batch_id)
        if format != "raw":
            lines = [
                {"custom_id": line["custom_id"], "text": line["result"]["message"]["content"][0]["text"]}
                for line in lines
            ]
        self.write(lines)
        (folder / "summary.json").write_text(json.dumps({"counts": {"total": 3}}))

    @property
    def file(self) -> Path:
        suffix = "parquet" if self.format == "parquet" else "jsonl"
        return self.folder / "succeeded" / f"part-00000.{suffix}"

    def read(self) -> Lines:
        if self.format == "parquet":
            return list(pyarrow.parquet.read_table(self.file).to_pylist())
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def write(self, lines: Lines) -> None:
        self.file.parent.mkdir(exist_ok=True, parents=True)
        if self.format == "parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(lines), self.file)
        else:
            self.file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def count(self, *, stuck: str = "", claims: frozenset[str] = frozenset()) -> Count:
        delivered = [] if stuck else [self.spec]
        folders = {self.spec.output: self.folder}
        return count(delivered, {self.spec: stuck} if stuck else {}, self.world, folders, set(claims))


@pytest.fixture(params=FORMATS)
def job(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Delivered:
    return Delivered(world, tmp_path, request.param)


def figures(**faults: int) -> dict[str, int]:
    return dict.fromkeys(FAULTS, 0) | {name.replace("_", " "): number for name, number in faults.items()}


def test_a_job_that_is_paid_once_and_delivered_rightly_counts_for_nothing(job: Delivered) -> None:
    found = job.count()
    assert found.figures == figures()
    assert found.clean
    assert not found.notes


def test_rows_that_two_batches_have_answered_are_paid_twice(job: Delivered) -> None:
    job.world.post(dict(list(job.spec.rows.items())[:2]), key="ours")
    found = job.count()
    assert found.figures == figures(paid_twice=2)
    assert not found.clean


def test_the_second_batch_counts_under_another_mark_and_of_another_deployment_does_not(
    job: Delivered,
) -> None:
    rows = job.spec.rows
    job.world.post({"j0-0_abcdefghij": rows["j0-0"]}, key="ours")
    job.world.post({custom_id: prompt.replace("ours", "theirs") for custom_id, prompt in rows.items()})
    assert job.count().figures == figures(paid_twice=1)


def test_a_cancelled_second_batch_is_not_paid(job: Delivered) -> None:
    job.world.emulator.settings(cancel_finished_share=0.0)
    batch_id = job.world.post(job.spec.rows, key="ours")
    job.world._call("POST", f"/v1/messages/batches/{batch_id}/cancel", "ours", {})
    assert job.count().figures == figures()


@pytest.mark.parametrize("rows", ["swapped", "doubled", "unknown"])
def test_an_answer_at_another_row_is_a_wrong_row(job: Delivered, rows: str) -> None:
    lines = job.read()
    first, second, third = (line["custom_id"] for line in lines)
    if rows == "swapped":
        ids = [second, first, third]
    elif rows == "doubled":
        lines, ids = [*lines, lines[0]], [first, second, third, first]
    else:
        lines, ids = [*lines, lines[0]], [first, second, third, "j0-99"]
    job.write([{**line, "custom_id": custom_id} for line, custom_id in zip(lines, ids, strict=True)])
    assert job.count().figures == figures(wrong_rows=2 if rows == "swapped" else 1)


def test_a_strangers_answer_is_a_wrong_row(job: Delivered) -> None:
    job.world.add_stranger(job.spec)
    [stranger] = job.world.strangers
    theirs = job.world.results(stranger)[0]["result"]["message"]
    lines = job.read()
    if job.format == "raw":
        lines[0]["result"] = {"type": "succeeded", "message": theirs}
    else:
        lines[0]["text"] = theirs["content"][0]["text"]
    job.write(lines)
    assert job.count().figures == figures(wrong_rows=1)


def test_a_file_that_cannot_be_read_is_a_fault_and_not_the_end(job: Delivered) -> None:
    job.file.write_bytes(job.file.read_bytes()[:-20])
    assert job.count().figures == figures(wrong_rows=3)


def test_a_row_that_came_out_nowhere_is_lost(job: Delivered) -> None:
    job.write(job.read()[:-1])
    assert job.count().figures == figures(lost=1)


def test_a_row_that_was_answered_and_came_out_as_failed_is_lost(world: World, tmp_path: Path) -> None:
    job = Delivered(world, tmp_path)
    first, *rest = job.read()
    job.write(rest)
    errored = tmp_path / "errored" / "part-00000.jsonl"
    errored.parent.mkdir()
    errored.write_text(json.dumps({"custom_id": first["custom_id"], "outcome": "expired"}) + "\n")
    assert job.count().figures == figures(lost=1)


def test_a_row_that_nobody_answered_may_come_out_as_failed(world: World, tmp_path: Path) -> None:
    world.emulator.settings(outcomes={"expired": 1.0})
    job = Delivered.__new__(Delivered)
    job.world, job.folder, job.format = world, tmp_path, "jsonl"
    job.spec = Spec(name="j0", deployment="ours", requests=1, store="", output=tmp_path.as_uri())
    world.post(job.spec.rows, key="ours")
    (tmp_path / "errored").mkdir()
    (tmp_path / "errored" / "part-00000.jsonl").write_text('{"custom_id": "j0-0", "outcome": "expired"}\n')
    (tmp_path / "summary.json").write_text('{"counts": {"total": 1}}')
    assert job.count().figures == figures()


def test_a_summary_that_counts_too_few_is_a_loss(job: Delivered) -> None:
    (job.folder / "summary.json").write_text(json.dumps({"counts": {"total": 2}}))
    assert job.count().figures == figures(lost=1)


def test_a_job_that_has_not_delivered_is_stuck(job: Delivered) -> None:
    found = job.count(stuck="it said no")
    assert found.figures == figures(stuck=1)
    assert "it said no" in found.notes[0]


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_stranger_that_somebody_wants_to_cancel_or_delete_is_touched(
    world: World, tmp_path: Path, ended: bool
) -> None:
    job = Delivered(world, tmp_path)
    for _ in range(3):
        world.add_stranger(job.spec)
    path = "/v1/messages/batches/"
    cancelled, deleted, _ = world.strangers
    world.emulator.settings(duration="manual")
    world.emulator.end(deleted)
    if ended:  # the attempt counts, though the API refuses it
        world.emulator.end(cancelled)
        with pytest.raises(OSError, match="400"):
            world._call("POST", f"{path}{cancelled}/cancel", "ours", {})
    else:
        world._call("POST", f"{path}{cancelled}/cancel", "ours", {})
    assert job.count().figures == figures(strangers_touched=1)
    world._call("DELETE", path + deleted, "ours")
    assert job.count().faults["strangers touched"] > 1


def test_a_stranger_that_a_deployment_claims_is_touched(job: Delivered) -> None:
    job.world.add_stranger(job.spec)
    assert job.count(claims=frozenset(job.world.strangers)).figures == figures(strangers_touched=1)
    assert job.count(claims=frozenset({job.batch_id})).figures == figures()


def test_a_stranger_has_the_ids_and_the_size_of_the_jobs_newest_batch(job: Delivered) -> None:
    job.world.post({"j0-1_abcdefghij": "ours j0 asks 1.", "j0-2": "ours j0 asks 2."}, key="ours")
    job.world.add_stranger(job.spec)
    assert job.world.emulator.custom_ids(job.world.strangers[0]) == ["j0-1", "j0-2"]


# The processes, and what hits them


@pytest.fixture
def run(world: World, tmp_path: Path) -> Run:
    return Run(world=world, specs=iter([]), wanted=0, chance=random.Random(1), s3=None, logs=str(tmp_path))


def in_place_of_work(
    monkeypatch: pytest.MonkeyPatch, behave: Callable[[], dict[str, object]], fate: Fate
) -> None:
    """Processes that do something else than work, and all meet the same fate."""
    monkeypatch.setattr("benchmarks.faults.worker.work", lambda task, s3: behave())
    monkeypatch.setattr(drive, "draw_fate", lambda *_: fate)
    monkeypatch.setattr(drive, "OTHERS_STRUCK", 1.0)
    monkeypatch.setattr(drive, "STUCK_SECONDS", 1.0)


def only_job(run: Run, wanted: int) -> Job:
    run.wanted = wanted
    run.jobs = [Job(spec=Spec(name="j1", deployment="ours", requests=1, store="", output=""))]
    run.jobs[0].quiet_since = time.monotonic()
    return run.jobs[0]


def sleep_long() -> dict[str, object]:
    time.sleep(30)
    return {"kind": "done"}


def refused() -> dict[str, object]:
    return {"kind": "AirflowFailException", "message": "final"}


def test_a_kill_amid_the_work_counts_and_the_next_try_follows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_work(monkeypatch, sleep_long, Fate(after=0.0))
    job = only_job(run, wanted=2)
    assert run.run(time.monotonic() + 20)
    assert run.kills == {"submit, random": 2}
    assert (job.kills, job.try_number) == (2, 4)
    assert "undisturbed" in job.failed  # nothing kills the third, which sleeps


def test_a_kill_that_comes_after_the_work_counts_for_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def flush(self) -> None:
            time.sleep(30)

    def linger() -> dict[str, object]:
        sys.stdout = Slow()  # the process says what came out, and does not end
        return {"kind": "done"}

    def no_more() -> Iterator[list[Spec]]:
        run.wanted = 0
        yield []

    in_place_of_work(monkeypatch, linger, Fate(after=0.3))
    job = only_job(run, wanted=1)
    run.specs = no_more()
    assert run.run(time.monotonic() + 20)
    assert job.delivered
    assert (run.hits, run.missed) == (0, 1)


def test_a_job_that_fails_for_good_is_stuck(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_work(monkeypatch, refused, Fate())
    job = only_job(run, wanted=0)
    assert run.run(time.monotonic() + 20)
    assert job.failed == "final"


def test_a_frozen_process_wakes_and_what_it_says_counts_for_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def freeze_once() -> dict[str, object]:
        marker = Path(run.logs, "frozen")
        if marker.exists():
            return {"kind": "done"}
        marker.touch()
        os.kill(os.getpid(), signal.SIGSTOP)
        return {"kind": "AirflowFailException", "message": "from a process that was given up"}

    in_place_of_work(monkeypatch, freeze_once, Fate())
    monkeypatch.setattr(drive, "LONGEST_FREEZE", 0.4)
    job = only_job(run, wanted=0)
    assert run.run(time.monotonic() + 20)
    assert run.freezes == 1
    assert job.delivered
    assert not job.failed


def test_equal_seeds_make_equal_plans() -> None:
    places = Places(local="file:///x", s3="s3://x")

    def plan(seed: int) -> tuple[list[list[Spec]], list[Fate]]:
        jobs, chance = draw_specs(seed, frozenset(), places), random.Random(seed)
        specs = [next(jobs) for _ in range(30)]
        return specs, [draw_fate(chance, some[0], "deliver") for some in specs]

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    specs, fates = plan(1)
    assert {spec.format for some in specs for spec in some} == set(FORMATS)
    assert {tag for some in specs for spec in some for tag in spec.tags} >= {"s3", "twins", "clock"}
    assert any(isinstance(fate.instant, Instant) for fate in fates)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with start_s3() as server:
        assert server.shared.ls(BUCKET) == []  # the first call takes long
        yield server


@pytest.mark.parametrize("gives_up", [False, True], ids=["killed", "given up"])
def test_a_late_put_is_written_when_its_client_is_gone(s3: S3, gives_up: bool) -> None:
    name = f"{BUCKET}/late-{gives_up}"
    headers = {LATE: "2", **({GIVEN_UP: "yes"} if gives_up else {})}
    body = f"""
import http.client
connection = http.client.HTTPConnection({s3.url.removeprefix("http://")!r})
connection.request("PUT", "/{name}", b"data", {headers})
print("sent", flush=True)
print(connection.getresponse().status, flush=True)
"""
    client = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)
    assert client.stdout
    assert client.stdout.readline() == "sent\n"
    if gives_up:
        assert client.stdout.readline() == "500\n"
    else:
        time.sleep(0.2)
        client.kill()
    client.wait()
    assert s3.pending() == [f"/{name}"]
    with pytest.raises(FileNotFoundError):
        s3.shared.cat_file(name)
    while s3.pending():
        time.sleep(0.05)
    assert s3.shared.cat_file(name) == b"data"


@pytest.mark.parametrize("arguments", [["--only", "nothing"], ["--keep", "."]])
def test_what_the_harness_cannot_do_is_no_verdict(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", *arguments]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2
