"""One XCom of any DAG, with anything in it: that job cannot be read, and everything else works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.seeding import Seed, seed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

GOOD = Seed(number=1)
BAD = Seed(number=2, dag_id="score_leads")
DEEP = "[" * 5_000 + "]" * 5_000
SUMMARIES = [
    '"counts": {"total": "abc", "succeeded": 1}',
    '"counts": {"total": 1e309, "succeeded": 1}',
    '"counts": {"total": 5, "succeeded": -5}',
    '"counts": {"total": 5, "succeeded": 5}, "cost": {"total_usd": 1e309}',
    '"counts": {"total": 5, "succeeded": 5}, "batches": [{"id": "b", "created_at": "9999-12-31T23:59:59Z"}]',
    '"counts": {"total": 5, "succeeded": 5}, "batches": [{"id": "b", "ended_at": "0001-01-01T00:00:00"}]',
    f'"counts": {DEEP}',
    f'"counts": {{"total": 5, "succeeded": 5}}, "x": {DEEP}',
    '"counts": null',
    '"counts": {"total": 3, "succeeded": 500}',
    '"counts": {"total": 5, "succeeded": 5, "errored": 1}',
    '"counts": {"total": 5, "succeeded": 5}, "errors": {"x": "abc"}',
]  # fmt: skip
ANNOUNCEMENTS = [
    '"submitted_at": "9999-12-31T23:59:59Z"',
    '"submitted_at": "9999-12-31T23:59:59"',
    '"request_count": 1e309',
    '"batch_ids": [1, 2]',
    f'"x": {DEEP}',
]


def replace(session: Session, key: str, text: str) -> None:
    """Write it as the database takes it, past every check of Airflow."""
    from sqlalchemy import text as sql

    session.execute(
        sql("UPDATE xcom SET value = :value WHERE key = :key AND dag_id = :dag_id"),
        {"value": text, "key": key, "dag_id": BAD.dag_id},
    )
    session.commit()


def everything(client: Any) -> dict[str, Any]:
    paths = [
        "jobs?view=in_flight", "jobs?view=recent", "jobs?view=recent&result=delivered",
        "jobs?view=recent&result=partial", "jobs?view=recent&result=failed", "jobs?view=recent&q=msgbatch_x",
        "totals", "attention", "dags", f"run?dag_id={BAD.dag_id}&run_id={BAD.run_id}",
        f"job?dag_id={BAD.dag_id}&run_id={BAD.run_id}&task_id=submit",
        f"batches?dag_id={BAD.dag_id}&run_id={BAD.run_id}&task_id=submit",
    ]  # fmt: skip
    answers = {}
    for path in paths:
        response = client.get(f"/claude-batches/api/{path}")
        assert response.status_code == 200, (path, response.text[:500])
        answers[path] = json.loads(response.text, parse_constant=pytest.fail)
    return answers


@pytest.mark.parametrize(
    ("key", "fields"),
    [("summary", fields) for fields in SUMMARIES] + [("claude_batch", fields) for fields in ANNOUNCEMENTS],
)
def test_the_job_cannot_be_read_and_all_else_works(
    client_of: Any, session: Session, key: str, fields: str
) -> None:
    seed(session, [GOOD, BAD])
    replace(session, key, f'{{"version": 1, "job": "{BAD.job}", {fields}}}')
    answers = everything(client_of("admin", "admin"))
    states = {job["dag_id"]: job["state"] for job in answers["jobs?view=recent"]["jobs"]}
    assert states == {GOOD.dag_id: "delivered", BAD.dag_id: "unreadable"}
    assert answers["totals"]["all"]["jobs"] == 2
    assert answers["totals"]["all"]["unreadable"] == 1
    assert answers["attention"]["jobs"][0]["reason"]["kind"] == "unreadable"


@pytest.mark.parametrize("key", ["progress", "estimate", "handle", "claude_batch_canceled", "going_direct"])
@pytest.mark.parametrize(
    "value", ["5", "null", DEEP, '{"deadline": "9999-12-31T00:00:00", "by": 5, "batch_ids": 7}']
)
def test_smaller_values_break_nothing_either(client_of: Any, session: Session, key: str, value: str) -> None:
    seed(session, [GOOD, Seed(number=2, dag_id=BAD.dag_id, stage="waiting")])
    from sqlalchemy import text as sql

    session.execute(
        sql("UPDATE xcom SET value = :value, key = :key WHERE key = 'progress' AND dag_id = :dag_id"),
        {"value": value, "key": key, "dag_id": BAD.dag_id},
    )
    session.commit()
    everything(client_of("admin", "admin"))


def test_an_output_path_that_is_no_address_has_no_link(client_of: Any, session: Session) -> None:
    seed(session, [GOOD, BAD])
    fields = '"counts": {"total": 1, "succeeded": 1}, "succeeded_path": "s3://[bad/x"'
    replace(session, "summary", f'{{"job": "{BAD.job}", {fields}}}')
    [details] = everything(client_of("admin", "admin"))[f"run?dag_id={BAD.dag_id}&run_id={BAD.run_id}"][
        "jobs"
    ]
    assert details["paths"][0] == {"name": "Succeeded", "path": "s3://[bad/x", "url": None}
