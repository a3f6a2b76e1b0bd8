"""The page's API as an attacker reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.emulator.testing import start_emulator
from tests.plugins.seeding import Seed, add_xcom, seed

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from sqlalchemy.orm import Session

MINE = Seed(dag_id="nightly_report", number=1, stage="waiting", batches=2)
OTHER = Seed(dag_id="score_leads", number=2, stage="waiting")
DONE = Seed(dag_id="score_leads", number=3)
READS = [
    "/claude-batches/api/jobs?view=in_flight",
    "/claude-batches/api/jobs?view=recent",
    "/claude-batches/api/dags",
    "/claude-batches/api/totals",
    "/claude-batches/api/costs",
    "/claude-batches/api/attention",
    "/claude-batches/api/schedule",
    f"/claude-batches/api/job?dag_id={OTHER.dag_id}&run_id={OTHER.run_id}&task_id=submit",
    f"/claude-batches/api/batches?dag_id={OTHER.dag_id}&run_id={OTHER.run_id}&task_id=submit",
    f"/claude-batches/api/failures?dag_id={OTHER.dag_id}&run_id={OTHER.run_id}&task_id=submit",
    f"/claude-batches/api/run?dag_id={OTHER.dag_id}&run_id={OTHER.run_id}",
    f"/claude-batches/api/run?dag_id={OTHER.dag_id}&run_id={OTHER.run_id}&task_id=wait&map_index=-1",
]


@pytest.fixture(autouse=True)
def jobs(session: Session) -> None:
    seed(session, [MINE, OTHER, DONE])


def cancel(client: TestClient, job: Seed = MINE, **headers: str) -> Any:
    body = {"run_id": job.run_id, "task_id": "submit", "map_index": -1}
    return client.post(f"/claude-batches/api/dags/{job.dag_id}/cancel", json=body, headers=headers)


def test_every_route_of_the_application_is_guarded(airflow_app: Any) -> None:
    """A route that is added without a guard fails here, before anybody finds it."""
    from fastapi.routing import APIRoute

    from airflow_claude_batch.plugins import guards
    from airflow_claude_batch.plugins.app import create_app

    app = create_app()
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) == 11
    for route in routes:
        calls = [dependant.call for dependant in route.dependant.dependencies]
        assert all(guard.dependency in calls for guard in guards.READ), route.path
        if route.methods != {"GET"}:
            assert all(guard.dependency in calls for guard in guards.EDIT), route.path
    assert [route.path for route in app.routes if not isinstance(route, APIRoute)] == ["/static"]


@pytest.mark.parametrize("path", READS)
def test_nobody_reads_without_logging_in(client_of: Any, path: str) -> None:
    assert client_of().get(path).status_code == 401


def test_nobody_cancels_without_logging_in(client_of: Any) -> None:
    assert cancel(client_of()).status_code == 401


def test_a_forged_cookie_is_no_login(client_of: Any) -> None:
    client = client_of("admin", "admin")
    client.cookies.set("_token", client.cookies["_token"][:-4] + "AAAA")
    assert client.get(READS[0]).status_code in (401, 403)


@pytest.mark.parametrize("path", READS[7:])
def test_a_viewer_of_another_dag_is_refused_its_jobs(client_of: Any, path: str) -> None:
    assert client_of("only-nightly_report").get(path).status_code == 403
    assert client_of("only-score_leads").get(path).status_code in (200, 409)  # it has no failed records


def test_lists_totals_and_choices_hold_only_dags_that_the_user_may_read(client_of: Any) -> None:
    client = client_of("only-nightly_report")
    in_flight, recent = client.get(READS[0]).json(), client.get(READS[1]).json()
    assert [job["dag_id"] for job in in_flight["jobs"]] == ["nightly_report"]
    assert (in_flight["total"], recent["total"], recent["jobs"]) == (1, 0, [])
    assert client.get(READS[2]).json() == {"dag_ids": ["nightly_report"]}
    totals = client.get(READS[3]).json()
    assert (totals["all"]["jobs"], {row["dag_id"] for row in totals["by_day"]}) == (1, {"nightly_report"})
    for words in ("score_leads", DONE.run_id, DONE.batch_ids[0]):
        assert (
            client.get("/claude-batches/api/jobs", params={"view": "recent", "q": words}).json()["total"] == 0
        )
    for path in READS[:7]:
        assert "score_leads" not in client.get(path).text
    assert client.get(READS[1], params={"view": "recent", "dag_id": "score_leads"}).status_code == 403
    assert client.get(READS[3], params={"dag_id": "score_leads"}).status_code == 403


def test_an_admin_sees_every_dag(client_of: Any) -> None:
    client = client_of("admin", "admin")
    assert client.get(READS[2]).json() == {"dag_ids": ["nightly_report", "score_leads"]}
    assert client.get(READS[0]).json()["total"] == 2
    assert client.get(READS[3]).json()["all"]["jobs"] == 3


def test_who_may_read_but_not_edit_may_not_cancel(client_of: Any) -> None:
    viewer = client_of("only-nightly_report", "viewer")
    job = {"dag_id": MINE.dag_id, "run_id": MINE.run_id, "task_id": "submit"}
    assert viewer.get("/claude-batches/api/job", params=job).json()["may_edit"] is False
    assert cancel(viewer).status_code == 403


def test_who_may_edit_one_dag_may_not_cancel_anothers_job(client_of: Any) -> None:
    assert cancel(client_of("only-nightly_report", "user"), OTHER).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_sites_page_cannot_cancel_with_the_users_cookie(
    client_of: Any, headers: dict[str, str]
) -> None:
    assert cancel(client_of("admin", "admin"), **headers).status_code in (403, 415)


def test_an_answer_names_no_other_site_that_may_read_it(client_of: Any) -> None:
    response = client_of("admin", "admin").get(READS[0], headers={"Origin": "https://evil.test"})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_only_known_fields_leave(client_of: Any, session: Session) -> None:
    """A task may put anything beside what the page reads: prompts, answers, keys."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    for xcom in session.scalars(select(XComModel)):
        secret = {"prompt": "SECRET", "text": "SECRET", "succeeded": ["SECRET"], "api_key": "SECRET"}
        xcom.value = {**xcom.value, **secret}
    session.commit()
    client = client_of("admin", "admin")
    done = {"dag_id": DONE.dag_id, "run_id": DONE.run_id}
    for path in [*READS, f"/claude-batches/api/run?dag_id={done['dag_id']}&run_id={done['run_id']}"]:
        response = client.get(path)
        assert response.status_code in (200, 409), path  # there are no failed records
        assert "SECRET" not in response.text


