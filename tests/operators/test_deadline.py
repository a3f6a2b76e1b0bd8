"""Timeouts of tasks that defer, and of tasks that cannot reach the API."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_claude_batch import ClaudeBatchOperator, ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator
from airflow_claude_batch.batches.api import reach
from airflow_claude_batch.batches.errors import UnreachableError, WaitTimeoutError
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try

ROWS = [{"custom_id": "r-1", "prompt": "Hi"}]


def one_task(tmp_path: Path, **options: Any) -> ClaudeBatchOperator:
    return ClaudeBatchOperator(
        task_id="submit",
        requests=ROWS,
        model="claude-haiku-4-5",
        max_tokens=50,
        storage_path=tmp_path.as_uri(),
        **options,
    )


@pytest.mark.parametrize(
    "limit",
    [
        {"timeout": 0.2},
        {"timeout": datetime.timedelta(seconds=0.2)},
        {"execution_timeout": datetime.timedelta(seconds=0.2), "timeout": 60},
    ],
)
@pytest.mark.parametrize("on_timeout", ["leave", "cancel"])
def test_a_timeout_holds_over_all_deferrals_and_says_what_became_of_the_batches(
    emulator: Emulator, tmp_path: Path, limit: dict[str, Any], on_timeout: Any
) -> None:
    emulator.settings(duration="manual")
    task, attempt = one_task(tmp_path, on_timeout=on_timeout, **limit), Try()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(attempt.context)
    trigger = deferred.value.trigger.serialize()[1]
    began = datetime.datetime.fromisoformat(attempt.pushed["try_started_at"])
    assert datetime.datetime.fromisoformat(trigger["timeout_at"]) == began + datetime.timedelta(seconds=0.2)
    attempt.pushed["try_started_at"] = (began - datetime.timedelta(seconds=1)).isoformat()
    ids = trigger["batch_ids"]
    event = {"status": "timeout", "batch_ids": ids, "open_batch_ids": ids, "message": "Gave up."}
    words = "left alone" if on_timeout == "leave" else "were cancelled"
    with pytest.raises(WaitTimeoutError, match=f"{next(iter(limit))} of 0:00:00.2.*{words}"):
        one_task(tmp_path, on_timeout=on_timeout, **limit).execute_complete(attempt.context, event)
    assert emulator.batches()[0]["processing_status"] == (
        "canceling" if on_timeout == "cancel" else "in_progress"
    )


def test_a_pause_ends_with_the_deadline(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(queue_limit=0, retry_after=300)
    limit = datetime.timedelta(seconds=20)
    task, attempt = one_task(tmp_path, execution_timeout=limit), Try()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(attempt.context)
    began = datetime.datetime.fromisoformat(attempt.pushed["try_started_at"])
    left = (began + limit - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert left <= deferred.value.trigger.serialize()[1]["seconds"] <= limit.total_seconds()
    attempt.pushed["try_started_at"] = (began - limit).isoformat()
    with pytest.raises(WaitTimeoutError, match="execution_timeout"):
        task.execute_complete(attempt.context, {"status": "resume", "unwanted": []})


def test_batches_given_by_id_have_a_timeout_too(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration="manual")
    with pytest.raises(TaskDeferred):
        one_task(tmp_path).execute(Try().context)
    batch_id = emulator.batches()[0]["id"]
    task = ClaudeBatchResultsOperator(task_id="results", batch=batch_id, timeout=5)
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(Try(task_id="results").context)
    assert deferred.value.trigger.serialize()[1]["timeout_at"]


def test_an_api_that_cannot_be_reached_is_given_up_after_a_while_while_nothing_was_sent(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.01)
    asked: list[int] = []

    def source() -> list[dict[str, str]]:
        asked.append(1)
        return ROWS

    def submit() -> ClaudeBatchSubmitOperator:
        return ClaudeBatchSubmitOperator(
            task_id="submit",
            requests=source,
            model="claude-haiku-4-5",
            max_tokens=50,
            storage_path=tmp_path.as_uri(),
        )

    attempt = Try()
    with socket.socket() as unused, monkeypatch.context() as away:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        away.setenv(
            "AIRFLOW_CONN_ANTHROPIC_DEFAULT",
            '{"conn_type": "anthropic", "password": "key", "host": "' + url + '"}',
        )
        with pytest.raises(TaskDeferred):
            submit().execute(attempt.context)
        away.setenv("AIRFLOW__CLAUDE_BATCH__UNREACHABLE_SECONDS", "0")
        with pytest.raises(UnreachableError, match=r"unreachable_seconds.*nothing was sent"):
            submit().execute(attempt.context)
    assert not asked
    handle = submit().execute(attempt.context)
    assert len(handle["batch_ids"]) == len(asked) == 1
    assert attempt.pushed["unreachable_since"] is None
