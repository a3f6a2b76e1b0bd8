"""Later rounds and single calls at a deadline keep to the budgets, too."""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG

from airflow_claude_batch import (
    AnswerPolicy,
    Budget,
    ClaudeBatchResultsOperator,
    ClaudeBatchSubmitOperator,
    Resubmission,
    read_costs,
)
from airflow_claude_batch.batches.accounts.additions import forecast
from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.job.job import open_job, read_ledger
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try
from tests.test_costs import sent, storage, submit

__all__ = ["storage"]

EXPECTED_TOKENS = 20


def deliver(
    handle: Any,
    emulator: Emulator,
    out: Path,
    try_: Try | None = None,
    dag: DAG | None = None,
    **options: Any,
) -> Any:
    """The results task, as often as it has to come back."""
    options = {"resubmission": Resubmission(rounds=2), "output_path": out.as_uri(), **options}
    for _ in range(6):
        results = ClaudeBatchResultsOperator(task_id="results", batch=handle, **options)
        for batch in emulator.batches():
            if batch["processing_status"] != "ended":
                emulator.end(batch["id"])
        try:
            return results.execute((try_ or Try(task_id="results")).context | {"dag": dag})
        except TaskDeferred:
            continue
    raise AssertionError("it does not end")


def messages(out: Path) -> set[str]:
    files = (out / "errored").glob("part-*.jsonl")
    return {json.loads(line)["message"] for file in files for line in file.read_text().splitlines()}


def failing(count: int, **how: Any) -> dict[str, Any]:
    ids = [f"r-{number}" for number in range(count)]
    return {"failures": [{"custom_ids": ids, "tries": 1, **how}]}


def room_for(emulator: Emulator, count: int, factor: float) -> float:
    """So many times what a job is estimated at, of which nothing is sent."""
    try_ = Try(run_id="estimate", dag_id="other", conf={"claude_batch_dry_run": True})
    plan = submit(count, try_, budget=Budget(max_usd=9, expected_output_tokens=EXPECTED_TOKENS))
    assert sent(emulator) == 0
    return factor * float(plan["estimate"]["total_usd"])


def budgets(usd: float) -> list[Budget]:
    expected = {"max_usd": usd, "expected_output_tokens": EXPECTED_TOKENS}
    return [Budget(**expected), Budget(per="day", scope="tag:team", **expected)]


@pytest.mark.parametrize("number", [0, 1])
def test_what_failed_was_not_paid_so_that_its_next_round_fits_where_the_job_did(
    emulator: Emulator, tmp_path: Path, number: int
) -> None:
    emulator.settings(outcomes=failing(10, outcome="expired"), answer_bytes=40)
    usd = room_for(emulator, 10, 1.0001)
    handle = submit(10, Try(), budget=budgets(usd)[number])
    summary = deliver(handle, emulator, tmp_path / "out")
    assert (summary["counts"]["succeeded"], summary["rounds"]) == (10, 2)
    [row] = read_costs()
    assert (row["total_usd"], row["reserved_usd"]) == (pytest.approx(summary["cost"]["total_usd"]), 0)