@pytest.mark.parametrize(
    "query",
    [
        {"view": "recent", "limit": 101},
        {"view": "recent", "limit": 0},
        {"view": "recent", "offset": 10_000_000},
        {"view": "recent", "q": "x" * 251},
        {"view": "recent", "q": "msgbatch\0"},
        {"view": "recent", "since": "0001-01-01T00:00:00+14:00"},
        {"view": "recent", "since": "9999-12-31T23:59:59-14:00"},
        {"view": "all"},
        {"view": "recent", "unknown": "1"},
        {},
    ],
)
def test_questions_without_bounds_are_refused(client_of: Any, query: dict[str, Any]) -> None:
    assert client_of("admin", "admin").get("/claude-batches/api/jobs", params=query).status_code == 422


@pytest.mark.parametrize(
    "place",
    [{"map_index": 2**31}, {"map_index": -2}, {"run_id": "a\0"}, {"task_id": "a\0"}, {"task_id": "x" * 251}],
)
def test_what_no_database_holds_is_refused_before_one_is_asked(client_of: Any, place: dict[str, Any]) -> None:
    admin = client_of("admin", "admin")
    whole = {"run_id": MINE.run_id, "task_id": "submit", **place}
    for path in ("job", "run"):
        query = {"dag_id": MINE.dag_id, **whole}
        assert admin.get(f"/claude-batches/api/{path}", params=query).status_code == 422
    assert admin.post(f"/claude-batches/api/dags/{MINE.dag_id}/cancel", json=whole).status_code == 422


