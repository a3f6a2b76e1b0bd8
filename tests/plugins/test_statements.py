"""No query of the page runs for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.plugins import statements
from tests.plugins.seeding import many, seed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_query_that_takes_too_long_is_ended_by_the_database(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import text

    monkeypatch.setattr(statements, "SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(statements.TooSlowError):
        statements.run(session, text(ENDLESS))
    assert time.monotonic() - start < 2
    assert session.execute(text("SELECT 1")).scalar() == 1


def test_whoever_asked_is_told(client_of: Any, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import text

    monkeypatch.setattr(statements, "SECONDS", 0.1)
    monkeypatch.setattr(
        "airflow_claude_batch.plugins.queries.lists.announcing_dag_ids",
        lambda session, _: statements.run(session, text(ENDLESS)),
    )
    answer = client_of("admin", "admin").get("/claude-batches/api/dags")
    assert answer.status_code == 503
    assert "shorter time" in answer.json()["detail"]


def test_sqlite_finds_by_an_index_what_a_page_of_jobs_needs(client_of: Any, session: Session) -> None:
    from sqlalchemy import event, text

    if session.get_bind().dialect.name != "sqlite":
        pytest.skip("other databases find pairs of columns by an index")
    seed(session, many(300))
    session.execute(text("ANALYZE"))
    session.commit()
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if "task_instance" in statement:
            asked.append((statement, parameters))

    engine = session.get_bind()
    event.listen(engine, "before_cursor_execute", note)
    try:
        for path in ("jobs?view=recent", "jobs?view=in_flight", "attention"):
            assert client_of("admin", "admin").get(f"/claude-batches/api/{path}").status_code == 200
    finally:
        event.remove(engine, "before_cursor_execute", note)
    connection: Any = session.connection().connection.driver_connection
    plans = [
        step
        for statement, parameters in asked
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    ]
    assert len(asked) >= 4
    assert [step for step in plans if step.startswith(("SCAN task_instance", "SCAN announced"))] == []
