"""Cancelling from the page: real batches of the emulator, through Airflow's API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CANCEL, start_emulator
from tests.plugins.seeding import Seed, seed
from tests.plugins.stored_jobs import Stored, submit
from tests.plugins.test_security import cancel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from airflow_claude_batch.emulator.testing import Emulator


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with start_emulator(duration="manual") as emulator:
        connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
        monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection))
        yield emulator


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """``storage_path`` of the API server."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", tmp_path.as_uri())
    return Folder.at(tmp_path.as_uri())


@pytest.fixture
def job(session: Session, api: Emulator, root: Folder) -> Stored:
    one = Stored(stage="waiting", batches=2)
    one.store(root, submit(api.url, 2))
    seed(session, [one])
    return one


def details(client: Any, job: Seed) -> dict[str, Any]:
    query = {"dag_id": job.dag_id, "run_id": job.run_id, "task_id": "submit"}
    return client.get("/claude-batches/api/job", params=query).json()


def test_a_user_who_may_edit_the_dag_cancels_all_batches_of_the_job(
    client_of: Any, api: Emulator, job: Seed
) -> None:
    client = client_of("only-nightly_report", "user")
    before = details(client, job)
    assert (before["may_edit"], before["can_cancel"], before["state"]) == (True, True, "waiting")

    response = cancel(client, job, **{"Origin": "http://airflow.test", "Sec-Fetch-Site": "same-origin"})

    assert response.status_code == 200, response.text
    assert [batch["status"] for batch in response.json()["batches"]] == ["canceling", "canceling"]
    assert {batch["processing_status"] for batch in api.batches()} == {"canceling"}
    after = details(client, job)
    assert (after["state"], after["cancellation"]["by"]) == ("canceling", "only-nightly_report")


def test_it_is_written_to_the_audit_log_of_the_dag(client_of: Any, session: Session, job: Seed) -> None:
    from airflow.models.log import Log
    from sqlalchemy import select

    assert cancel(client_of("admin", "admin"), job).status_code == 200

    entry = session.scalars(
        select(Log).where(Log.event == "claude_batch_cancel").order_by(Log.id.desc())
    ).first()
    assert entry is not None
    assert (entry.dag_id, entry.owner) == (job.dag_id, "admin")


def test_trouble_with_one_batch_is_told_and_keeps_no_other_from_being_cancelled(
    client_of: Any, api: Emulator, job: Seed
) -> None:
    api.delete(job.batch_ids[0])

    response = cancel(client_of("admin", "admin"), job)

    gone, canceled = response.json()["batches"]
    assert (gone["status"], canceled["status"]) == (None, "canceling")
    assert gone["error"].startswith("HTTP 404")


@pytest.mark.parametrize("stage", ["delivered", "refused", "submitting"])
def test_a_job_with_nothing_to_cancel_is_refused_without_asking_the_api(
    client_of: Any, session: Session, api: Emulator, stage: str
) -> None:
    over = Seed(dag_id="classify_tickets", number=9, stage=stage)
    seed(session, [over])
    response = cancel(client_of("admin", "admin"), over)
    assert response.status_code == 409
    assert api.journal(path=CANCEL) == []


def test_a_task_without_a_job_is_not_found(client_of: Any, job: Seed) -> None:
    body = {"run_id": job.run_id, "task_id": "wait"}
    response = client_of("admin", "admin").post(f"/claude-batches/api/dags/{job.dag_id}/cancel", json=body)
    assert response.status_code == 404


def test_looking_at_the_page_never_asks_the_api(client_of: Any, api: Emulator, job: Seed) -> None:
    since = len(api.journal())
    client = client_of("admin", "admin")
    for path in ("jobs?view=in_flight", "jobs?view=recent", "totals", "dags"):
        assert client.get(f"/claude-batches/api/{path}").status_code == 200
    details(client, job)
    assert len(api.journal()) == since
