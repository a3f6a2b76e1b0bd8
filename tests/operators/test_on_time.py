"""Small, late and trial requests: from the arguments of the operators to the summary."""

from __future__ import annotations

import datetime
import json
import threading
import time
from pathlib import Path
from typing import Any

import anthropic
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred
from airflow.sdk import DAG, Asset

from airflow_claude_batch import (
    Budget,
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Limits,
    Trial,
    trial,
)
from airflow_claude_batch.batches.direct.answer import StoppedError
from airflow_claude_batch.batches.job.job import read_ledger
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, MESSAGES, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.operators.conftest import Try

MODEL = {"model": "claude-haiku-4-5", "max_tokens": 50}
SOON = datetime.timedelta(minutes=5)


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"Count to {n}", "n": n} for n in range(count)]


def one_task(tmp_path: Path, requests: Any, **options: Any) -> ClaudeBatchOperator:
    options = {"storage_path": (tmp_path / "storage").as_uri(), **MODEL, **options}
    return ClaudeBatchOperator(task_id="ask", requests=requests, **options)


def check_sums(emulator: Emulator, requests: int) -> None:
    told = emulator.ledger()
    assert told["billed"] + told["direct_answers"] == requests
    assert told["both_ways_count"] == 0


@pytest.mark.parametrize(("count", "batches"), [(4, 0), (5, 1)])
def test_a_job_of_few_requests_is_answered_at_once(
    emulator: Emulator, airflow_database: None, tmp_path: Path, count: int, batches: int
) -> None:
    emulator.settings(duration=0.5)
    with DAG("small", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(
            task_id="submit", requests=rows(count), storage_path=tmp_path.as_uri(), direct_below=5, **MODEL
        )
        wait = ClaudeBatchSensor(
            task_id="wait", batch=submit.output, storage_path=tmp_path.as_uri(), poll_interval=0.3
        )
        ClaudeBatchResultsOperator(task_id="results", batch=wait.output, storage_path=tmp_path.as_uri())
    run = run_dag(dag)
    assert run.state == "success"
    assert len(emulator.batches()) == batches
    assert len(run.xcom("submit")["batch_ids"]) == batches
    summary = run.xcom("results")
    assert summary["counts"]["succeeded"] == count
    assert list(summary["ways"]) == ["batch" if batches else "direct"]
    assert (summary["direct_extra_usd"] > 0) == (not batches)
    check_sums(emulator, count)


def test_single_calls_of_a_small_job_are_within_the_budget(emulator: Emulator, tmp_path: Path) -> None:
    task = one_task(tmp_path, rows(4), direct_below=5, budget=Budget(max_usd=0.00075))
    with pytest.raises(
        AirflowFailException, match=r"calls cost \$0\.0\d+, which is above max_usd=0\.00075.*by a batch"
    ):
        task.execute(Try().context)
    assert emulator.ledger()["direct_answers"] == 0
    summary = one_task(tmp_path, rows(4), direct_below=5, budget=1).execute(Try(run_id="run-2").context)
    assert summary["counts"]["succeeded"] == 4
    ledger = read_ledger(Folder.at(summary["job"]))
    assert ledger.booking is not None
    assert ledger.booking.pico == round(ledger.estimate["standard_usd"] * 10**12)


@pytest.mark.parametrize("options", [{"direct_below": 5}, {"deadline": "06:00"}])
def test_what_only_batches_take_is_refused_before_anything_is_sent(
    emulator: Emulator, tmp_path: Path, options: dict[str, Any]
) -> None:
    params = {"betas": ["output-300k-2026-03-24"]}
    task = one_task(tmp_path, rows(2), message_params=params, **options)
    with pytest.raises(AirflowFailException, match="batches only"):
        task.execute(Try().context)
    assert not emulator.journal()


def test_a_late_job_is_delivered_on_time_in_one_task(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.5, cancel_finished_share=0.4)
    with DAG("late", schedule=None) as dag:
        one_task(
            tmp_path,
            rows(20),
            deadline=datetime.timedelta(seconds=60),
            direct_minutes=55 / 60,
            output_path=(tmp_path / "out").as_uri(),
            limits=Limits(requests=10),
            poll_interval=0.5,
        )
    run = run_dag(dag)
    assert run.state == "success"
    summary = run.xcom("ask")
    assert summary["counts"] == {**summary["counts"], "total": 20, "succeeded": 20}
    assert (summary["on_time"], summary["without_batches"]) == (True, "direct")
    assert summary["ways"]["direct"]["requests"] == emulator.ledger()["direct"] > 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["on_time"] is True
    assert run.xcom("ask", key="summary")["deadline"] == summary["deadline"]
    direct = summary["ways"]["direct"]["requests"]
    assert run.xcom("ask", key="going_direct")["requests"] == direct, "what the page shows meanwhile"
    check_sums(emulator, 20)


def test_a_late_job_goes_on_through_sensor_and_results(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.5, cancel_finished_share=0.0)
    asset = Asset("late_answers")
    with DAG("late_three", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(
            task_id="submit",
            requests=rows(6),
            storage_path=tmp_path.as_uri(),
            deadline="PT1M",
            direct_minutes=56 / 60,
            **MODEL,
        )
        wait = ClaudeBatchSensor(
            task_id="wait", batch=submit.output, storage_path=tmp_path.as_uri(), poll_interval=0.5
        )
        ClaudeBatchResultsOperator(
            task_id="results", batch=wait.output, storage_path=tmp_path.as_uri(), outlets=[asset]
        )
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("results")["ways"]["direct"]["requests"] == 6
    check_sums(emulator, 6)


def test_the_wait_ends_when_the_job_is_needed_and_its_arguments_hold_wall_clock_times(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual")
    attempt = Try()
    with pytest.raises(TaskDeferred) as deferred:
        one_task(tmp_path, rows(3), deadline=datetime.timedelta(hours=1), direct_minutes=10).execute(
            attempt.context
        )
    kwargs = deferred.value.trigger.serialize()[1]
    due_at = datetime.datetime.fromisoformat(kwargs["due_at"])
    told = datetime.datetime.fromisoformat(attempt.pushed["claude_batch"]["deadline"])
    assert told - due_at == datetime.timedelta(minutes=10)
    left = due_at - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(minutes=49) < left < datetime.timedelta(minutes=50)
    event = {"status": "due", "batch_ids": kwargs["batch_ids"], "open_batch_ids": kwargs["batch_ids"]}
    task = one_task(tmp_path, rows(3), deadline=SOON, direct_minutes=10)
    emulator.settings(duration=1000, cancel_duration=0.2, cancel_finished_share=0.0)
    summary = task.execute_complete(attempt.context, event)
    assert summary["ways"]["direct"]["requests"] == 3


@pytest.mark.parametrize(("on_deadline", "expected"), [("deliver", {"late": 3}), ("fail", None)])
def test_the_author_says_what_happens_at_the_deadline(
    emulator: Emulator, tmp_path: Path, on_deadline: Any, expected: dict[str, int] | None
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.2, cancel_finished_share=0.0)
    attempt = Try()
    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(3)).execute(attempt.context)
    at = datetime.datetime.now(datetime.UTC)
    late = one_task(tmp_path, rows(3), deadline=at, on_deadline=on_deadline)
    if expected is None:
        with pytest.raises(AirflowFailException, match="on_deadline is 'fail'"):
            late.execute(attempt.context)
        assert not emulator.journal(path=CANCEL)
        return
    # Nothing has succeeded, so the delivery is complete and the task fails.
    with pytest.raises(AirflowFailException, match="3 x late"):
        late.execute(attempt.context)
    assert attempt.pushed["summary"]["errors"] == expected
    assert emulator.ledger()["direct_answers"] == 0


def test_a_submission_that_a_full_queue_holds_back_goes_direct_when_the_job_is_needed(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.2, cancel_finished_share=0.0, queue_limit=3)
    emulator.settings(retry_after=300)
    options: dict[str, Any] = {"limits": Limits(requests=3), "direct_minutes": 1}
    attempt = Try()
    with pytest.raises(TaskDeferred) as deferred:
        one_task(tmp_path, rows(9), deadline=datetime.timedelta(seconds=90), **options).execute(
            attempt.context
        )
    assert deferred.value.trigger.serialize()[1]["seconds"] < 31, "the pause ends when the job is needed"
    task = one_task(tmp_path, rows(9), deadline=datetime.timedelta(seconds=50), **options)
    summary = task.execute_complete(attempt.context, {"status": "resume", "unwanted": []})
    assert summary["ways"] == {"batch": summary["ways"]["batch"], "direct": summary["ways"]["direct"]}
    assert (summary["ways"]["batch"]["requests"], summary["ways"]["direct"]["requests"]) == (0, 9)
    assert len(emulator.batches()) == 1
    check_sums(emulator, 9)


def test_a_clear_in_the_direct_phase_pays_nothing_twice(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=1000, cancel_duration=0.2, cancel_finished_share=0.5)
    options: dict[str, Any] = {"deadline": SOON, "direct_minutes": 10}
    attempt = Try(max_tries=0)
    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(20)).execute(attempt.context)
    number = emulator.fault("status", path=MESSAGES, skip=4, times=None, status=401)
    with pytest.raises(AirflowFailException):
        one_task(tmp_path, rows(20), **options).execute(attempt.context)
    emulator.clear_faults(number)
    cleared = Try(try_number=2, max_tries=1)
    summary = one_task(tmp_path, rows(20), **options).execute(cleared.context)
    assert summary["counts"]["succeeded"] == 20
    assert len(emulator.journal(method="POST", path=CREATE)) == 1
    check_sums(emulator, 20)


@pytest.mark.parametrize("small", [True, False])
def test_a_task_that_a_person_ends_makes_no_more_calls(
    emulator: Emulator, tmp_path: Path, small: bool
) -> None:
    emulator.settings(duration=1000, cancel_duration=0.1, cancel_finished_share=0.0, message_seconds=0.2)
    options = {"direct_below": 500} if small else {"deadline": SOON, "direct_minutes": 10}
    task = one_task(tmp_path, rows(400), **options)
    killer = threading.Timer(1.5, task.on_kill)
    killer.start()
    with pytest.raises(StoppedError, match="told to stop"):
        task.execute(Try().context)
    killer.join()
    answers = emulator.ledger()["direct_answers"]
    assert answers < 200
    time.sleep(0.5)
    assert emulator.ledger()["direct_answers"] == answers
    emulator.settings(message_seconds=0)
    summary = one_task(tmp_path, rows(400), **options).execute(Try(try_number=2, max_tries=1).context)
    assert summary["counts"]["succeeded"] == 400
    check_sums(emulator, 400)


def test_parts_are_delivered_as_they_end_and_progress_says_which(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.settings(duration="manual")
    out = tmp_path / "out"
    options: dict[str, Any] = {"limits": Limits(requests=4), "output_path": out.as_uri()}
    attempt = Try()
    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(12), **options).execute(attempt.context)
    [job] = (tmp_path / "storage").glob("jobs/*/*/*/job-*")
    first, *others = [part.batch_id for part in read_ledger(Folder.at(job.as_uri())).parts]  # in any order
    emulator.end(first)
    with pytest.raises(TaskDeferred) as deferred:
        one_task(tmp_path, rows(12), **options).execute(attempt.context)
    kwargs = deferred.value.trigger.serialize()[1]
    assert sorted(kwargs["batch_ids"]) == sorted(others)
    left = datetime.datetime.fromisoformat(kwargs["some_at"]) - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(seconds=290) < left < datetime.timedelta(seconds=300)
    progress = json.loads((out / "progress.json").read_text())
    assert progress["succeeded"] == ["succeeded/part-00000.jsonl"]
    assert (progress["delivered"], progress["requests"]) == (4, 12)
    assert len((out / "succeeded" / "part-00000.jsonl").read_text().splitlines()) == 4
    assert not (out / "summary.json").exists()

    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__DELIVER_EVERY_SECONDS", "0")
    emulator.end(others[0])
    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(12), **options).execute(attempt.context)
    assert json.loads((out / "progress.json").read_text()) == progress
    emulator.end(others[1])
    summary = one_task(tmp_path, rows(12), **options).execute(attempt.context)
    assert summary["counts"]["succeeded"] == 12
    assert json.loads((out / "progress.json").read_text())["delivered"] == 12


