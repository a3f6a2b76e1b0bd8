from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG, task

from airflow_claude_batch import (
    AnswerPolicy,
    Budget,
    ClaudeBatchOperator,
    Documents,
    Files,
    PromptCache,
    Recovery,
)
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.batches.helpers import sent_ids
from tests.operators.conftest import Try
from tests.pdfs import encrypted_pdf, pdf

MODEL = {"model": "claude-haiku-4-5", "max_tokens": 50}
ENDED = {"status": "ended", "batch_ids": []}


def operator(tmp_path: Path, requests: Any, **options: Any) -> ClaudeBatchOperator:
    storage = (tmp_path / "storage").as_uri()
    return ClaudeBatchOperator(task_id="ask", requests=requests, storage_path=storage, **{**MODEL, **options})


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"Count to {n}", "n": n} for n in range(count)]


def deferred(ask: ClaudeBatchOperator, attempt: Try) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        ask.execute(attempt.context)
    return caught.value


def creates(emulator: Emulator) -> int:
    return len(emulator.journal(method="POST", path=CREATE))


def file(path: Path, content: str) -> str:
    path.write_text(content)
    return path.as_uri()


def test_one_task_submits_waits_and_delivers(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=1)
    with DAG("one_task", schedule=None) as dag:
        operator(tmp_path, rows(4), poll_interval=0.3, output_path=(tmp_path / "out").as_uri())

    run = run_dag(dag)

    assert run.state == "success"
    summary = run.xcom("ask")
    assert (summary["counts"]["total"], summary["counts"]["succeeded"]) == (4, 4)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["counts"] == summary["counts"]
    assert creates(emulator) == 1


def test_the_task_defers_while_the_batch_runs_and_goes_on_without_asking_the_source_again(
    emulator: Emulator, tmp_path: Path
) -> None:
    asked = []

    def source() -> Iterator[dict[str, Any]]:
        asked.append(1)
        yield from rows(3)

    ask, attempt = operator(tmp_path, source), Try(task_id="ask")
    defer = deferred(ask, attempt)
    [batch] = emulator.batches()
    assert defer.trigger.batch_ids == [batch["id"]]
    assert "Count" not in str(defer.trigger.serialize())

    emulator.end(batch["id"])
    summary = operator(tmp_path, source).execute_complete(attempt.context, ENDED)
    assert summary["counts"]["succeeded"] == 3
    assert len(asked) == creates(emulator) == 1


def test_a_retry_goes_on_with_the_same_batch(emulator: Emulator, tmp_path: Path) -> None:
    deferred(operator(tmp_path, rows(3), retries=2), Try(task_id="ask", max_tries=2))
    [batch] = emulator.batches()
    emulator.end(batch["id"])
    again = operator(tmp_path, rows(3), retries=2).execute(
        Try(task_id="ask", try_number=2, max_tries=2).context
    )
    assert again["batch_ids"] == [batch["id"]]
    assert creates(emulator) == 1


def test_a_source_that_fails_half_way_sends_nothing(emulator: Emulator, tmp_path: Path) -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield from rows(3)
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError):
        operator(tmp_path, source).execute(Try(task_id="ask").context)
    assert creates(emulator) == 0


