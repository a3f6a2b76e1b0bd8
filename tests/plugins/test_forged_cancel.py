"""Who may edit one DAG, and so its XComs, tries to have another DAG's batches cancelled by the page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CANCEL, start_emulator
from tests.plugins.seeding import seed
from tests.plugins.stored_jobs import Stored, submit
from tests.plugins.test_security import cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from airflow_claude_batch.emulator.testing import Emulator

    Announce = Callable[..., None]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The API, behind the connections of both teams."""
    with start_emulator(duration="manual") as emulator:
        connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
        for name in ("ANTHROPIC_DEFAULT", "OTHER_TEAM"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
        yield emulator


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """``storage_path`` of the API server."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", f"{tmp_path.as_uri()}/storage")
    return Folder.at(f"{tmp_path.as_uri()}/storage")


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume that workers mount, and the API server does not."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", f"{tmp_path.as_uri()}/not-mounted-here")


@pytest.fixture
def mine(session: Session, api: Emulator, root: Folder) -> Stored:
    """A job of the DAG that the attacker may edit."""
    one = Stored(dag_id="nightly_report", number=1, stage="waiting")
    one.store(root, submit(api.url))
    seed(session, [one])
    return one


@pytest.fixture
def theirs(api: Emulator, root: Folder) -> Stored:
    """A job of another team, on its own connection, whose XComs were deleted."""
    one = Stored(dag_id="score_leads", number=2, stage="waiting")
    one.store(root, submit(api.url), conn_id="other_team")
    return one


@pytest.fixture
def announce(session: Session, mine: Stored) -> Announce:
    """Change what the attacker's job says of itself."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    def change(**fields: Any) -> None:
        xcom = session.scalars(select(XComModel).where(XComModel.key == "claude_batch")).one()
        xcom.value = {**xcom.value, **fields}
        session.commit()

    return change


@pytest.fixture
def attacker(client_of: Any) -> Any:
    return client_of("only-nightly_report", "user")


def declare(conn_id: str, **options: Any) -> None:
    """The DAG's code, as the DAG processor has stored it."""
    from airflow.sdk import DAG

    from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSubmitOperator
    from airflow_claude_batch.testing.dag_runs import store_dag

    with DAG("nightly_report", schedule=None) as dag:
        ClaudeBatchSubmitOperator(task_id="submit", requests=["Hi"], conn_id=conn_id, **options)
        ClaudeBatchResultsOperator.partial(task_id="mapped", conn_id=f"{conn_id}_mapped").expand(batch=["b"])
    store_dag(dag)


def cancelled(api: Emulator) -> list[str]:
    return [call["batch_id"] for call in api.journal(path=CANCEL)]


def test_ids_and_connection_come_from_the_ledger_whatever_the_announcement_says(
    api: Emulator, mine: Stored, theirs: Stored, announce: Announce, attacker: Any
) -> None:
    announce(batch_ids=[*theirs.ids, *mine.ids], conn_id="other_team")
    answer = cancel(attacker, mine)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "batches": [{"id": mine.ids[0], "status": "canceling", "error": None}],
        "warning": None,
    }
    assert cancelled(api) == mine.ids


def test_a_forged_job_url_of_another_dag_is_refused(
    api: Emulator, mine: Stored, theirs: Stored, announce: Announce, attacker: Any
) -> None:
    announce(job=theirs.url, batch_ids=theirs.ids, conn_id="other_team")
    answer = cancel(attacker, mine)
    assert (answer.status_code, cancelled(api)) == (409, [])
    assert "no job of this task instance" in answer.json()["detail"]


@pytest.mark.parametrize("job", [None, "x", "file:///elsewhere/jobs/nightly_report/r/submit/job-1"])
def test_a_job_that_is_nowhere_names_no_batch_of_another_dag_whose_xcoms_were_deleted(
    api: Emulator, mine: Stored, theirs: Stored, announce: Announce, attacker: Any, job: str | None
) -> None:
    declare("other_team", storage_path="file:///elsewhere")
    announce(job=job, batch_ids=theirs.ids, conn_id="other_team")
    answer = cancel(attacker, mine)
    assert (answer.status_code, cancelled(api)) == (409, [])
    assert "submitted by another DAG" in answer.json()["detail"]