@pytest.mark.parametrize("number", [0, 1])
def test_a_round_beyond_a_budget_is_given_up_and_a_higher_budget_lets_it_go_on(
    emulator: Emulator, tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.settings(outcomes=failing(4, outcome="max_tokens"), answer_bytes=80)
    usd = room_for(emulator, 10, 1.05)
    handle = submit(10, Try(), budget=budgets(usd)[number])
    reading = {
        "resubmission": Resubmission(rounds=2, invalid=True),
        "answer_policy": AnswerPolicy(count_as_failed=["max_tokens"]),
    }
    summary = deliver(handle, emulator, tmp_path / "out", **reading)
    assert (summary["counts"]["succeeded"], summary["counts"]["invalid"]) == (6, 4)
    [message] = messages(tmp_path / "out")
    assert "not sent again: The job would cost $0.00" in message
    assert ["beyond max_usd=", "a day for tag:team=growth has $"][number] in message
    assert "Not sent again: 4 requests" in caplog.text
    assert sent(emulator) == 1
    [row] = read_costs()
    assert (row["total_usd"], row["reserved_usd"]) == (pytest.approx(summary["cost"]["total_usd"]), 0)

    again = Try(try_number=2, max_tries=1)
    assert submit(10, again, budget=budgets(3 * usd)[number]) == handle
    results = Try(task_id="results", try_number=2, max_tries=1)
    summary = deliver(handle, emulator, tmp_path / "out", results, **reading)
    [row] = read_costs()
    assert row["total_usd"] == pytest.approx(summary["cost"]["total_usd"])
    assert row["reserved_usd"] == 0
    assert (summary["counts"]["succeeded"], sent(emulator)) == (10, 2)


def dag_of(budget: Budget, *, mapped: bool, task_id: str = "submit") -> DAG:
    """With a task that submits under a budget."""
    with DAG("dag") as dag:
        if mapped:
            ClaudeBatchSubmitOperator.partial(task_id=task_id, budget=budget).expand(requests=[[]])
        else:
            ClaudeBatchSubmitOperator(task_id=task_id, requests=[], budget=budget)
    return dag


@pytest.mark.parametrize(
    ("mapped", "task_id", "calls"), [(False, "submit", 1), (True, "submit", 1), (False, "other", 0)]
)
def test_who_wants_to_know_is_told_of_a_round_that_does_not_fit_by_the_results_task(
    emulator: Emulator, tmp_path: Path, mapped: bool, task_id: str, calls: int
) -> None:
    emulator.settings(outcomes=failing(4, outcome="max_tokens"), answer_bytes=80)
    told: list[dict[str, Any]] = []
    usd = room_for(emulator, 10, 1.05)
    budget = replace(budgets(usd)[1], on_budget_exceeded=told.append)
    handle = submit(10, Try(), budget=budget)
    summary = deliver(
        handle,
        emulator,
        tmp_path / "out",
        dag=dag_of(budget, mapped=mapped, task_id=task_id),
        resubmission=Resubmission(rounds=2, invalid=True),
        answer_policy=AnswerPolicy(count_as_failed=["max_tokens"]),
    )
    assert (summary["counts"]["invalid"], sent(emulator)) == (4, 1)
    assert [(one["kind"], one["job"]) for one in told] == [("exceeded", handle["job"])] * calls


def test_a_settlement_is_read_once_to_decide_about_a_round(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = submit(3, Try(), budget=budgets(1)[1])
    deliver(handle, emulator, tmp_path / "out")
    read: list[str] = []
    settled = Book.settled_pico

    def counted(book: Book, day: str, key: str) -> int | None:
        read.append(key)
        return settled(book, day, key)

    monkeypatch.setattr(Book, "settled_pico", counted)
    with open_job(Folder.at(tmp_path.as_uri()), handle["job"]) as job:
        known = forecast(job, job.ledger.estimate)
    assert known.expected == known.held > 0
    assert len(read) == 1


@pytest.mark.parametrize("sent_before", [True, False])
@pytest.mark.parametrize(("factor", "chosen"), [(1.5, "deliver"), (2.5, "direct")])
def test_single_calls_at_a_deadline_keep_to_the_budget_of_a_day(
    emulator: Emulator, tmp_path: Path, factor: float, chosen: str, sent_before: bool
) -> None:
    emulator.settings(duration=1000, cancel_finished_share=0.0, cancel_duration=0.01)
    usd = room_for(emulator, 10, factor)
    seconds = 3600 if sent_before else 1
    handle = submit(
        10,
        Try(),
        budget=budgets(usd)[1],
        deadline=datetime.timedelta(seconds=seconds),
        direct_minutes=1,
    )
    folder = Folder.at(handle["job"])
    if sent_before:
        with open_job(Folder.at(tmp_path.as_uri()), handle["job"]) as job, job.change() as ledger:
            assert ledger.on_time is not None
            ledger.on_time.minutes = 120
    results = ClaudeBatchResultsOperator(task_id="results", batch=handle)
    with contextlib.ExitStack() as stack:
        if chosen == "deliver":
            stack.enter_context(pytest.raises(AirflowFailException, match="TooManyFailures"))
        results.execute(Try(task_id="results").context)
    ledger = read_ledger(folder)
    assert ledger.without_batches == chosen
    assert ledger.on_time is not None
    assert ("a day for tag:team=growth has $" in ledger.on_time.reason) == (chosen == "deliver")
    assert emulator.ledger()["direct"] == (10 if chosen == "direct" else 0)
    spent = read_costs()  # no row where nothing was
    assert [row["reserved_usd"] for row in spent] == [0] * len(spent)
    assert [row["direct_usd"] > 0 for row in spent] == [True] * (chosen == "direct")


@pytest.mark.parametrize(("usd", "asked"), [(0.0001, 0), (1, 3)])
def test_what_was_to_be_reused_and_is_gone_is_asked_within_the_budget(
    emulator: Emulator, tmp_path: Path, usd: float, asked: int
) -> None:
    options = {"reuse": True, "max_tokens": 1000}
    deliver(submit(3, Try(run_id="1"), **options), emulator, tmp_path / "first")
    budget = Budget(max_usd=usd, per="day", scope="connection")
    handle = submit(3, Try(run_id="2"), budget=budget, tags={"team": "another"}, **options)
    assert (handle["batch_ids"], sent(emulator)) == ([], 1)
    shutil.rmtree(tmp_path / "answers")
    with contextlib.ExitStack() as stack:
        if not asked:
            stack.enter_context(pytest.raises(AirflowFailException, match="TooManyFailures"))
        deliver(handle, emulator, tmp_path / "second", Try(task_id="results", run_id="2"))
    assert sent(emulator) == 1 + (asked > 0)
    ledger = read_ledger(Folder.at(handle["job"]))
    assert ledger.booking is not None
    assert [bool(one.pico) for one in ledger.booking.additions if one.about == "round 1"] == [True]
    assert sum(row["reserved_usd"] for row in read_costs(by="tag:team")) == 0


def test_what_a_deadline_gave_up_is_reserved_before_a_clear_sends_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    """What was settled without them has made room, which others may have taken."""
    emulator.settings(duration=1000, queue_limit=1, retry_after=300)
    budget = budgets(room_for(emulator, 10, 1.5))[1]
    with pytest.raises(TaskDeferred):
        submit(10, Try(), budget=budget)
    late = {"deadline": datetime.datetime.now(datetime.UTC), "on_deadline": "deliver"}
    handle = submit(10, Try(), budget=budget, **late)
    results = ClaudeBatchResultsOperator(task_id="results", batch=handle)
    with pytest.raises(AirflowFailException, match="10 x late"):
        results.execute(Try(task_id="results").context)
    assert read_costs() == [] or read_costs()[0]["reserved_usd"] == 0
    emulator.settings(queue_limit=100_000)
    submit(10, Try(run_id="2"), budget=budget)
    [before] = read_costs()
    cleared = Try(task_id="results", try_number=2, max_tries=1)
    with pytest.raises(AirflowFailException, match="TooManyFailures"):
        deliver(handle, emulator, tmp_path / "out", cleared)
    assert sent(emulator) == 2, "one of them was refused by the full queue"
    assert read_costs() == [before]
    [message] = messages(tmp_path / "out")
    assert "not sent again: The job would cost $" in message


@pytest.mark.parametrize("options", [{}, {"direct_below": 100}])
@pytest.mark.parametrize("then", ["direct", "deliver", "fail"])
def test_a_deadline_ends_the_wait_for_a_budget(
    emulator: Emulator, then: str, options: dict[str, Any]
) -> None:
    usd = room_for(emulator, 10, 4.2)  # single calls cost twice as much
    submit(30, Try(run_id="1"), budget=budgets(usd)[1])
    options = {
        "budget": replace(budgets(usd)[1], on_exceeded="wait"),
        "on_deadline": then,
        "direct_minutes": 1,
        **options,
    }
    waiting, now = Try(run_id="2"), datetime.datetime.now(datetime.UTC)
    with pytest.raises(TaskDeferred) as deferred:
        submit(20, waiting, deadline=now + datetime.timedelta(minutes=30), **options)
    seconds = deferred.value.trigger.serialize()[1]["seconds"]
    assert 28 * 60 < seconds < (31 if then == "fail" else 30) * 60
    due = Try(run_id="3")
    if then == "fail":
        with pytest.raises(AirflowFailException, match=r"DeadlineMissed.*20 of 20.*in a batch. Clear the"):
            submit(20, due, deadline=now, **options)
        return
    handle = submit(20, due, deadline=now, **options)
    assert handle["batch_ids"] == []
    assert submit(20, due, deadline=now, **options) == handle, "a retry waits no more"
    with pytest.raises(AirflowFailException, match="20 x late"):
        ClaudeBatchResultsOperator(task_id="results", batch=handle).execute(
            Try(run_id="3", task_id="results").context
        )
    on_time = read_ledger(Folder.at(handle["job"])).on_time
    assert on_time is not None
    assert ("a day for tag:team=growth has $" in on_time.reason) == (then == "direct")
    assert (sent(emulator), emulator.ledger()["direct_answers"]) == (1, 0)
    assert submit(20, Try(run_id="3", try_number=2, max_tries=1), **options) == handle
    assert sum(row["requests"] for row in read_costs()) == 0


def too_dear(told: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["budget"]["per"], one["message"]) for one in told]


def test_who_wants_to_know_of_a_job_that_is_too_dear_is_called(emulator: Emulator) -> None:
    told: list[dict[str, Any]] = []
    budget = Budget(max_usd=0.0001, on_budget_exceeded=told.append)
    with pytest.raises(AirflowFailException, match="BudgetExceededError"):
        submit(10, Try(), budget=budget)
    [(kind, per, message)] = too_dear(told)
    assert (kind, per) == ("exceeded", "job")
    assert "above max_usd=0.0001" in message
    assert sent(emulator) == 0


def test_who_wants_to_know_is_called_for_a_round_beyond_what_one_job_may_cost(
    emulator: Emulator, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    emulator.settings(outcomes=failing(4, outcome="max_tokens"), answer_bytes=80)
    budget = replace(budgets(room_for(emulator, 10, 1.05))[0], on_budget_exceeded=told.append)
    handle = submit(10, Try(), budget=budget)
    assert told == []
    deliver(
        handle,
        emulator,
        tmp_path / "out",
        dag=dag_of(budget, mapped=False),
        resubmission=Resubmission(rounds=2, invalid=True),
        answer_policy=AnswerPolicy(count_as_failed=["max_tokens"]),
    )
    assert {(kind, per) for kind, per, _ in too_dear(told)} == {("exceeded", "job")}
