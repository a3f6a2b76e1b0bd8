"""Failed records of a job on the page: what of them is shown, and what an edited XCom can reach."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output_records import ErroredRecord
from airflow_claude_batch.batches.storage import Folder
from tests.plugins.seeding import Seed, seed
from tests.plugins.stored_jobs import Stored

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

COLUMNS = "AIRFLOW__CLAUDE_BATCH__SHOW_COLUMNS_IN_UI"
PROMPT = "The kanarienvogel of Mrs Miller has left its golden cage"
FORMATS: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": "zstd"},
    {"format": "parquet"},
]


def failure(number: int, **fields: Any) -> ErroredRecord:
    row = {"account": f"a-{number}", "email": "miller@mail.example"}
    whole = {
        "outcome": "errored",
        "error_type": "invalid_request_error",
        "message": f"messages.0: too long: {PROMPT}",
        "request_id": f"req_{number}",
        "input": msgspec.Raw(json.dumps(row).encode()),
        **fields,
    }
    return ErroredRecord(custom_id=f"one-{number}", **whole)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """``storage_path`` of the API server."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", f"{tmp_path.as_uri()}/storage")
    return Folder.at(f"{tmp_path.as_uri()}/storage")


def deliver(one: Stored, root: Folder, records: list[ErroredRecord], **options: Any) -> Folder:
    """Store a job with its requests, and what was delivered of it."""
    one.store(root, ["msgbatch_1"])
    job = Folder.at(one.url)
    requests = [
        {"custom_id": record.custom_id, "params": {"messages": [{"role": "user", "content": PROMPT}]}}
        for record in records
    ]
    job.write("r-0", b"".join(msgspec.json.encode(request) + b"\n" for request in requests))
    folder = Folder.at(f"{root.parent.url}/out/{one.dag_id}")
    output = open_directory(folder, **options)
    inputs = [{"custom_id": record.custom_id, "input": record.input} for record in records]
    output.begin(msgspec.json.encode(line) + b"\n" for line in inputs)
    with output.part(0) as writer:
        writer.errored.add(records)
    output.finish({"job": one.url, **output.paths()}, [0])
    return folder


