"""No log, message, XCom or page shows prompts, columns, documents or answers, whatever the API says.

The API repeats what it was sent, in refusals, in failures of its own and in errored results; the tasks log at
DEBUG. The files of records hold all of it, of course.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_claude_batch import AnswerPolicy, Budget, ClaudeBatchOperator, Files
from airflow_claude_batch.emulator.testing import CREATE, RESULTS, Emulator
from airflow_claude_batch.testing.dag_runs import Run, run_dag

CANARY = "canary-4711@mail.example"
WORD = "kanarienvogel"
PROMPT = f"Write to {CANARY} that the {WORD} has left its golden cage"
DOCUMENT = f"the {WORD} lives at number seven with {CANARY}"
SECRETS = (CANARY, WORD, "left its golden", "lives at number")
ECHO = f"cannot take this: {PROMPT} [{DOCUMENT}]"
ERROR = {"message": ECHO, "type": "invalid_request_error"}
POST = {"method": "POST", "path": CREATE}
CASES: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    **{f"create_{status}": [{"status": status, **POST}] for status in (400, 402, 403, 404, 413, 422)},
    "create_500_once": [{"status": 500, "times": 1, **POST}],
    "create_500_as_text": [{"status": 500, "times": 1, "body": f"<html>{ECHO}</html>", **POST}],
    "count_400": [{"status": 400, "path": "count_tokens"}],
    "models_400": [{"status": 400, "path": "/v1/models", "message": f"'{PROMPT}'"}],
}


def files(folder: Path) -> Files:
    """Records with a prompt, a document and a column that nobody else is to see."""
    folder.mkdir()
    (folder / "a.txt").write_text(DOCUMENT)
    document = (folder / "a.txt").as_uri()
    rows = [{"prompt": f"{PROMPT} {n}", "documents": [document], "to": CANARY} for n in range(3)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Files((folder / "rows.jsonl").as_uri())


def ask(name: str, tmp_path: Path, **options: Any) -> Run:
    storage = (tmp_path / "storage").as_uri()
    with DAG(f"canary_{name}", schedule=None) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=files(tmp_path / "in"),
            model="claude-haiku-4-5",
            max_tokens=200,
            storage_path=storage,
            poll_interval=0.3,
            output_path=(tmp_path / "out").as_uri(),
            **options,
        )
    return run_dag(dag)


def told(run: Run, client: Any) -> str:
    """All that is to be seen of a run: XComs, rendered fields, and the answers of the page."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        xcoms = session.execute(
            select(XComModel.key, XComModel.value).where(XComModel.run_id == run.run_id)
        ).all()
    pages = [
        client.get("/claude-batches/api/jobs", params={"view": view}).text for view in ("in_flight", "recent")
    ]
    where = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "ask", "map_index": -1}
    pages += [client.get(f"/claude-batches/api/{name}", params=where).text for name in ("job", "failures")]
    assert run.dag_id in "".join(pages)
    return f"{xcoms} {run.rendered('ask')} {pages}"


def assert_secret(text: str) -> None:
    lowered = text.lower()
    for secret in SECRETS:
        at = lowered.find(secret)
        assert at < 0, f"{secret!r} in …{text[max(at - 300, 0) : at + 100]}…"


@pytest.fixture
def everything(client_of: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """All that a run has shown anywhere."""
    client = client_of("admin", "admin")
    caplog.set_level(logging.DEBUG)

    def collect(run: Run) -> str:
        out, err = capfd.readouterr()
        return f"{caplog.text} {out} {err} {told(run, client)}"

    return collect


@pytest.mark.parametrize("case", CASES)
def test_whatever_fails_nobody_sees_the_data(
    emulator: Emulator, airflow_database: None, tmp_path: Path, everything: Any, case: str
) -> None:
    emulator.settings(duration=0)
    for fault in CASES[case]:
        emulator.fault("status", **{"times": None, **ERROR, **fault})
    run = ask(case, tmp_path, budget=Budget(max_usd=100))
    text = everything(run)
    assert_secret(text)
    assert "ask" in text
    if run.state == "success":
        assert CANARY in "".join(file.read_text() for file in (tmp_path / "out").rglob("part-*.jsonl"))


@pytest.mark.parametrize("kind", ["invalid_request_error", "api_error"])
def test_errored_results_show_the_data_only_in_their_records(
    emulator: Emulator, airflow_database: None, tmp_path: Path, everything: Any, kind: str
) -> None:
    failure = {"pattern": ".*", "error_type": kind, "message": ECHO}
    emulator.settings(duration=0, outcomes={"failures": [failure]})
    run = ask(f"errored_{kind}", tmp_path)
    text = everything(run)
    assert_secret(text)
    assert "cannot take this" in text
    assert CANARY in "".join(file.read_text() for file in (tmp_path / "out").rglob("part-*.jsonl"))


def test_an_answer_that_breaks_its_schema_is_not_quoted(
    emulator: Emulator, airflow_database: None, tmp_path: Path, everything: Any
) -> None:
    emulator.settings(duration=0)
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    emulator.settings(outcomes={"max_tokens": 1.0})
    run = ask(
        "schema", tmp_path, output_schema=schema, answer_policy=AnswerPolicy(count_as_failed=["max_tokens"])
    )
    assert_secret(everything(run))


def test_a_refused_download_shows_no_traceback_of_the_sdks(
    emulator: Emulator, airflow_database: None, tmp_path: Path, everything: Any
) -> None:
    emulator.settings(duration=0)
    said = {**ERROR, "message": f'"{PROMPT}"', "status": 400}
    emulator.fault("status", method="GET", path=RESULTS, times=None, **said)
    run = ask("download", tmp_path)
    text = everything(run)
    assert run.state == "failed"
    assert "ApiCallError" in text
    assert_secret(text)
