"""What templates and upstream tasks make of an operator's inputs."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG, ObjectStoragePath, task

from airflow_claude_batch import (
    Answers,
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Documents,
    Files,
    Sql,
)
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.settings import open_folder, storage_root
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.operators.conftest import Try

MODEL: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 50}
HANDLE = {
    "job": "file:///storage/jobs/d/r/t/job-1",
    "batch_ids": ["msgbatch_1", "msgbatch_2"],
    "request_count": 9,
}


@pytest.mark.parametrize("text", [str(HANDLE), json.dumps(HANDLE), f"  {HANDLE}\n"])
def test_a_handle_that_a_template_has_made_text_is_read_back(text: str) -> None:
    assert Handle.parse(text).as_dict() == HANDLE


@pytest.mark.parametrize("ids", [["a", "b", "a"], {"batch_ids": ["a", "b", " a"]}, "['a', 'b', 'a']"])
def test_a_batch_that_is_named_twice_is_one(ids: Any) -> None:
    assert Handle.parse(ids).batch_ids == ["a", "b"]


@pytest.mark.parametrize(
    "value",
    [
        "file:///storage/jobs/d/r/t/job-1",
        "s3://c@b/job-1",
        ["s3://c@b/job-1"],
        "none",
        "NaN",
        "undefined",
        '{"batch_ids": ["a", null]}',
        {"batch_ids": ["a", None]},
        {"batch_ids": ["a", 7]},
    ],
)
def test_what_the_api_would_never_find_is_no_batch_id(value: Any) -> None:
    with pytest.raises(Exception, match="a batch id, or a list of batch ids is wanted"):
        Handle.parse(value)


@pytest.mark.parametrize("text", ["None", "null", "  None ", "[None]", "{}", "{'job': None}", "[]", "''"])
def test_the_text_of_nothing_is_no_batch_id(text: str) -> None:
    with pytest.raises(Exception, match="a batch id, or a list of batch ids is wanted"):
        Handle.parse(text)


@pytest.mark.parametrize("path", [str, Path])
def test_addresses_in_a_list_are_files_and_no_prompts(
    emulator: Emulator, tmp_path: Path, path: type[str | Path]
) -> None:
    emulator.settings(duration=0)
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"id,text\n{name},one\n")
    requests = [path(tmp_path / "a.csv"), path(tmp_path / "b.csv")]
    options = {"prompt": "Read {{ text }}", "custom_id": "id", "storage_path": tmp_path.as_uri(), **MODEL}
    ask = ClaudeBatchOperator(task_id="ask", requests=requests, **options)
    summary = ask.execute(Try(task_id="ask").context)
    assert {record["custom_id"] for record in summary["succeeded"]} == {"a", "b"}


def test_addresses_from_upstream_are_prompts_and_open_nothing() -> None:
    with DAG("upstream", schedule=None):
        other = ClaudeBatchOperator(task_id="other", requests=["Hi"], **MODEL)
        ask = ClaudeBatchOperator(task_id="ask", requests=other.output, **MODEL)
    ask.requests = ["s3://b/a.csv", "/b.csv"]
    assert ask.shown_requests == ["s3://b/a.csv", "/b.csv"]


def test_addresses_in_a_list_that_a_mapped_instance_gets_are_prompts_and_open_nothing(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    (tmp_path / "a.csv").write_text("prompt\nSECRET\n")
    with DAG("mapped_texts", schedule=None) as dag:

        @task
        def tickets() -> list[list[str]]:
            return [[str(tmp_path / "a.csv")]]

        ClaudeBatchOperator.partial(task_id="ask", storage_path=tmp_path.as_uri(), **MODEL).expand(
            requests=tickets()
        )
    assert run_dag(dag).state == "success"
    [stored] = tmp_path.rglob("requests-00000.jsonl")
    assert "SECRET" not in stored.read_text()


@pytest.mark.parametrize("rows", [[("id1", "text one"), ("id2", "text two")], {"id1": "text one"}])
def test_the_rows_that_a_task_is_mapped_over_are_no_lists_of_prompts(
    emulator: Emulator, airflow_database: None, tmp_path: Path, rows: Any
) -> None:
    with DAG("mapped_rows", schedule=None) as dag:

        @task
        def query() -> Any:
            return rows

        ClaudeBatchOperator.partial(task_id="ask", storage_path=tmp_path.as_uri(), **MODEL).expand(
            requests=query()
        )
    assert run_dag(dag).state == "failed"
    assert not emulator.journal(method="POST", path=CREATE)
    assert not list(tmp_path.rglob("requests-*"))


SECRET = "[{'custom_id': 'a', 'prompt': 'SECRET'}]"


@pytest.mark.parametrize("source", [str, Files, Documents])
def test_records_that_a_template_has_made_text_are_refused_unquoted_with_the_way_out(
    emulator: Emulator, airflow_database: None, tmp_path: Path, source: Any
) -> None:
    place = tmp_path.as_uri()
    ask = ClaudeBatchOperator(
        task_id="ask", requests=source("{{ params.rows }}"), storage_path=place, **MODEL
    )
    ask.requests.uris = [SECRET]  # as rendered
    with pytest.raises(
        AirflowFailException, match=r"text of 40 characters; .*requests=build.output"
    ) as caught:
        ask.execute(Try(task_id="ask").context)
    assert "SECRET" not in str(caught.value)
    assert not emulator.journal(method="POST", path=CREATE)


@pytest.mark.parametrize(
    ("summary", "shown"),
    [(None, "nothing"), ("", "nothing"), ("None", "nothing"), ("SECRET, all", "text of 11"), (5, "a number")],
)
def test_answers_of_no_summary_are_refused_unquoted(summary: Any, shown: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"given {shown}.*Answers\(extract.output\)") as caught:
        Answers(summary).read(open_folder)
    assert "SECRET" not in str(caught.value)


def test_a_summary_that_a_template_has_made_text_is_read_back() -> None:
    summary = {"succeeded": [{"custom_id": "a", "text": "Hi"}]}
    for given in (str(summary), json.dumps([summary]), [summary]):
        assert list(Answers(given).read(open_folder)) == [{"custom_id": "a", "text": "Hi"}]


def test_another_tasks_output_within_a_function_is_refused_with_the_way_out() -> None:
    with DAG("within", schedule=None):
        other = ClaudeBatchOperator(task_id="other", requests=["Hi"], **MODEL)
    for source in (Answers(other.output), Sql("tickets", other.output)):
        with pytest.raises(ConfigurationError, match=rf"Write requests={type(source).__name__}"):
            source.read(open_folder)


@pytest.mark.parametrize("source", [Files, Documents])
def test_paths_are_addresses_of_a_source(source: type[Files | Documents], tmp_path: Path) -> None:
    given = source(tmp_path, ObjectStoragePath("s3://c@bucket/in"))
    assert given.places() == [str(tmp_path), "s3://c@bucket/in"]


@pytest.mark.parametrize("source", [Files, Documents])
@pytest.mark.parametrize("uri", ["data/a.csv", "~/a.csv", "", "None", None, ["/a.csv"], Files("/a.csv")])
def test_what_is_no_address_is_refused_where_it_is_written(source: type[Files | Documents], uri: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"Argument 2 of {source.__name__}\(…\) is .*an absolute path"
    ):
        source("/in/", uri)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Files("/in/", literal="False"),
        lambda: Documents("/in/", citations="false"),
        lambda: Documents("/in/", decrypt=0),
        lambda: Sql("tickets", None),
        lambda: Sql(None, "select 1"),
        lambda: Sql("tickets", "select 1", rows_at_a_time="10"),
    ],
)
def test_what_an_option_of_a_source_is_not_is_refused_where_it_is_written(make: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"it is (True or False|text|a whole number)"):
        make()


def test_three_tasks_pass_their_handle_through_templates(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    place = {"storage_path": (tmp_path / "storage").as_uri()}
    with DAG("through_text", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(task_id="submit", requests=["Hi", "Ho"], **MODEL, **place)
        wait = ClaudeBatchSensor(task_id="wait", batch="{{ ti.xcom_pull('submit') }}", **place)
        results = ClaudeBatchResultsOperator(task_id="results", batch="{{ ti.xcom_pull('wait') }}", **place)
        submit >> wait >> results
    run = run_dag(dag)
    assert run.state == "success"
    assert run.xcom("results")["counts"]["succeeded"] == 2


@pytest.mark.parametrize(("on_empty", "states"), [("skip", ["skipped"] * 3), ("succeed", ["success"] * 3)])
def test_no_rows_go_the_same_way_through_three_tasks(
    emulator: Emulator, airflow_database: None, tmp_path: Path, on_empty: str, states: list[str]
) -> None:
    place = {"storage_path": (tmp_path / "storage").as_uri()}
    with DAG(f"no_rows_{on_empty}", schedule=None) as dag:
        submit = ClaudeBatchSubmitOperator(task_id="submit", requests=[], on_empty=on_empty, **MODEL, **place)
        wait = ClaudeBatchSensor(task_id="wait", batch=submit.output, **place)
        ClaudeBatchResultsOperator(
            task_id="results", batch=wait.output, output_path=(tmp_path / "out").as_uri(), **place
        )
    run = run_dag(dag)
    assert [run.task_state(name) for name in ("submit", "wait", "results")] == states
    assert not emulator.journal(method="POST", path=CREATE)
    if on_empty == "succeed":
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["counts"]["total"] == 0


def sent_system(emulator: Emulator, tmp_path: Path, system: str) -> Any:
    emulator.settings(duration=0)
    with DAG("asks", schedule=None, params={"language": "german"}) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=["Hi"],
            system=system,
            storage_path=(tmp_path / "storage").as_uri(),
            **MODEL,
        )
    run = run_dag(dag)
    if run.state != "success":
        return None
    [stored] = (tmp_path / "storage").rglob("requests-00000.jsonl")
    return json.loads(stored.read_text())["params"]["system"]


@pytest.mark.parametrize("name", ["system.md", "my prompts/{{ params.language }}.md", "Ä ö.txt"])
def test_an_address_of_a_system_prompt_is_a_template_and_read(
    emulator: Emulator, airflow_database: None, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name.replace("{{ params.language }}", "german")
    file.parent.mkdir(exist_ok=True)
    file.write_text("Sort the tickets.")
    assert sent_system(emulator, tmp_path, f"file://{tmp_path}/{name}") == "Sort the tickets."


@pytest.mark.parametrize("system", ["file:///not/there.md", "s3://begins a sentence\nthat goes on"])
def test_what_begins_like_an_address_and_is_none_is_refused_unsent(
    emulator: Emulator, tmp_path: Path, system: str
) -> None:
    ask = ClaudeBatchOperator(
        task_id="ask", requests=["Hi"], system=system, storage_path=tmp_path.as_uri(), **MODEL
    )
    with pytest.raises(AirflowFailException, match="begins like an address"):
        ask.execute(Try(task_id="ask").context)
    assert not emulator.journal(method="POST", path=CREATE)


@pytest.mark.parametrize("name", ["my home", "Zuhause für Ä", "50% #1"])
def test_a_home_with_a_blank_or_an_accent_is_that_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / name))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", raising=False)
    root = storage_root()
    root.write("file", b"here")
    assert (tmp_path / name / "claude_batch" / "file").read_bytes() == b"here"


class OnlyArrow:
    """A table as polars is one: known by Arrow's interface alone."""

    def __init__(self, **columns: list[Any]) -> None:
        self._table = pyarrow.table(columns)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def test_a_table_of_any_library_that_speaks_arrow_is_its_rows(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    table = OnlyArrow(custom_id=["a", "b"], prompt=["x", "y"], score=[1.5, None])
    ask = ClaudeBatchOperator(task_id="ask", requests=lambda: table, storage_path=tmp_path.as_uri(), **MODEL)
    records = ask.execute(Try(task_id="ask").context)["succeeded"]
    assert {record["custom_id"]: record["input"]["score"] for record in records} == {"a": 1.5, "b": None}


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table tickets (id integer, body text)")
        connection.executemany("insert into tickets values (?, ?)", [(1, "one"), (2, "two")])
    monkeypatch.setenv("AIRFLOW_CONN_TICKETS", f'{{"conn_type": "sqlite", "host": "{tmp_path / "a.db"}"}}')


@pytest.mark.usefixtures("tickets")
def test_a_query_in_a_sql_file_is_a_template_found_where_airflow_looks(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "tickets.sql").write_text("select * from tickets where id = {{ params.id }}")
    with DAG(
        "sql_file", schedule=None, params={"id": 2}, template_searchpath=[str(tmp_path / "queries")]
    ) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=Sql("tickets", "tickets.sql"),
            prompt="{{ body }}",
            custom_id="id",
            storage_path=(tmp_path / "storage").as_uri(),
            **MODEL,
        )
    run = run_dag(dag)
    assert run.state == "success"
    assert [record["custom_id"] for record in run.xcom("ask")["succeeded"]] == ["2"]
