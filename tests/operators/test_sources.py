"""Databases, earlier answers and empty inputs, through the operators."""

from __future__ import annotations

import enum
import gzip
import io
import json
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.sdk import DAG
from pyarrow import parquet

from airflow_claude_batch import Answers, ClaudeBatchOperator, Documents, Files, Sql, Trial
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.operators.conftest import Try


class Column(str, enum.Enum):  # noqa: UP042
    ID = "id"


def operator(tmp_path: Path, requests: Any, **options: Any) -> ClaudeBatchOperator:
    options = {"model": "claude-haiku-4-5", "max_tokens": 50, "storage_path": tmp_path.as_uri(), **options}
    return ClaudeBatchOperator(task_id="ask", requests=requests, **options)


def itself(record: dict[str, Any], number: int, file: Path) -> None:
    record.update(custom_id=f"r-{number}", prompt=f"text {number}")


def what_it_holds(record: dict[str, Any], number: int, file: Path) -> None:
    params = record.setdefault("params", {})
    params["messages"] = [{"role": "user", "content": f"text {number}"}]
    record["custom_id"] = f"r-{number}"


def with_documents(record: dict[str, Any], number: int, file: Path) -> None:
    itself(record, number, file)
    record["documents"] = [file.as_uri()]


@pytest.mark.parametrize("change", [itself, what_it_holds, with_documents])
@pytest.mark.parametrize("trial", [None, 3, Trial(records=3, pick="random")])
def test_a_generator_may_go_on_to_change_what_it_has_yielded(
    emulator: Emulator, tmp_path: Path, change: Callable[..., None], trial: Any
) -> None:
    def source() -> Iterator[dict[str, Any]]:
        record: dict[str, Any] = {}
        for number in range(12):
            change(record, number, tmp_path / "note.txt")
            yield record

    emulator.settings(duration=0)
    (tmp_path / "note.txt").write_text("A note.")
    operator(tmp_path, source, trial=trial, documents_from=[tmp_path.as_uri()]).execute(Try().context)
    sent = [
        (request["custom_id"], request["params"]["messages"][0]["content"])
        for file in sorted(tmp_path.rglob("requests-*"))
        for request in map(json.loads, file.read_text().splitlines())
    ]
    assert len(sent) == (3 if trial else 12)
    for custom_id, content in sent:
        text = content if isinstance(content, str) else content[-1]["text"]
        assert re.match(r"r-\d+", custom_id)[0] == text.replace("text ", "r-")  # type: ignore[index]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table tickets (id integer, body text)")
        connection.executemany("insert into tickets values (?, ?)", [(1, "one"), (2, "two"), (3, "three")])
    monkeypatch.setenv("AIRFLOW_CONN_TICKETS", f'{{"conn_type": "sqlite", "host": "{tmp_path / "a.db"}"}}')


