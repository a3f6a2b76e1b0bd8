"""``accept``: what never comes is done without, once a person has said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_claude_batch.batches.api import client
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.results import download
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import RESULTS, Emulator
from tests.batches.delivering import read_both
from tests.batches.helpers import IDENTITY, creates, records, submit
from tests.cli.conftest import Run

JOB = "reports/scheduled__2026-11-22T00:00:00+00:00/submit/job-1"


@pytest.fixture
def batches(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Two batches that have ended; the line of one request of each is damaged for good."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)
    emulator.settings(duration=0.01)
    batch_ids, _ = submit(root, api, records(10), per_part=5)
    of_these = "|".join(batch_ids)
    emulator.fault("damage_lines", times=None, path=of_these, custom_ids=["r-1", "r-8"])
    return batch_ids


def downloads(emulator: Emulator) -> int:
    return len(emulator.journal(method="GET", path=RESULTS))


def test_the_command_of_the_error_lets_the_others_be_delivered(
    run: Run, emulator: Emulator, batches: list[str], tmp_path: Path
) -> None:
    deliver = "retry", JOB, "--output", tmp_path / "out", "--poll-interval", "0.1"
    failed = run(*deliver)
    assert (failed.code, "claude-batch accept" in failed.err, "--part 0" in failed.err) == (3, True, True)
    before = downloads(emulator)
    asked = run("accept", JOB)
    assert (asked.code, "Deliver without these 2 of 10 results?" in asked.err) == (2, True)
    done = run("accept", JOB, "--yes", "-o", "json")
    assert [(row["part"], row["batch"], row["without_result"]) for row in done.data] == [
        (0, batches[0], 1),
        (1, batches[1], 1),
    ]
    assert Path(done.data[0]["custom_ids"].removeprefix("file://")).read_text() == '{"custom_id":"r-1"}\n'
    assert "--only errored" in done.err
    assert downloads(emulator) == before, "the delivery has noted it"
    assert run(*deliver).code == 0
    succeeded, errored = read_both(tmp_path / "out")
    assert (len(succeeded), sorted(errored)) == (8, ["r-1", "r-8"])
    assert creates(emulator) == 2

    again = run("retry", JOB, "--only", "errored", "--yes", "--poll-interval", "0.1")
    assert (again.code, "2 requests are sent again" in again.err) == (0, True)
    assert sorted(read_both(tmp_path / "out")[0]) == [f"r-{number}" for number in range(10)]
    assert creates(emulator) == 3


def test_where_no_delivery_has_noted_anything_the_command_looks_itself(
    run: Run, emulator: Emulator, batches: list[str], tmp_path: Path
) -> None:
    done = run("accept", JOB, "--part", "1", "--yes", "-o", "json")
    assert [(row["part"], row["without_result"]) for row in done.data] == [(1, 1)]
    failed = run("retry", JOB, "--output", tmp_path / "out", "--poll-interval", "0.1")
    assert (failed.code, "--part 0" in failed.err, "more part" in failed.err) == (3, True, False)
    assert run("accept", batches[0], "--yes").code == 0
    assert run("retry", JOB, "--poll-interval", "0.1", "--output", tmp_path / "out").code == 0
    assert sorted(read_both(tmp_path / "out")[1]) == ["r-1", "r-8"]


def test_where_all_comes_there_is_nothing_to_accept(
    run: Run, root: Folder, emulator: Emulator, batches: list[str]
) -> None:
    emulator.clear_faults()
    done = run("accept", JOB, "--yes")
    assert (done.code, "nothing to accept" in done.err) == (1, True)
    assert run("accept", JOB, "--part", "2").code == 2
    with lease.hold(IDENTITY.folder(root)):
        assert run("accept", JOB, "--yes").code == 3
