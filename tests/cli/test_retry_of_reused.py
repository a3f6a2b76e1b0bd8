"""``retry`` of a job that has reused and repeated answers: what was not asked is not asked again."""

from __future__ import annotations

from pathlib import Path

from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import read_both
from tests.batches.helpers import sent_ids
from tests.cli.conftest import Run
from tests.operators.conftest import Try
from tests.operators.test_reuse import Nights, rows

JOB = "dag/second/ask/job-1"
FAILURES = [
    {"custom_ids": ["r-4"], "outcome": "errored", "error_type": "authentication_error", "tries": 1},
]


def second_night(emulator: Emulator, path: Path) -> Nights:
    """Of six requests three are reused, and one that fails is repeated, like one that was reused."""
    nights = Nights(emulator, path)
    nights.run(rows(range(3)))
    emulator.settings(outcomes={"failures": FAILURES})
    repeated = [{"custom_id": f"d-{n}", "prompt": f"Count to {n}"} for n in (1, 4)]
    attempt = Try(task_id="ask", run_id="second")
    summary = nights.run([*rows(range(6)), *repeated], attempt=attempt)
    assert (summary["counts"]["errored"], summary["reused"]) == (2, 5)
    emulator.settings(duration=0.01)
    return nights


def test_what_failed_is_sent_again_and_answers_those_that_repeat_it(
    run: Run, emulator: Emulator, tmp_path: Path
) -> None:
    nights = second_night(emulator, tmp_path)
    done = run("retry", JOB, "--only", "errored", "--yes", "--poll-interval", "0.1", "-o", "json")
    assert done.code == 0, done.err
    assert sent_ids(emulator, emulator.batches()[-1]["id"]) == {"r-4"}
    succeeded, errored = read_both(nights.out(2))
    assert (len(succeeded), errored) == (8, {})
    assert succeeded["d-4"]["text"] == succeeded["r-4"]["text"]
    assert done.data["counts"]["succeeded"] == 8


def test_without_sending_anything_a_job_that_reuses_is_delivered_elsewhere(
    run: Run, emulator: Emulator, tmp_path: Path
) -> None:
    second_night(emulator, tmp_path)
    sent = len(emulator.batches())
    done = run("retry", JOB, "--output", tmp_path / "out", "--poll-interval", "0.1", "-o", "json")
    assert done.code == 0, done.err
    succeeded, errored = read_both(tmp_path / "out")
    assert (len(succeeded), sorted(errored)) == (6, ["d-4", "r-4"])
    assert len(emulator.batches()) == sent
