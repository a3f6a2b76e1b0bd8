from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_claude_batch import (
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Limits,
    Recovery,
)
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.batches.helpers import sent_ids
from tests.operators.conftest import Try

SECRET = "the customer's secret {{ ds }}"


def rows(count: int, prompt: str = "Hi") -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": prompt, "n": n} for n in range(count)]


def operator(tmp_path: Path, requests: Any, **options: Any) -> ClaudeBatchSubmitOperator:
    options = {"model": "claude-haiku-4-5", "max_tokens": 50, "storage_path": tmp_path.as_uri(), **options}
    return ClaudeBatchSubmitOperator(task_id="submit", requests=requests, **options)


def test_the_three_tasks_bring_every_request_back_with_its_columns(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=1)
    with DAG("three_tasks", schedule=None) as dag:

        @task
        def build() -> list[dict[str, Any]]:
            return rows(5, SECRET)

        submit = operator(tmp_path, build())
        wait = ClaudeBatchSensor(task_id="wait", batch=submit.output, poll_interval=0.3)
        ClaudeBatchResultsOperator(task_id="results", batch=wait.output, storage_path=tmp_path.as_uri())

    run = run_dag(dag)
    assert run.state == "success"
    result = run.xcom("results")
    assert result["counts"]["total"] == result["counts"]["succeeded"] == 5
    assert {record["custom_id"]: record["input"]["n"] for record in result["succeeded"]} == {
        f"r-{n}": n for n in range(5)
    }
    assert all("{{ ds }}" in record["text"] for record in result["succeeded"]), "prompts are data: no Jinja"
    assert SECRET not in str(run.rendered("submit"))
    assert run.rendered("submit")["requests"] == "<5 requests>"