def test_a_job_that_is_nowhere_names_no_batch_that_nobody_has_claimed_either(
    api: Emulator, mine: Stored, announce: Announce, attacker: Any
) -> None:
    declare("anthropic_default")
    announce(job="file:///elsewhere/jobs/nightly_report/r/submit/job-1", batch_ids=submit(api.url))
    answer = cancel(attacker, mine)
    assert (answer.status_code, cancelled(api)) == (409, [])
    assert "does not lie under storage_path" in answer.json()["detail"]


def test_a_path_that_climbs_out_of_the_dags_own_folder_is_refused(
    api: Emulator, mine: Stored, theirs: Stored, announce: Announce, attacker: Any
) -> None:
    up = f"{mine.url}/../../../../{theirs.url.partition('/storage/jobs/')[2]}"
    announce(job=up, batch_ids=theirs.ids, conn_id="other_team")
    assert cancel(attacker, mine).status_code == 409
    assert cancelled(api) == []


def test_a_batch_of_the_ledger_that_no_claim_gives_to_the_dag_is_left_alone_and_named(
    api: Emulator, root: Folder, mine: Stored, attacker: Any
) -> None:
    root.child("batches").remove_file(mine.ids[0])
    [row] = cancel(attacker, mine).json()["batches"]
    assert (row["status"], cancelled(api)) == (None, [])
    assert "left alone" in row["error"]


def test_where_storage_path_cannot_be_read_a_connection_of_another_team_is_not_used(
    api: Emulator, mine: Stored, unreadable: None, announce: Announce, attacker: Any
) -> None:
    declare("anthropic_default")
    [theirs] = submit(api.url)
    announce(job="x", batch_ids=[theirs], conn_id="other_team")
    answer = cancel(attacker, mine)
    assert (answer.status_code, cancelled(api)) == (409, [])
    assert "No task of this DAG uses the connection 'other_team'" in answer.json()["detail"]


@pytest.mark.parametrize("conn_id", ["anthropic_default", "other_team_mapped"])
def test_where_storage_path_cannot_be_read_the_dags_own_connection_is_used_and_that_is_said(
    api: Emulator,
    mine: Stored,
    unreadable: None,
    announce: Announce,
    attacker: Any,
    monkeypatch: pytest.MonkeyPatch,
    conn_id: str,
) -> None:
    connection = {"conn_type": "anthropic", "password": "any-key", "host": api.url}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER_TEAM_MAPPED", json.dumps(connection))
    declare(conn_id.removesuffix("_mapped"))
    announce(conn_id=conn_id)
    answer = cancel(attacker, mine)
    assert answer.status_code == 200, answer.text
    assert "not proved" in answer.json()["warning"]
    assert cancelled(api) == mine.ids


def test_a_job_whose_task_has_a_storage_path_of_its_own_is_cancelled_and_that_is_said(
    api: Emulator, mine: Stored, announce: Announce, attacker: Any
) -> None:
    declare("anthropic_default", storage_path="file:///elsewhere/")
    announce(job="file:///elsewhere/jobs/nightly_report/r/submit/job-1")
    answer = cancel(attacker, mine)
    assert (answer.status_code, cancelled(api)) == (200, mine.ids)
    assert answer.json()["warning"]


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (None, "isn't defined"),
        ({"conn_type": "http", "host": "http://127.0.0.1:1"}, "is of type 'http'"),
        ({"conn_type": "anthropic"}, "has no key"),
        ({"conn_type": "anthropic", "extra": {"platform": "vertex"}}, "cannot be used"),
    ],
)
def test_a_connection_that_cannot_be_used_is_a_clear_message(
    session: Session,
    api: Emulator,
    root: Folder,
    client_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    connection: dict[str, Any] | None,
    reason: str,
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_BROKEN", json.dumps(connection))
    one = Stored(dag_id="nightly_report", number=3, stage="waiting")
    one.store(root, submit(api.url), conn_id="broken")
    seed(session, [one])
    answer = cancel(client_of("admin", "admin"), one)
    assert answer.status_code == 409
    assert "'broken'" in answer.json()["detail"]
    assert reason in answer.json()["detail"]