@pytest.mark.usefixtures("database")
def test_the_rows_of_a_query_are_records_and_their_answers_those_of_a_second_step(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    query = Sql("tickets", "select * from tickets where id > ?", parameters=[1], rows_at_a_time=1)
    ask = operator(tmp_path, query, prompt="Sum up: {{ body }}", custom_id=Column.ID)
    summary = ask.execute(Try(task_id="ask").context)
    assert {record["custom_id"]: record["input"]["body"] for record in summary["succeeded"]} == {
        "2": "two",
        "3": "three",
    }
    judge = operator(tmp_path, Answers(summary), prompt="{{ body }} → {{ text }}?", custom_id="id")
    judged = judge.execute(Try(task_id="judge").context)
    assert all(record["input"]["text"] for record in judged["succeeded"])


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("sql", ["select * from nowhere", "select id, body as id from tickets"])
def test_a_query_that_fails_stores_and_sends_nothing(emulator: Emulator, tmp_path: Path, sql: str) -> None:
    with pytest.raises(Exception, match=r"[Nn]othing was sent"):
        operator(tmp_path, Sql("tickets", sql), prompt="{{ body }}").execute(Try(task_id="ask").context)
    assert not emulator.journal(method="POST", path=CREATE)
    assert not list(tmp_path.rglob("requests-*"))


def test_no_records_fail_skip_or_succeed_as_the_author_says(emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="on_empty"):
        operator(tmp_path, []).execute(Try(task_id="ask").context)
    with pytest.raises(AirflowSkipException):
        operator(tmp_path, [], on_empty="skip").execute(Try(task_id="ask").context)
    output = (tmp_path / "out").as_uri()
    summary = operator(tmp_path, [], on_empty="succeed", output_path=output).execute(
        Try(task_id="ask").context
    )
    assert summary["counts"]["total"] == 0
    for given in (summary, output):
        again = operator(tmp_path, Answers(given), prompt="{{ text }}", on_empty="skip")
        with pytest.raises(AirflowSkipException):
            again.execute(Try(task_id="again").context)
    assert not emulator.journal(method="POST", path=CREATE)


@pytest.mark.parametrize("source", [Files, Documents])
@pytest.mark.parametrize("place", ["", "absent/2026-11-28/", "*.nothing"])
def test_a_place_without_files_is_an_input_without_records(
    emulator: Emulator, tmp_path: Path, source: type[Files | Documents], place: str
) -> None:
    (tmp_path / "in").mkdir()
    given = source(f"file://{tmp_path}/in/{place}")
    with pytest.raises(AirflowFailException, match="on_empty"):
        operator(tmp_path, given, prompt="Read.").execute(Try(task_id="ask").context)
    with pytest.raises(AirflowSkipException):
        operator(tmp_path, given, prompt="Read.", on_empty="skip").execute(Try(task_id="ask").context)
    empty = operator(tmp_path, given, prompt="Read.", on_empty="succeed")
    assert empty.execute(Try(task_id="ask").context)["counts"]["total"] == 0
    assert not emulator.journal(method="POST", path=CREATE)


@pytest.mark.parametrize("on_empty", ["fail", "skip", "succeed"])
@pytest.mark.parametrize("other", ["missing.txt", "empty"])
def test_a_place_without_files_beside_one_with_files_is_never_passed_over(
    emulator: Emulator, tmp_path: Path, other: str, on_empty: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("one")
    given = Documents(f"file://{tmp_path}/a.txt", f"file://{tmp_path}/{other}")
    with pytest.raises(AirflowFailException, match=other):
        operator(tmp_path, given, prompt="Read.", on_empty=on_empty).execute(Try(task_id="ask").context)
    assert not emulator.journal(method="POST", path=CREATE)


@pytest.mark.parametrize(
    ("source", "left_out"), [(Files, {".txt": 1, ".heic": 2}), (Documents, {".csv": 1, ".heic": 2})]
)
def test_the_summary_says_which_files_were_left_out(
    emulator: Emulator, tmp_path: Path, source: type[Files | Documents], left_out: dict[str, int]
) -> None:
    emulator.settings(duration=0)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\n1,one\n")
    (tmp_path / "in" / "b.txt").write_text("two")
    for name in ("c.heic", "d.heic"):
        (tmp_path / "in" / name).touch()
    given = source(f"file://{tmp_path}/in")
    summary = operator(tmp_path, given, prompt="Read.").execute(Try(task_id="ask").context)
    assert summary["counts"]["succeeded"] == 1
    assert summary["left_out"] == left_out


def _csv() -> bytes:
    return b'id,text\n1,one\n2,two\n3,"thr'


def _gzip() -> bytes:
    rows = "".join(f'{{"id": {number}, "text": "{uuid.uuid4()}"}}\n' for number in range(2000))
    return gzip.compress(rows.encode())[:-3000]


def _json() -> bytes:
    return b'[{"id": 1, "text": "one"}, {"id": 2, "text": "two"}, {"id": 3, "te'


def _parquet() -> bytes:
    table, target = pyarrow.table({"id": [1, 2, 3], "text": ["one", "two", "three"]}), io.BytesIO()
    parquet.write_table(table, target)
    return target.getvalue()[:-40]


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", _csv()), ("a.jsonl.gz", _gzip()), ("a.json", _json()), ("a.parquet", _parquet())],
)
def test_a_file_cut_in_the_middle_fails_the_job_whatever_share_of_bad_records_is_allowed(
    emulator: Emulator, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    for bad_records in ("errored", 1.0):
        ask = operator(
            tmp_path, Files(f"file://{tmp_path}/{name}"), prompt="Read {{ text }}", bad_records=bad_records
        )
        with pytest.raises(AirflowFailException, match="What comes after this place would be lost"):
            ask.execute(Try(task_id="ask").context)
    assert not emulator.journal(method="POST", path=CREATE)


def test_mapped_instances_with_paths_of_their_own_write_right_there(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    paths = [(tmp_path / name).as_uri() for name in ("a", "b")]
    with DAG("own_paths", schedule=None) as dag:
        ClaudeBatchOperator.partial(
            task_id="ask",
            requests=[{"prompt": "Hi"}],
            model="claude-haiku-4-5",
            max_tokens=50,
            storage_path=tmp_path.as_uri(),
        ).expand(output_path=paths)
    assert run_dag(dag).state == "success"
    assert [(tmp_path / name / "summary.json").exists() for name in ("a", "b")] == [True, True]


def test_a_prompt_knows_airflows_context_under_one_name(emulator: Emulator, tmp_path: Path) -> None:
    attempt = Try(task_id="ask")
    with pytest.raises(AirflowFailException, match=r"\{\{ airflow.ds \}\}"):
        operator(tmp_path, [{"text": "Hi"}], prompt="{{ ds }}: {{ text }}").execute(attempt.context)
    ask = operator(tmp_path, [{"text": "Hi"}], prompt="{{ airflow.ds }}: {{ record['text'] }}")
    emulator.settings(duration=0)
    assert f"{attempt.context['ds']}: Hi" in str(ask.execute(attempt.context)["succeeded"])
