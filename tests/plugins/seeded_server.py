"""Airflow's API server alone, on a database that holds what a test puts into it: the UI without the rest."""

from __future__ import annotations

import contextlib
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.storage import Folder
from tests.harness.local_airflow import LocalAirflow, create_database
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from tests.plugins.seeding import Seed

USERS = {"admin": "admin", "viewer": "viewer", "only-nightly_report": "user"}
"""Name and role; each user's password is the name."""

BUDGETS = """[
    {"max_usd": 20, "per": "day", "scope": "tag:team"},
    {"max_usd": 900, "per": "month", "scope": "all"}
]"""

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


def book_costs(root: Folder) -> None:
    """A day of two DAGs and teams, with one job that is not settled yet."""
    from airflow_claude_batch.batches.accounts.book import Book
    from airflow_claude_batch.batches.accounts.entries import Account, Line
    from airflow_claude_batch.batches.cost.spending import PICO

    book, day = Book(root), datetime.datetime.now(datetime.UTC).date().isoformat()
    for number, (dag_id, team, usd) in enumerate(
        [("nightly_report", "growth", 6), ("nightly_report", "sales", 3), ("score_leads", "sales", 15)]
    ):
        pico = usd * PICO
        numbers = {"pico": pico, "standard_pico": 2 * pico, "uncached_pico": pico * 3 // 2}
        line = Line(model="claude-haiku-4-5", requests=1000, **numbers)
        account = Account(dag_id=dag_id, tags={"team": team}, lines=[line.kind])
        book.settle(day, f"00a1b2-{number:020x}-1", account, [line])
    waiting = Account(dag_id="score_leads", tags={"team": "sales"})
    book.reserve(day, f"00a1b2-{9:020x}-1", waiting, pico=PICO, job="")


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
            },
            "claude_batch": {"storage_path": (home / "storage").as_uri(), "budgets": BUDGETS},
        },
    )
    book_costs(Folder.at((home / "storage").as_uri()))
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