# Trying before paying


@pytest.mark.parametrize(
    ("asked", "conf", "expected"),
    [
        (3, {}, [0, 1, 2]),
        (Trial(records=3, pick="spread"), {}, [0, 32, 64]),
        (None, {"claude_batch_trial": 2}, [0, 1]),
        (3, {"claude_batch_limit": 4}, [0, 1, 2, 3]),
        (None, {"claude_batch_trial": True, "claude_batch_limit": 1}, [0]),
    ],
)
def test_a_trial_asks_some_records_directly_and_says_what_the_whole_will_cost(
    emulator: Emulator, tmp_path: Path, asked: Any, conf: dict[str, Any], expected: list[int]
) -> None:
    summary = one_task(tmp_path, rows(99), trial=asked).execute(Try(conf=conf).context)
    assert emulator.batches() == []
    assert sorted(record["input"]["n"] for record in summary["succeeded"]) == expected
    tried = summary["trial"]
    assert (tried["records"], tried["of"]) == (len(expected), 99)
    whole = tried["whole"]
    assert whole["requests"] == 99
    share = 99 / len(expected)
    assert whole["output_tokens"]["expected"] == pytest.approx(
        summary["usage"]["output_tokens"] * share, abs=1
    )
    assert whole["direct_usd"]["expected"] == pytest.approx(summary["cost"]["total_usd"] * share, rel=1e-3)
    assert whole["batch_usd"]["expected"] == pytest.approx(whole["direct_usd"]["expected"] / 2, rel=1e-3)
    if len(expected) > 1:
        bounds = whole["batch_usd"]
        assert bounds["low"] <= bounds["expected"] <= bounds["high"]


