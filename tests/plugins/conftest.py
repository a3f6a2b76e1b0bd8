"""Airflow's API server in this process, with the plugin, users, and a database to fill.

Nothing of Airflow is imported at the top: pytest loads this file before the tests' Airflow home is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from sqlalchemy.orm import Session

AUTH_MANAGER = "tests.plugins.auth_manager.PerDagAuthManager"


@pytest.fixture
def session(airflow_database: None) -> Iterator[Session]:
    """The metadata database, without anybody's DAGs and runs."""
    from airflow.utils.session import create_session

    from airflow_claude_batch.plugins import totals
    from tests.plugins.seeding import wipe

    totals._answers.clear()  # those of another test's jobs
    with create_session(scoped=False) as session:
        wipe(session)
        yield session
        session.rollback()
        wipe(session)


@pytest.fixture(scope="session")
def airflow_app(airflow_database: None) -> Iterator[FastAPI]:
    """Airflow's whole API server as an application."""
    from airflow.api_fastapi.app import create_app, purge_cached_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", AUTH_MANAGER)
        patch.setenv(
            "AIRFLOW__API_AUTH__JWT_SECRET", "a secret for this test run only, long enough for HS512 tokens"
        )
        purge_cached_app()
        yield create_app(apps="core")
        purge_cached_app()


@pytest.fixture
def client_of(airflow_app: FastAPI) -> Callable[..., TestClient]:
    """A browser of a user with a role, logged in by cookie; of nobody without a name."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    def client(username: str | None = None, role: str = "viewer") -> TestClient:
        cookies = {}
        if username is not None:
            user = SimpleAuthManagerUser(username=username, role=role)
            cookies["_token"] = get_auth_manager().generate_jwt(user)
        return TestClient(airflow_app, base_url="http://airflow.test", cookies=cookies)

    return client


@pytest.fixture
def ask(client_of: Any) -> Any:
    """What the page's API answers to an admin."""
    client = client_of("admin", "admin")

    def get(path: str, **query: Any) -> Any:
        response = client.get(f"/claude-batches/api/{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    return get
