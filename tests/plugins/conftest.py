"""Airflow's API server in this process, with the plugin, users, and a database to fill."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plugins.seeding import wipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session


@pytest.fixture
def session(airflow_database: None) -> Iterator[Session]:
    """The metadata database, without anybody's DAGs and runs."""
    from airflow.utils.session import create_session

    with create_session(scoped=False) as session:
        wipe(session)
        yield session
        session.rollback()
        wipe(session)
