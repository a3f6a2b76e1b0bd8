"""What templates and upstream tasks make of an operator's inputs."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_claude_batch import (
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Sql,
)
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.settings import storage_root
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


@pytest.mark.parametrize("text", ["None", "null", "  None ", "[None]", "{}", "{'job': None}", "[]", "''"])
def test_the_text_of_nothing_is_no_batch_id(text: str) -> None:
    with pytest.raises(Exception, match="a batch id, or a list of batch ids is wanted"):
        Handle.parse(text)


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
