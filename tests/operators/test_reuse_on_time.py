"""Reused answers together with deadlines, budgets and trials: what is not asked is neither late nor paid."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_claude_batch import Budget, ClaudeBatchOperator, read_costs
from airflow_claude_batch.batches.accounts.reservation import release
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.reuse.build import build
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from tests.batches.delivering import read_both
from tests.operators.conftest import Try
from tests.operators.test_reuse import MODEL, Nights, nights, rows

__all__ = ["nights"]

NOW = datetime.timedelta(seconds=1)


def submit(nights: Nights, requests: Any, attempt: Try, **options: Any) -> None:
    """Send a night's requests, whose batch does not end."""
    storage = (nights.path / "storage").as_uri()
    given: dict[str, Any] = {"reuse": True, "storage_path": storage, **MODEL, **options}
    with pytest.raises(TaskDeferred):
        ClaudeBatchOperator(task_id="ask", requests=requests, **given).execute(attempt.context)


def repeated(numbers: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"d-{n}", "prompt": f"Count to {n}"} for n in numbers]


@pytest.mark.parametrize(("share", "chosen"), [(1.01, "direct"), (0.99, "deliver")])
def test_what_single_calls_add_is_a_share_of_what_was_to_be_asked(
    nights: Nights, emulator: Emulator, share: float, chosen: str
) -> None:
    nights.run(rows(range(9)))
    emulator.settings(duration=1000, cancel_duration=0.01, cancel_finished_share=0.0)
    attempt = Try(task_id="ask", run_id="second")
    submit(nights, rows(range(10)), attempt)
    estimate = attempt.pushed["estimate"]
    extra = estimate["standard_usd"] - estimate["total_usd"]
    try:
        nights.run(
            rows(range(10)), attempt=attempt, deadline=NOW, budget=Budget(direct_max_usd=extra * share)
        )
    except AirflowFailException:
        assert chosen == "deliver"
    summary = json.loads((nights.out(nights.number) / "summary.json").read_text())
    assert summary["without_batches"] == chosen
    assert emulator.ledger()["direct_answers"] == (chosen == "direct")


@pytest.mark.parametrize("queue_full", [False, True])
def test_who_repeats_a_late_request_is_late(nights: Nights, emulator: Emulator, queue_full: bool) -> None:
    emulator.settings(duration=1000, cancel_duration=0.01, cancel_finished_share=0.0)
    if queue_full:
        emulator.settings(queue_limit=1, retry_after=300)
    requests = [*rows(range(3)), *repeated(range(3))]
    attempt = Try(task_id="ask", run_id="late")
    submit(nights, requests, attempt)
    with pytest.raises(AirflowFailException, match="TooManyFailures"):
        nights.run(requests, attempt=attempt, deadline=NOW, on_deadline="deliver")
    succeeded, errored = read_both(nights.out(1))
    assert (succeeded, len(errored)) == ({}, 6)
    assert {(one["outcome"], one["error_type"]) for one in errored.values()} == {("errored", "late")}


def test_a_clear_of_a_job_that_was_all_reused_is_booked_once(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", (nights.path / "storage").as_uri())
    nights.run(rows(range(5)))
    nights.run(rows(range(5)), attempt=Try(task_id="ask", run_id="second"))
    before = read_costs()
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    monkeypatch.setattr("airflow_claude_batch.batches.api.client.BatchesApi.now", lambda self: tomorrow)
    for number, budget in ((2, None), (3, Budget(max_usd=1, per="day"))):
        cleared = Try(task_id="ask", run_id="second", try_number=number, max_tries=number - 1)
        summary = nights.run(rows(range(5)), attempt=cleared, budget=budget)
        assert read_costs() == before
        with open_job(Folder.at((nights.path / "storage").as_uri()), summary["job"]) as job:
            release(job)  # as a submission does that fails
    assert before[0]["requests"] == 10


def test_a_trial_s_bounds_are_those_of_the_answers_that_it_paid_for(
    nights: Nights, emulator: Emulator
) -> None:
    nights.run(rows(range(10)))
    emulator.settings(answer_bytes=400)  # far longer than those of before
    whole = nights.run(rows(range(100)), trial=20)["trial"]["whole"]
    for name in ("output_tokens", "batch_usd"):
        bounds = whole[name]
        assert bounds["low"] == pytest.approx(bounds["expected"], rel=0.1)
        assert bounds["high"] == pytest.approx(bounds["expected"], rel=0.1)


def test_a_trial_that_was_all_reused_does_not_say_what_the_whole_takes(nights: Nights) -> None:
    nights.run(rows(range(10)))
    whole = nights.run(rows(range(100)), trial=10)["trial"]["whole"]
    nothing = dict.fromkeys(("input_tokens", "output_tokens", "batch_usd", "direct_usd"))
    assert whole == {"requests": 100, **nothing}


def test_a_store_is_made_of_what_single_calls_have_answered_too(nights: Nights, emulator: Emulator) -> None:
    small = nights.run(rows(range(3)), reuse=None, direct_below=10)
    emulator.settings(duration=1000, cancel_duration=0.01, cancel_finished_share=0.5)
    attempt = Try(task_id="ask", run_id="late")
    submit(nights, rows(range(3, 13)), attempt, reuse=None)
    late = nights.run(rows(range(3, 13)), attempt=attempt, reuse=None, deadline=NOW)
    assert {way for way, told in late["ways"].items() if told["requests"]} == {"batch", "direct"}
    root, paid = Folder.at((nights.path / "storage").as_uri()), emulator.ledger()
    built = build(root, "dag", api_of=lambda conn_id: ClaudeBatchHook(conn_id).batches)
    assert (built.jobs, built.answers, built.kept_before, built.failed) == (2, 13, 0, 0)
    again = build(root, "dag", api_of=lambda conn_id: ClaudeBatchHook(conn_id).batches)
    assert (again.answers, again.kept_before) == (0, 3)
    summary = nights.run(rows(range(13)))
    assert (summary["asked"], summary["reused"]) == (0, 13)
    assert emulator.ledger() == paid, "nothing is asked again"
    price = small["cost"]["total_usd"] - small["direct_extra_usd"]
    price += late["cost"]["total_usd"] - late["direct_extra_usd"]
    assert summary["saved_by_reuse_usd"] == pytest.approx(price)
    succeeded, _ = read_both(nights.out(nights.number))
    assert all(f"“Count to {record['input']['n']}”" in record["text"] for record in succeeded.values())
    assert succeeded["r-0"]["reused"]["batch_id"] is None
