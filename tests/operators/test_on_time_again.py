"""A clear of a job that is needed at some time."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator
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
