"""``retry`` of a job that was delivered at its deadline without what was late: that is sent after all."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_claude_batch import AnswerPolicy, ClaudeBatchOperator, Limits
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import read_both
from tests.cli.conftest import Run
from tests.operators.conftest import Try
from tests.operators.test_on_time import MODEL, rows

JOB = "dag/run-1/submit/job-1"
NOW = datetime.timedelta(seconds=1)


def deliver_without(out: Path, **options: Any) -> set[str]:
    """Deliver a job of twelve at its deadline; returns whose answers are late."""
    given: dict[str, Any] = {"limits": Limits(requests=4), "output_path": out.as_uri(), **MODEL, **options}
    with pytest.raises(TaskDeferred):
        ClaudeBatchOperator(task_id="submit", requests=rows(12), **given).execute(Try().context)
    given |= {"deadline": NOW, "on_deadline": "deliver"}
    given["answer_policy"] = AnswerPolicy(max_failed_fraction=1)
    ClaudeBatchOperator(task_id="submit", requests=rows(12), **given).execute(Try(try_number=2).context)
    _, errored = read_both(out)
    assert {record["error_type"] for record in errored.values()} == {"late"}
    return set(errored)


@pytest.mark.parametrize("never_sent", [False, True])
@pytest.mark.parametrize("by_ids", [False, True])
def test_what_was_late_is_sent_again_and_paid_once(
    run: Run, emulator: Emulator, tmp_path: Path, never_sent: bool, by_ids: bool
) -> None:
    queue_limit = 4 if never_sent else None
    emulator.settings(duration=1000, cancel_duration=0.1, cancel_finished_share=0.3, queue_limit=queue_limit)
    out, ids = tmp_path / "out", tmp_path / "ids"
    ids.write_text("\n".join(deliver_without(out)))
    emulator.settings(duration=0.01, queue_limit=None)
    only = ["ids", ids] if by_ids else ["errored"]
    done = run("retry", JOB, "--only", *only, "--yes", "--poll-interval", "0.1", "-o", "json")
    assert done.code == 0, done.err
    succeeded, errored = read_both(out)
    assert (len(succeeded), errored) == (12, {})
    assert (done.data["counts"]["succeeded"], done.data["errors"]) == (12, {})
    told = emulator.ledger()
    assert (told["billed"], told["billed_more_than_once_count"], told["direct_answers"]) == (12, 0, 0)


def test_late_requests_that_nobody_asked_for_stay_late(run: Run, emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=1000, cancel_duration=0.1, cancel_finished_share=0.3)
    out, ids = tmp_path / "out", tmp_path / "ids"
    late = deliver_without(out)
    wanted = min(late)
    ids.write_text(wanted)
    emulator.settings(duration=0.01)
    assert run("retry", JOB, "--only", "ids", ids, "--yes", "--poll-interval", "0.1").code == 0
    succeeded, errored = read_both(out)
    assert (wanted in succeeded, set(errored)) == (True, late - {wanted})
    assert {record["error_type"] for record in errored.values()} == {"late"}
    assert emulator.ledger()["billed"] == len(succeeded) == 13 - len(late)
