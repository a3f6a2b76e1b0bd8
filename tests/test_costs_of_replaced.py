"""A job that another one has replaced: what its batches had answered is booked, the rest is free again."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_claude_batch import Budget, ClaudeBatchResultsOperator, Recovery, read_costs
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try
from tests.test_costs import deliver, storage, submit

__all__ = ["storage"]


def replaced(emulator: Emulator, **options: Any) -> Any:
    """The handle of a job of ten requests that has replaced one of twenty."""
    emulator.settings(duration=1000, cancel_duration=0.01, cancel_finished_share=0.5)
    submit(20, Try(), **options)
    return submit(10, Try(try_number=2, max_tries=1), **options)


def test_what_a_replaced_job_s_batches_had_answered_is_booked_and_its_estimate_freed(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget(max_usd=0.01, per="month", scope="dag")
    handle = replaced(emulator, budget=budget)
    summary = deliver(handle, emulator)
    [row] = read_costs()
    assert (row["requests"], row["reserved_usd"]) == (20, 0)
    assert sum(batch["request_counts"]["succeeded"] for batch in emulator.batches()) == 20
    assert row["total_usd"] > 1.5 * summary["cost"]["total_usd"]
    results = Try(task_id="results", try_number=2, max_tries=1)
    assert deliver(handle, emulator, results)["counts"]["succeeded"] == 10
    assert read_costs() == [row], "once"
    assert "is not booked" not in caplog.text


def test_a_replaced_job_whose_batch_still_runs_is_booked_by_a_later_delivery(emulator: Emulator) -> None:
    handle = replaced(emulator, recovery=Recovery(on_changed_requests="leave"))
    [old] = [batch["id"] for batch in emulator.batches() if batch["id"] not in handle["batch_ids"]]
    emulator.end(handle["batch_ids"][0])
    results = ClaudeBatchResultsOperator(task_id="results", batch=handle)
    results.execute(Try(task_id="results").context)
    [row] = read_costs()
    assert row["requests"] == 10
    assert row["reserved_usd"] > 0
    emulator.end(old)
    results.execute(Try(task_id="results").context)
    [row] = read_costs()
    assert (row["requests"], row["reserved_usd"]) == (30, 0)


def test_single_calls_of_a_replaced_job_are_booked(emulator: Emulator) -> None:
    emulator.fault("status", path="/v1/messages$", skip=3, times=1, status=401, type="authentication_error")
    with pytest.raises(AirflowFailException):
        submit(5, Try(), direct_below=10)
    made = emulator.ledger()["direct_answers"]
    assert 0 < made < 5
    deliver(submit(6, Try(try_number=2, max_tries=1), direct_below=10), emulator)
    [row] = read_costs()
    assert (row["requests"], row["reserved_usd"]) == (made + 6, 0)
