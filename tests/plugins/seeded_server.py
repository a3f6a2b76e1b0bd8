"""Airflow's API server alone, on a database that holds what a test puts into it: the UI without the rest."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.local_airflow import LocalAirflow, create_database
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from tests.plugins.seeding import Seed

USERS = {"admin": "admin", "viewer": "viewer", "only-nightly_report": "user"}
"""Name and role; each user's password is the name."""

_REPOSITORY = Path(__file__).parents[2]
_STARTUP_SECONDS = 90


class SeededServer:
    """The server's address, and a hand in its database."""

    def __init__(self, airflow: LocalAirflow) -> None:
        from sqlalchemy import create_engine

        self.airflow = airflow
        self.url = airflow.url
        self._engine = create_engine(f"sqlite:///{airflow.home / 'airflow.db'}")

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session on the server's database."""
        from sqlalchemy.orm import Session

        with Session(self._engine) as session:
            yield session

    def holds(self, seeds: Sequence[Seed]) -> None:
        """Replace all jobs by these."""
        from tests.plugins.seeding import seed, wipe

        with self.session() as session:
            wipe(session)
            seed(session, seeds)


@contextlib.contextmanager
def start_seeded_server(home: Path) -> Iterator[SeededServer]:
    """Run the server for the block, with the users of :data:`USERS`."""
    airflow = LocalAirflow(
        home,
        env={"PYTHONPATH": str(_REPOSITORY)},
        settings={
            "core": {
                "auth_manager": "tests.plugins.auth_manager.PerDagAuthManager",
                "simple_auth_manager_users": ",".join(f"{name}:{role}" for name, role in USERS.items()),
            }
        },
    )
    passwords = airflow.home / "simple_auth_manager_passwords.json.generated"
    passwords.write_text(json.dumps({name: name for name in USERS}))
    create_database(airflow.home)
    try:
        airflow.start_component("api-server")
        wait_until(
            lambda: airflow.api.health().get("metadatabase") == "healthy",
            _STARTUP_SECONDS,
            "the API server to answer",
        )
        yield SeededServer(airflow)
    finally:
        airflow.stop()