@pytest.mark.parametrize("words", ["%", "_", "' OR 1=1 --", "\\", '"', "msgbatch_%"])
def test_search_takes_every_character_literally(client_of: Any, words: str) -> None:
    response = client_of("admin", "admin").get(
        "/claude-batches/api/jobs", params={"view": "recent", "q": words}
    )
    assert response.status_code == 200
    assert response.json()["total"] == (1 if words == "_" else 0)  # every id here has an underscore


@pytest.mark.parametrize(
    ("batch_id", "reason"),
    [
        (OTHER.batch_ids[0], "another DAG"),
        ("msgbatch_of_a_later_round", "another DAG"),
        (f"{OTHER.batch_ids[0]}/cancel?x=", "no batch id"),
        (f"./{OTHER.batch_ids[0]}", "no batch id"),
        ("../../messages", "no batch id"),
        ("", "no batch id"),
    ],
)
def test_a_job_cannot_name_another_dags_batches_to_have_them_cancelled(
    client_of: Any, session: Session, monkeypatch: pytest.MonkeyPatch, batch_id: str, reason: str
) -> None:
    """Who may write XComs of one DAG must not reach another's batches through it."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    add_xcom(
        session, OTHER, "results", "handle", {"job": OTHER.job, "batch_ids": ["msgbatch_of_a_later_round"]}
    )
    mine = select(XComModel).where(XComModel.dag_id == MINE.dag_id, XComModel.key == "claude_batch")
    xcom = session.scalars(mine).one()
    xcom.value = {**xcom.value, "batch_ids": [*MINE.batch_ids, batch_id]}
    session.commit()
    with start_emulator() as emulator:
        connection = f'{{"conn_type": "anthropic", "password": "any-key", "host": "{emulator.url}"}}'
        monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", connection)
        response = cancel(client_of("only-nightly_report", "user"))
        assert response.status_code == 409
        assert reason in response.json()["detail"]
        assert emulator.journal() == []


def audit_log(session: Session) -> list[Any]:
    from airflow.models.log import Log
    from sqlalchemy import select

    session.rollback()
    return list(session.scalars(select(Log).where(Log.event == "claude_batch_cancel")))


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "x", "Negotiate abc"])
def test_no_header_but_a_bearers_token_skips_the_question_where_a_request_came_from(
    client_of: Any, header: str
) -> None:
    answer = cancel(client_of("admin", "admin"), Origin="https://evil.test", Authorization=header)
    assert answer.status_code in (401, 403)


def test_an_invalid_bearers_token_is_no_login_whatever_the_cookie_is(client_of: Any) -> None:
    answer = cancel(client_of("admin", "admin"), Origin="https://evil.test", Authorization="Bearer abc")
    assert answer.status_code in (401, 403)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"run_id": "a"}',
        b'{"run_id": "a", "task_id": "b", "more": 1}',
        b'{"run_id": 5}',
        b"\xff",
    ],
)
def test_what_is_no_question_is_not_written_to_the_audit_log(
    client_of: Any, session: Session, body: bytes
) -> None:
    before = len(audit_log(session))
    path = f"/claude-batches/api/dags/{MINE.dag_id}/cancel"
    answer = client_of("admin", "admin").post(
        path, content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert len(audit_log(session)) == before


def test_a_body_of_many_megabytes_is_refused_and_stored_nowhere(client_of: Any, session: Session) -> None:
    before = len(audit_log(session))
    body = {"run_id": "x" * 20_000_000, "task_id": "submit"}
    answer = client_of("admin", "admin").post(f"/claude-batches/api/dags/{MINE.dag_id}/cancel", json=body)
    assert answer.status_code == 413
    assert len(audit_log(session)) == before
