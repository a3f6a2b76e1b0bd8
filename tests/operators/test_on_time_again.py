"""A clear of a job that is needed at some time, or that readers follow while it is delivered."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator, Limits
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try
from tests.operators.test_on_time import MODEL, one_task, rows

HOUR = datetime.timedelta(hours=1)


def due_at(operator: Any, attempt: Try) -> datetime.datetime:
    """When a wait ends that the operator begins."""
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(attempt.context)
    return datetime.datetime.fromisoformat(deferred.value.trigger.serialize()[1]["due_at"])


@pytest.mark.parametrize("then", ["direct", "deliver", "fail"])
def test_a_clear_while_batches_are_waited_for_keeps_the_deadline(
    emulator: Emulator, tmp_path: Path, then: Any
) -> None:
    emulator.settings(duration="manual")
    options: dict[str, Any] = {"deadline": HOUR, "on_deadline": then, "direct_minutes": 10}
    first = due_at(one_task(tmp_path, rows(3), **options), Try())
    cleared = Try(try_number=2, max_tries=1)
    second = due_at(one_task(tmp_path, rows(3), **options), cleared)
    assert first < second < first + HOUR


def test_a_clear_of_submission_and_results_keeps_the_deadline(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration="manual")
    storage = tmp_path.as_uri()
    ends = []
    for clears in (0, 1):
        again = {"try_number": clears + 1, "max_tries": clears}
        submit = ClaudeBatchSubmitOperator(
            task_id="submit", requests=rows(3), storage_path=storage, deadline=HOUR, **MODEL
        )
        handle = submit.execute(Try(**again).context)
        results = ClaudeBatchResultsOperator(task_id="results", batch=handle, storage_path=storage)
        ends.append(due_at(results, Try(task_id="results", **again)))
    assert ends[0] < ends[1] < ends[0] + HOUR


@pytest.mark.parametrize("others", [rows(6), rows(8)])
def test_progress_says_nothing_of_an_earlier_delivery(
    emulator: Emulator, tmp_path: Path, others: list[dict[str, Any]]
) -> None:
    emulator.settings(duration=0.01)
    out = tmp_path / "out"
    is_told: list[bool] = []

    def check(record: dict[str, Any]) -> None:
        is_told.append((out / "progress.json").exists())

    options: dict[str, Any] = {"limits": Limits(requests=2), "output_path": out.as_uri()}
    for clears, requests in ((0, rows(6)), (1, others)):
        attempt, event = Try(try_number=clears + 1, max_tries=clears), None
        for _ in range(10):
            task = one_task(tmp_path, requests, check=check if clears else None, **options)
            try:
                task.execute_complete(attempt.context, event) if event else task.execute(attempt.context)
                break
            except TaskDeferred:
                event = {"status": "ended", "batch_ids": []}
    assert is_told[0] is False
    assert json.loads((out / "progress.json").read_text())["delivered"] == len(others)


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("then", ["fail", "deliver"])
def test_a_clear_after_a_missed_moment_delivers_all_by_batches(
    emulator: Emulator, tmp_path: Path, then: Any, sent: bool
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.1, cancel_finished_share=0.0)
    at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    options: dict[str, Any] = {"deadline": at, "on_deadline": then, "direct_minutes": 0}
    if sent:
        with pytest.raises(TaskDeferred):
            one_task(tmp_path, rows(3)).execute(Try().context)
    for _ in range(2):  # a retry misses it again, too
        late = one_task(tmp_path, rows(3), **options)
        with pytest.raises(AirflowFailException, match=r"on_deadline is 'fail'|3 x late"):
            late.execute(Try().context)
    emulator.settings(duration="manual")
    cleared = Try(try_number=2, max_tries=1)
    for _ in range(2):  # the wait may end early, for a part that is delivered
        with pytest.raises(TaskDeferred) as deferred:
            one_task(tmp_path, rows(3), **options).execute(cleared.context)
        assert deferred.value.trigger.serialize()[1]["due_at"] is None
    for batch in emulator.batches():
        emulator.end(batch["id"])
    summary = one_task(tmp_path, rows(3), **options).execute(cleared.context)
    assert summary["counts"]["succeeded"] == summary["ways"]["batch"]["requests"] == 3
    assert (emulator.ledger()["billed"], emulator.ledger()["direct_answers"]) == (3, 0)


def test_another_moment_after_a_clear_holds(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration="manual")
    now = datetime.datetime.now(datetime.UTC)
    with pytest.raises(AirflowFailException, match="on_deadline is 'fail'"):
        one_task(tmp_path, rows(3), deadline=now, on_deadline="fail").execute(Try().context)
    later = one_task(tmp_path, rows(3), deadline=now + HOUR, on_deadline="fail")
    assert due_at(later, Try(try_number=2, max_tries=1)) == now + HOUR