def test_records_come_from_the_files_that_a_uri_names(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    file(tmp_path / "a.csv", "order,text\n2026/1,hello\n2026/2,world\n")
    ask = operator(tmp_path, f"{tmp_path.as_uri()}/*.csv", prompt="Say {{ text }}", custom_id="order")
    summary = ask.execute(Try(task_id="ask").context)
    inputs = {record["input"]["order"]: record["text"] for record in summary["succeeded"]}
    assert set(inputs) == {"2026/1", "2026/2"}
    assert "Say hello" in inputs["2026/1"]


def test_an_address_in_upstream_data_is_a_prompt_and_opens_nothing(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    with DAG("addresses_from_upstream", schedule=None) as dag:

        @task
        def export(region: str) -> str:
            return file(tmp_path / f"{region}.jsonl", json.dumps({"prompt": f"About {region}"}) + "\n")

        operator(tmp_path, export.expand(region=["eu", "us"]))

    run = run_dag(dag)
    assert run.state == "success"
    texts = [record["text"] for record in run.xcom("ask")["succeeded"]]
    assert len(texts) == 2
    assert not any("About" in text for text in texts)


def test_a_source_shows_where_the_files_are_once_its_template_is_rendered(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    file(tmp_path / "files_rendered.csv", "text\nprivate\n")
    with DAG("files_rendered", schedule=None) as dag:
        operator(tmp_path, Files(f"{tmp_path.as_uri()}/{{{{ dag.dag_id }}}}.csv"), prompt="{{ text }}")

    run = run_dag(dag)
    assert run.state == "success"
    assert run.rendered("ask")["requests"] == f"Files('{tmp_path.as_uri()}/files_rendered.csv')"
    assert "private" not in str(run.rendered("ask"))


@pytest.mark.parametrize(
    ("name", "why"),
    [("missing.csv", "no such file"), ("*.parquet", "no file matches"), ("bad.csv", "quotes")],
)
def test_files_that_cannot_be_read_fail_the_task_for_good_and_send_nothing(
    emulator: Emulator, tmp_path: Path, name: str, why: str
) -> None:
    file(tmp_path / "bad.csv", 'text\n"never closed\n')
    ask = operator(tmp_path, f"{tmp_path.as_uri()}/{name}", prompt="{{ text }}")
    with pytest.raises(AirflowFailException, match=why):
        ask.execute(Try(task_id="ask").context)
    assert creates(emulator) == 0


@pytest.mark.parametrize("requests", ["just text", None, 17, {"prompt": "x"}])
def test_what_is_no_source_is_refused(emulator: Emulator, tmp_path: Path, requests: Any) -> None:
    with pytest.raises(ConfigurationError, match="requests is"):
        operator(tmp_path, requests)
    with pytest.raises(AirflowFailException, match="records are wanted"):
        operator(tmp_path, lambda: requests).execute(Try(task_id="ask").context)


def test_strings_are_prompts(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    summary = operator(tmp_path, ["Say a", "Say b", "Say a"]).execute(Try(task_id="ask").context)
    assert summary["counts"]["succeeded"] == 3
    assert len({record["custom_id"] for record in summary["succeeded"]}) == 3


def test_an_encrypted_pdf_is_delivered_as_errored_and_the_others_are_answered(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "good.pdf").write_bytes(pdf())
    (inbox / "locked.pdf").write_bytes(encrypted_pdf())
    summary = operator(tmp_path, Documents(inbox.as_uri()), prompt="Summarise.", bad_records=0.5).execute(
        Try(task_id="ask").context
    )

    counts = summary["counts"]
    assert (counts["total"], counts["succeeded"], counts["invalid"]) == (2, 1, 1)
    [errored] = summary["errored"]
    assert (errored["error_type"], errored["input"]["name"]) == ("unreadable_document", "locked.pdf")
    assert "locked.pdf: it is encrypted" in errored["message"]
    assert summary["error_samples"]["unreadable_document"]["message"] == errored["message"]
    assert [sent_ids(emulator, batch["id"]) for batch in emulator.batches()] == [
        {summary["succeeded"][0]["custom_id"]}
    ]


def test_a_store_that_airflow_does_not_know_is_named(emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match=r"ftps://x/y\.csv cannot be opened.*install the provider"):
        operator(tmp_path, Files("ftps://x/y.csv")).execute(Try(task_id="ask").context)


def test_documents_that_records_of_a_list_name_are_refused_with_the_way_out(
    emulator: Emulator, tmp_path: Path
) -> None:
    records = [{"custom_id": "a", "prompt": "Read.", "documents": [file(tmp_path / "a.txt", "private")]}]
    with pytest.raises(AirflowFailException, match="documents_from"):
        operator(tmp_path, records).execute(Try(task_id="ask").context)
    assert creates(emulator) == 0


def test_documents_beside_the_files_that_name_them_are_read(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    document = file(tmp_path / "a.txt", "of the record")
    rows = file(tmp_path / "in.jsonl", json.dumps({"prompt": "Read.", "documents": [document]}) + "\n")
    summary = operator(tmp_path, Files(rows)).execute(Try(task_id="ask").context)
    assert summary["counts"]["succeeded"] == 1


def test_an_unreadable_document_fails_the_task_where_that_is_wanted(
    emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "locked.pdf").write_bytes(encrypted_pdf())
    (tmp_path / "good.pdf").write_bytes(pdf())
    documents = Documents(f"{tmp_path.as_uri()}/*.pdf")
    ask = operator(tmp_path, documents, prompt="Summarise.")
    with pytest.raises(AirflowFailException, match="encrypted"):
        ask.execute(Try(task_id="ask").context)
    assert creates(emulator) == 0


def test_a_shared_system_prompt_from_a_file_is_cached(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    handbook = file(tmp_path / "handbook.md", "Rules. " * 4000)
    ask = operator(tmp_path, rows(5), system=handbook, cache="1h")
    usage = ask.execute(Try(task_id="ask").context)["usage"]
    assert usage["cache_creation_input_tokens"] > 4096
    assert usage["cache_read_input_tokens"] > 4096


def test_a_warm_cache_waits_for_the_first_request_without_a_worker(
    emulator: Emulator, tmp_path: Path
) -> None:
    ask, attempt = (
        operator(tmp_path, rows(3), system="Rules. " * 4000, cache=PromptCache(ttl="1h", warm=True)),
        Try("ask"),
    )
    first = deferred(ask, attempt)
    [warming] = emulator.batches()
    assert (first.method_name, first.trigger.batch_ids) == ("execute_complete", [warming["id"]])

    emulator.end(warming["id"])
    with pytest.raises(TaskDeferred) as second:
        ask.execute_complete(attempt.context, ENDED)
    assert len(second.value.trigger.batch_ids) == 2
    for batch in emulator.batches()[1:]:
        emulator.end(batch["id"])
    summary = ask.execute_complete(attempt.context, ENDED)
    assert summary["counts"]["succeeded"] == 3


def test_a_wait_for_the_warming_batch_that_fails_fails_the_task(emulator: Emulator, tmp_path: Path) -> None:
    ask, attempt = (
        operator(tmp_path, rows(3), system="x" * 9000, cache=PromptCache(ttl="1h", warm=True)),
        Try("ask"),
    )
    deferred(ask, attempt)
    with pytest.raises(AirflowFailException, match="the key was refused"):
        ask.execute_complete(
            attempt.context, {"status": "refused", "batch_ids": ["b"], "message": "the key was refused"}
        )


def test_a_misspelt_model_is_refused_before_the_source_is_asked(emulator: Emulator, tmp_path: Path) -> None:
    def source() -> list[Any]:
        raise AssertionError("asked")

    with pytest.raises(AirflowFailException, match="no model 'claude-hiku-4-5'"):
        operator(tmp_path, source, model="claude-hiku-4-5").execute(Try(task_id="ask").context)


def test_a_model_of_a_single_record_is_checked_too(emulator: Emulator, tmp_path: Path) -> None:
    records = [*rows(2), {"custom_id": "x", "prompt": "x", "model": "claude-3-5-haiku-latest"}]
    with pytest.raises(AirflowFailException, match="retired"):
        operator(tmp_path, records).execute(Try(task_id="ask").context)
    assert creates(emulator) == 0


def test_a_name_that_the_function_has_set_outlives_a_retry_in_which_it_is_not_called(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    named = {"map_index_template": "{{ label }}"}
    first, again = (Try(task_id="ask", try_number=n, max_tries=1).context | named for n in (1, 2))

    def ask() -> Iterator[str]:
        first["label"] = "north"
        yield "Hi"

    for context in (first, again):
        task = operator(tmp_path, ask, retries=1, output_path=f"{tmp_path.as_uri()}/out/{{{{ label }}}}")
        assert task.render_template(task.output_path, context) == task.output_path
        summary = task.execute(context)
        assert summary["succeeded_path"] == f"{tmp_path.as_uri()}/out/north/succeeded"
        assert context["label"] == "north"
    assert creates(emulator) == 1


def test_two_schemas_are_one_too_many(emulator: Emulator, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    format_ = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    task = operator(tmp_path, rows(2), message_params=format_, output_schema=schema)
    with pytest.raises(AirflowFailException, match="two schemas, output_schema and message_params"):
        task.execute(Try(task_id="ask").context)
    assert emulator.journal() == []


def test_a_probe_finds_a_wrong_parameter_before_the_night_is_lost(emulator: Emulator, tmp_path: Path) -> None:
    wrong = {"thinking": {"type": "enormous"}}
    with pytest.raises(AirflowFailException, match="probe of request r-0 was refused"):
        operator(tmp_path, rows(2), message_params=wrong, budget=Budget(probe=True)).execute(
            Try(task_id="ask").context
        )
    assert creates(emulator) == 0


@pytest.mark.parametrize(
    ("above", "chosen", "probes"),
    [("0.000001", None, 1), ("5", None, 0), ("0.000001", False, 0), ("5", True, 1)],
)
def test_a_dear_job_is_probed_unless_the_operator_says_otherwise(
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    above: str,
    chosen: bool | None,
    probes: int,
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__PROBE_ABOVE_USD", above)
    emulator.settings(duration=0)
    operator(tmp_path, rows(2), budget=Budget(probe=chosen)).execute(Try(task_id="ask").context)
    assert len(emulator.journal(method="POST", path="/v1/messages$")) == probes


def test_no_prompt_is_logged(emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    emulator.settings(duration=0)
    handbook = file(tmp_path / "handbook.md", "Confidential handbook. " * 900)
    with caplog.at_level(logging.DEBUG, logger="airflow_claude_batch"):
        ask = operator(
            tmp_path, [{"word": "confidential"}], prompt="Say {{ word }}", system=handbook, cache="5m"
        )
        ask.execute(Try(task_id="ask").context)
    assert "onfidential" not in caplog.text


@pytest.mark.parametrize("cancel", [True, False])
def test_a_kill_while_it_waits_cancels_only_where_that_is_wanted(
    emulator: Emulator, tmp_path: Path, cancel: bool
) -> None:
    defer = deferred(
        operator(tmp_path, rows(1), recovery=Recovery(cancel_on_kill=cancel)), Try(task_id="ask")
    )
    assert defer.trigger.cancel_on_kill is cancel


def test_the_summary_says_what_caching_saved_or_cost(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)

    def cost(name: str, count: int) -> dict[str, Any]:
        ask = operator(tmp_path / name, rows(count), system=f"{name} rules. " * 4000, cache="1h")
        money: dict[str, Any] = ask.execute(Try(task_id="ask").context)["cost"]
        return money

    many = cost("many", 20)
    assert many["cache_saved_usd"] > 0
    assert many["cache_hit_rate"] > 0.5
    assert cost("one", 1)["cache_saved_usd"] < 0, "a single request writes the cache and reads nothing"


def test_dag_test_finds_a_connection_that_only_airflows_database_has(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    from airflow.models import Connection
    from airflow.utils.session import create_session

    emulator.settings(duration=1)
    with create_session() as session:
        session.add(
            Connection(conn_id="in_the_database", conn_type="anthropic", password="key", host=emulator.url)
        )
    with DAG("database_connection", schedule=None) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=["Hi"],
            model="claude-haiku-4-5",
            max_tokens=16,
            conn_id="in_the_database",
            poll_interval=0.5,
            storage_path=(tmp_path / "jobs").as_uri(),
        )
    assert run_dag(dag).state == "success"


def test_a_field_that_cannot_quote_is_named_before_anything_is_sent(
    emulator: Emulator, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"quote": {"type": "string"}}, "additionalProperties": False}
    ask = operator(tmp_path, rows(1), output_schema=schema, answer_policy=AnswerPolicy(quotes=("qoute",)))
    with pytest.raises(AirflowFailException, match="quotes names 'qoute'"):
        ask.execute(Try(task_id="ask").context)
    assert creates(emulator) == 0