def announce(session: Session, one: Stored, folder: Folder) -> None:
    """Write the job's XComs; its summary names the folder."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    seed(session, [one])
    xcom = session.scalars(select(XComModel).where(XComModel.key == "summary")).one()
    paths = {"errored_path": f"{folder.url}/errored", "summary_path": f"{folder.url}/summary.json"}
    xcom.value = {**xcom.value, **paths}
    session.commit()


def get(client: Any, one: Seed) -> Any:
    place = {"dag_id": one.dag_id, "run_id": one.run_id, "task_id": "submit", "map_index": one.map_index}
    return client.get("/claude-batches/api/failures", params=place)


@pytest.mark.parametrize("options", FORMATS)
def test_the_first_hundred_are_shown_whatever_their_format(
    session: Session, root: Folder, client_of: Any, options: dict[str, Any]
) -> None:
    one = Stored()
    announce(session, one, deliver(one, root, [failure(n) for n in range(120)], **options))
    answer = get(client_of("only-nightly_report"), one)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [record["custom_id"] for record in found["records"]] == [f"one-{n}" for n in range(100)]
    first = found["records"][0]
    assert (first["type"], first["request_id"]) == ("invalid_request_error", "req_0")
    assert (found["columns"], found["cut"], first["columns"]) == ([], False, {})
    assert first["message"].startswith("messages.0: too long")
    assert "kanarienvogel" not in answer.text
    assert "miller" not in answer.text.lower()


def test_the_apis_own_lines_are_shown_too(session: Session, root: Folder, client_of: Any) -> None:
    one = Stored()
    folder = deliver(one, root, [failure(1)])
    said = {"type": "error", "error": {"type": "api_error", "message": PROMPT}, "request_id": "req_7"}
    line = {"custom_id": "one-1", "result": {"type": "errored", "error": said}}
    folder.child("errored").write("part-00000.jsonl", msgspec.json.encode(line) + b"\n")
    announce(session, one, folder)
    [record] = get(client_of("admin", "admin"), one).json()["records"]
    assert (record["type"], record["outcome"], record["request_id"]) == ("api_error", "errored", "req_7")
    assert "golden" not in record["message"]


def test_only_columns_that_the_administrator_names_are_shown(
    session: Session, root: Folder, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(COLUMNS, "account, region")
    one = Stored()
    announce(session, one, deliver(one, root, [failure(1)]))
    found = get(client_of("viewer"), one).json()
    assert found["columns"] == ["account"]
    assert [record["columns"] for record in found["records"]] == [{"account": "a-1"}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("invalid", "check", "says Miller"), None),
        (("invalid", "output_schema", "$.name: 'Miller' is no number"), "$.name"),
        (("invalid", "max_tokens", "cut off; 'Miller' fits not"), "cut off"),
        (("expired", None, "its batch ended"), "its batch ended"),
    ],
)
def test_a_message_of_ours_quotes_no_answer(
    session: Session,
    root: Folder,
    client_of: Any,
    fields: tuple[str, str | None, str],
    message: str | None,
) -> None:
    one = Stored()
    outcome, error_type, said = fields
    record = failure(1, outcome=outcome, error_type=error_type, message=said)
    announce(session, one, deliver(one, root, [record]))
    [shown] = get(client_of("admin", "admin"), one).json()["records"]
    assert (shown["type"], shown["message"]) == (error_type or outcome, message)


def test_without_the_stored_request_the_apis_words_are_withheld(
    session: Session, root: Folder, client_of: Any
) -> None:
    one = Stored()
    folder = deliver(one, root, [failure(1)])
    Folder.at(one.url).remove_file("r-0")
    announce(session, one, folder)
    [record] = get(client_of("admin", "admin"), one).json()["records"]
    assert (record["custom_id"], record["message"]) == ("one-1", None)


def refused(client_of: Any, one: Seed, words: str) -> None:
    answer = get(client_of("only-nightly_report", "user"), one)
    assert answer.status_code == 409
    assert words in answer.json()["detail"], answer.text
    assert "one-" not in answer.text


def test_a_path_that_holds_another_jobs_records_is_not_read(
    session: Session, root: Folder, client_of: Any
) -> None:
    theirs, one = Stored(dag_id="score_leads", number=2), Stored()
    folder = deliver(theirs, root, [failure(1)])
    deliver(one, root, [failure(2)])
    announce(session, one, folder)
    refused(client_of, one, "not proved to be this job's")


def test_a_job_of_another_dag_is_refused_though_its_path_is_its_own(
    session: Session, root: Folder, client_of: Any
) -> None:
    theirs = Stored(dag_id="score_leads", number=2)
    folder = deliver(theirs, root, [failure(1)])
    announce(session, Stored(url=theirs.url), folder)
    refused(client_of, Stored(), "is no job of this task instance")


@pytest.mark.parametrize(
    "path",
    [
        "file:///etc/errored",
        "s3://other_team@bucket/out/errored",
        "http://127.0.0.1:1/errored",
        "s3://[bad/errored",
        "errored",
        "x" * 9_000,
    ],
)
def test_a_path_that_an_edited_xcom_names_leads_nowhere(
    session: Session, root: Folder, client_of: Any, path: str
) -> None:
    one = Stored()
    deliver(one, root, [failure(1)])
    announce(session, one, Folder(fs=None, path="", url=path.removesuffix("/errored")))
    refused(client_of, one, "not proved to be this job's")


def test_a_path_that_climbs_is_not_followed(session: Session, root: Folder, client_of: Any) -> None:
    one = Stored()
    folder = deliver(one, root, [failure(1)])
    announce(session, one, dataclasses.replace(folder, url=f"{root.url}/../out/{one.dag_id}"))
    refused(client_of, one, "not proved to be this job's")


def test_places_are_those_that_the_dags_code_or_the_administrator_names() -> None:
    from airflow_claude_batch.plugins.failures import _may_be_opened

    root = Folder(fs=None, path="", url="s3://aws@storage/claude")
    said = ["s3://team@bucket/out/{{ ds }}", "{{ var.value.out }}/x", "gs://{{ bucket }}/x"]
    allowed = {
        "s3://team@bucket/out/2026": True,
        "s3://aws@storage/elsewhere": True,
        "s3://other@bucket/out/2026": False,
        "s3://team@bucket/other": False,
        "s3://other@storage/claude": False,
        "gs://other@bucket/x": False,
        "/etc": False,
    }
    assert {place: _may_be_opened(place, root, said) for place in allowed} == allowed


def test_where_the_api_server_cannot_read_storage_path_that_is_said(
    session: Session, root: Folder, client_of: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = Stored()
    announce(session, one, deliver(one, root, [failure(1)]))
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", f"{tmp_path.as_uri()}/not-mounted-here")
    refused(client_of, one, "Set [claude_batch] storage_path for the API server")


@pytest.mark.parametrize(("stage", "words"), [("waiting", "No results"), ("delivered", "output_path")])
def test_without_files_there_is_a_reason(
    session: Session, root: Folder, client_of: Any, stage: str, words: str
) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    one = Seed(stage=stage)
    seed(session, [one])
    for xcom in session.scalars(select(XComModel).where(XComModel.key == "summary")):
        xcom.value = {**xcom.value, "errored_path": None}
    session.commit()
    refused(client_of, one, words)


def test_reading_ends_when_it_is_enough(
    session: Session, root: Folder, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_claude_batch.plugins.failures.MOST_BYTES", 3 << 20)
    one = Stored()
    huge = msgspec.Raw(json.dumps({"a": "x" * 900_000}).encode())
    announce(session, one, deliver(one, root, [failure(n, input=huge) for n in range(20)]))
    found = get(client_of("admin", "admin"), one).json()
    assert found["cut"]
    assert 1 <= len(found["records"]) < 20


def test_a_store_that_hangs_holds_nobody_up(
    session: Session, root: Folder, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Stored()
    announce(session, one, deliver(one, root, [failure(1)]))
    monkeypatch.setattr("airflow_claude_batch.plugins.failures.MOST_SECONDS", 0.2)
    monkeypatch.setattr("airflow_claude_batch.plugins.failures.open_folder", lambda _: time.sleep(0.8))
    refused(client_of, one, "did not answer within 0.2 seconds")