def test_the_outputs_of_mapped_tasks_are_one_input(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    with DAG("mapped_source", schedule=None) as dag:

        @task
        def build(region: str) -> list[dict[str, Any]]:
            return [{"custom_id": f"{region}-{n}", "prompt": "Hi"} for n in range(2)]

        operator(tmp_path, build.expand(region=["eu", "us", "ap"]))

    run = run_dag(dag)
    assert run.xcom("submit")["request_count"] == 6
    (batch,) = emulator.batches()
    assert sent_ids(emulator, batch["id"]) == {"ap-0", "ap-1", "eu-0", "eu-1", "us-0", "us-1"}


def test_a_mapped_submit_has_a_job_an_instance_and_shows_no_prompt(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    with DAG("mapped_submit", schedule=None) as dag:
        ClaudeBatchSubmitOperator.partial(
            task_id="submit", model="claude-haiku-4-5", max_tokens=5, storage_path=tmp_path.as_uri()
        ).expand(requests=[rows(2, SECRET), rows(3, SECRET)])

    run = run_dag(dag)
    handles = [run.xcom("submit", map_index=index) for index in (0, 1)]
    assert [handle["request_count"] for handle in handles] == [2, 3]
    assert handles[0]["job"] != handles[1]["job"]
    assert SECRET not in str(run.rendered("submit", map_index=0))


def test_a_callable_gets_the_context_entries_that_it_names_and_may_stream(
    emulator: Emulator, tmp_path: Path
) -> None:
    def build(params: dict[str, int], ds: str) -> Any:
        for n in range(params["n"]):
            yield {"custom_id": f"{ds}-{n}", "prompt": "Hi"}

    handle = operator(tmp_path, build).execute(Try().context)
    assert sent_ids(emulator, handle["batch_ids"][0]) == {f"2026-11-22-{n}" for n in range(3)}


@pytest.mark.parametrize("requests", ["Hi", {"custom_id": "a", "prompt": "x"}, 5, None, b"x"])
def test_what_is_no_list_of_records_is_refused_before_anything_is_sent(
    emulator: Emulator, tmp_path: Path, requests: Any
) -> None:
    with pytest.raises(ConfigurationError, match="requests is"):
        operator(tmp_path, requests)
    with pytest.raises(Exception, match="InputError") as caught:
        operator(tmp_path, lambda: requests).execute(Try().context)
    assert type(caught.value).__name__ == "AirflowFailException"
    assert emulator.journal(method="POST", path=CREATE) == []


def test_a_generator_that_fails_half_way_submits_nothing(emulator: Emulator, tmp_path: Path) -> None:
    def build() -> Any:
        yield from rows(3)
        raise ConnectionError("the database went away")

    with pytest.raises(ConnectionError, match="the database went away"):
        operator(tmp_path, build).execute(Try().context)
    assert emulator.journal(method="POST", path=CREATE) == []
    handle = operator(tmp_path, rows(3)).execute(Try(try_number=2, max_tries=0).context)
    assert handle["request_count"] == 3


def test_a_missing_model_falls_back_to_the_connection_and_to_nothing_else(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="a model id is required"):
        operator(tmp_path, rows(1), model=None).execute(Try().context)
    extra = {"model": "claude-opus-4-8"}
    connection = json.dumps({"conn_type": "anthropic", "password": "k", "host": emulator.url, "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", connection)
    handle = operator(tmp_path, rows(1), model=None).execute(Try().context)
    assert handle["request_count"] == 1
    assert b"claude-opus-4-8" in next(tmp_path.glob("jobs/**/requests-00000.jsonl")).read_bytes()


def test_without_a_connection_the_environment_is_used(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT")
    with pytest.raises(Exception, match="ANTHROPIC_API_KEY"):
        operator(tmp_path, rows(1)).execute(Try().context)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", emulator.url)
    assert operator(tmp_path, rows(1)).execute(Try().context)["request_count"] == 1


def test_a_wrong_key_fails_at_once_and_is_not_retried(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(api_key="the right one")
    with pytest.raises(Exception, match=r"AccessError.*anthropic_default") as caught:
        operator(tmp_path, rows(1)).execute(Try().context)
    assert type(caught.value).__name__ == "AirflowFailException"


def test_a_platform_without_batches_is_refused_with_its_name(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_ANTHROPIC_DEFAULT",
        '{"conn_type": "anthropic", "password": "k", "extra": {"platform": "foundry", "resource": "r"}}',
    )
    with pytest.raises(Exception, match="not available on the 'foundry' platform"):
        operator(tmp_path, rows(1)).execute(Try().context)


def test_on_several_machines_an_unset_storage_path_is_an_error_that_says_what_to_set(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    with pytest.raises(Exception, match="AIRFLOW__CLAUDE_BATCH__STORAGE_PATH"):
        operator(tmp_path, rows(1), storage_path=None).execute(Try().context)
    assert emulator.journal(method="POST", path=CREATE) == []


def test_a_retry_gets_the_same_batches_and_a_clear_too_unless_told_otherwise(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def now() -> Any:
        return [{"custom_id": "a", "prompt": str(datetime.datetime.now(datetime.UTC))}]

    first = operator(tmp_path, now, retries=2).execute(Try(try_number=1, max_tries=2).context)
    retry = operator(tmp_path, now, retries=2).execute(Try(try_number=2, max_tries=2).context)
    assert retry == first
    caplog.set_level(logging.INFO)
    same = operator(tmp_path, rows(2)).execute(Try(run_id="b").context)
    assert "Sent 2 requests in 1 batches: " in caplog.text
    caplog.clear()
    cleared = operator(tmp_path, rows(2)).execute(Try(run_id="b", try_number=2, max_tries=1).context)
    assert cleared == same
    assert "Sent before: 2 requests in 1 batches: " in caplog.text
    assert "Sent 2" not in caplog.text
    conf: dict[str, Any] = {"claude_batch_force_new": "false"}
    cleared = operator(tmp_path, rows(2)).execute(
        Try(run_id="b", try_number=3, max_tries=2, conf=conf).context
    )
    assert cleared == same, "the word is no yes"
    conf = {"claude_batch_force_new": True}
    forced = operator(tmp_path, rows(2)).execute(
        Try(run_id="b", try_number=4, max_tries=3, conf=conf).context
    )
    assert forced["batch_ids"] != same["batch_ids"]


def test_a_full_queue_defers_and_the_resumed_task_goes_on_at_the_next_part(
    emulator: Emulator, tmp_path: Path
) -> None:
    from airflow.providers.common.compat.sdk import TaskDeferred

    emulator.settings(queue_limit=4)
    submit = operator(tmp_path, rows(6), limits=Limits(requests=2))
    with pytest.raises(TaskDeferred) as deferred:
        submit.execute(Try().context)
    assert deferred.value.method_name == "execute_complete"
    arguments = deferred.value.trigger.serialize()[1]
    assert set(arguments["batch_ids"]) == {batch["id"] for batch in emulator.batches()}  # sent two at a time
    assert set(arguments) == {"seconds", "conn_id", "batch_ids"}
    for batch in emulator.batches():
        emulator.end(batch["id"])
    handle = operator(tmp_path, rows(6), limits=Limits(requests=2)).execute_complete(
        Try().context, {"status": "resume"}
    )
    assert len(handle["batch_ids"]) == 3
    assert emulator.ledger()["submitted_more_than_once"] == []


@pytest.mark.parametrize("cancel", [True, False])
def test_killing_the_task_cancels_what_it_submitted_unless_told_not_to(
    emulator: Emulator, tmp_path: Path, cancel: bool
) -> None:
    submit = operator(tmp_path, rows(2), recovery=Recovery(cancel_on_kill=cancel))
    submit.execute(Try().context)
    submit.on_kill()
    (batch,) = emulator.batches()
    assert batch["processing_status"] == ("canceling" if cancel else "in_progress")


def test_a_kill_after_the_task_has_failed_by_itself_leaves_its_batches_to_the_next_try(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, context = operator(tmp_path, rows(2)), Try().context
    push = context["ti"].xcom_push

    def push_until_sent(**xcom: Any) -> None:
        if emulator.batches():
            raise ConnectionError("the API server is gone")
        push(**xcom)

    monkeypatch.setattr(context["ti"], "xcom_push", push_until_sent)
    with pytest.raises(ConnectionError):
        submit.execute(context)
    submit.on_kill()
    (batch,) = emulator.batches()
    assert batch["processing_status"] == "in_progress"


def test_after_a_clear_a_cancelled_batch_keeps_its_answers_and_only_the_rest_is_sent_again(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    from airflow.providers.common.compat.sdk import TaskDeferred

    submit = operator(tmp_path, rows(10))
    first = submit.execute(Try().context)
    (batch_id,) = first["batch_ids"]
    submit.on_kill()
    with pytest.raises(TaskDeferred):
        operator(tmp_path, rows(10)).execute(Try(try_number=2, max_tries=1).context)
    emulator.end(batch_id)
    finished = emulator.batches()[0]["request_counts"]["succeeded"]
    again = operator(tmp_path, rows(10)).execute_complete(
        Try(try_number=2, max_tries=1).context, {"status": "resume"}
    )
    assert again["job"] == first["job"]
    old, new = again["batch_ids"]
    assert old == batch_id
    assert len(emulator.custom_ids(new)) == 10 - finished
    emulator.end(new)
    results = ClaudeBatchResultsOperator(task_id="results", batch=again, storage_path=tmp_path.as_uri())
    summary = results.execute(Try(task_id="results").context)
    assert summary["counts"]["succeeded"] == summary["counts"]["total"] == 10
    assert emulator.ledger()["billed_more_than_once"] == []


def test_within_a_try_a_batch_that_somebody_cancelled_stays_cancelled(
    emulator: Emulator, tmp_path: Path
) -> None:
    submit = operator(tmp_path, rows(10))
    submit.execute(Try().context)
    submit.on_kill()
    handle = operator(tmp_path, rows(10)).execute_complete(Try().context, {"status": "resume"})
    assert len(handle["batch_ids"]) == 1