def test_a_trial_updates_no_asset_unless_that_is_asked_for(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    def events(dag_id: str) -> int:
        with create_session() as session:
            asked = select(func.count()).where(AssetEvent.source_dag_id == dag_id)
            return session.scalar(asked) or 0

    for dag_id, tried, expected in (
        ("trial_quiet", Trial(records=2), 0),
        ("trial_loud", Trial(records=2, asset_events=True), 1),
    ):
        with DAG(dag_id, schedule=None) as dag:
            one_task(tmp_path, rows(5), trial=tried, outlets=[Asset(f"answers_{dag_id}")])
        assert run_dag(dag).state == "success"
        assert events(dag_id) == expected


def test_a_dry_run_stores_and_checks_everything_and_sends_nothing(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    storage = tmp_path.as_uri()
    with DAG("dry", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(
            task_id="submit",
            requests=rows(7),
            storage_path=storage,
            limits=Limits(requests=3),
            budget=Budget(max_usd=0),
            **MODEL,
        )
        wait = ClaudeBatchSensor(task_id="wait", batch=submit.output, storage_path=storage)
        ClaudeBatchResultsOperator(task_id="results", batch=wait.output, storage_path=storage)
    run = run_dag(dag, {"claude_batch_dry_run": True})
    assert run.state == "success"
    assert run.task_state("wait") == run.task_state("results") == "skipped"
    plan = run.xcom("submit")
    assert (plan["requests"], plan["batches"], plan["ways"]["batch"]) == (7, 3, 7)
    assert plan["bytes"] > 7 * 50
    assert plan["estimate"]["upper_bound_usd"] > 0
    assert "above max_usd=0" in plan["warnings"][0]
    assert plan["models"][0]["model"] == "claude-haiku-4-5"
    shown = json.loads(Path(plan["requests_to_look_at"].removeprefix("file://")).read_text())
    assert [request["params"]["messages"][0]["content"] for request in shown] == [
        f"Count to {number}" for number in range(3)
    ]
    assert emulator.batches() == []
    assert emulator.ledger()["direct_answers"] == 0
    assert "Count to" not in json.dumps(plan)


def test_a_dry_run_of_one_task_returns_the_plan(emulator: Emulator, tmp_path: Path) -> None:
    plan = one_task(tmp_path, rows(2), dry_run=True).execute(Try().context)
    assert (plan["dry_run"], plan["requests"]) == (True, 2)
    results = ClaudeBatchResultsOperator(task_id="results", batch=plan, storage_path=tmp_path.as_uri())
    with pytest.raises(AirflowSkipException, match="dry run"):
        results.execute(Try(task_id="results").context)


def test_a_trial_in_a_notebook_needs_no_airflow_process(emulator: Emulator) -> None:
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    tried = trial.run(rows(50), records=5, pick="random", client=client, **MODEL)
    assert len(tried["succeeded"]) == 5
    assert (tried["trial"]["of"], tried["counts"]["total"]) == (50, 5)
    templated = trial.run(
        lambda: ({"animal": name} for name in ("cat", "dog")),
        prompt="Say {{ animal }}",
        client=client,
        **MODEL,
    )
    assert {record["input"]["animal"] for record in templated["succeeded"]} == {"cat", "dog"}
    assert emulator.batches() == []


def test_a_trial_with_a_token_that_is_fetched_proves_itself_as_its_client_does(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(**_: Any) -> anthropic.AccessToken:
        return anthropic.AccessToken(token="fetched", expires_at=None)  # pragma: allowlist secret

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    emulator.settings(api_key="fetched")
    client = anthropic.Anthropic(credentials=fetched, base_url=emulator.url)
    assert trial.run(rows(3), records=2, client=client, **MODEL)["counts"]["succeeded"] == 2
