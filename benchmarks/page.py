"""How long the Claude Batches page's requests take, every filter included, with many jobs in the database.

    python -m benchmarks.page                           # SQLite, 10,000 jobs
    python -m benchmarks.page postgresql 10000 100000   # in an environment that has psycopg2
    python -m benchmarks.page pages 10000               # ten pages open at once, too

Airflow's whole API server answers in this process, to an admin; times are from request to answer. Tables are
analysed, as a server does by itself some time after such a change. ``totals`` is timed a second time right
after a job has been delivered, and a third time by how long it takes until an answer counts that job: where
sums take long, the last ones are given out while new ones are made.
"""

from __future__ import annotations

import datetime
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.harness.local_airflow import airflow_environment, common_settings, create_database, write_settings

TRIES = 7
PAGES = 10


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()] or [10_000]
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ.update(airflow_environment(home, {}))
        settings = common_settings(home, [home])
        settings["logging"]["logging_level"] = "ERROR"
        if "postgresql" in sys.argv:
            with_postgresql(home, settings, numbers)
        else:
            write_settings(home, settings)
            create_database(home)
            measure("SQLite", numbers)


def with_postgresql(home: Path, settings: dict[str, dict[str, str]], numbers: list[int]) -> None:
    from tests.cluster.services import Postgres, install_missing

    install_missing()
    home.chmod(0o755)  # PostgreSQL runs as another user than root
    postgres = Postgres(home)
    try:
        postgres.create()
        settings["database"]["sql_alchemy_conn"] = f"postgresql+psycopg2://{postgres.url}"
        write_settings(home, settings)
        from airflow.utils.db import initdb

        from airflow_claude_batch.plugins import totals

        initdb()
        measure("PostgreSQL", numbers)
        totals._renewer.shutdown()  # while the database is there
    finally:
        postgres.stop()


def measure(database: str, numbers: list[int]) -> None:
    """Fill the database, and time each request a few times."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import text, update

    from tests.plugins.seeding import PAGE_REQUESTS, many, seed, wipe

    client = admin()
    for number in numbers:
        with create_session(scoped=False) as session:
            wipe(session)
            seed(session, many(number))
            soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
            session.execute(update(DagModel).values(next_dagrun_create_after=soon))
            session.execute(text("analyze"))
            session.commit()
        print(f"{database}, {number:,} jobs, load {os.getloadavg()[0]:.1f}")
        for path in PAGE_REQUESTS:
            took = []
            for _ in range(TRIES):
                start = time.perf_counter()
                answer = client.get(f"/claude-batches/api/{path}")
                took.append(1000 * (time.perf_counter() - start))
            note = "" if answer.status_code == 200 else f"  HTTP {answer.status_code}"
            print(f"  {path:60} {times(took)}{note}")
        answered, counted = after_deliveries(client)
        print(f"  {'totals, after a delivery':60} {times(answered)}")
        print(f"  {'… until that job is counted':60} {times(counted)}")
        if "pages" in sys.argv:
            print(f"  {f'all of it, {PAGES} pages at once':60} {times(pages_at_once(client))}")


def times(took: list[float]) -> str:
    return f"fastest {min(took):5.0f}, median {statistics.median(took):5.0f}, slowest {max(took):5.0f} ms"


def after_deliveries(client: Any) -> tuple[list[float], list[float]]:
    """Until sums are answered, and until they count another job that has just been delivered."""
    from airflow.utils.session import create_session

    from airflow_claude_batch.plugins import totals
    from tests.plugins.seeding import Seed, seed

    totals.CHECKED = datetime.timedelta()
    answered, counted = [], []
    for number in range(TRIES):
        before = jobs_of_today(client.get("/claude-batches/api/totals").json())
        with create_session(scoped=False) as session:
            seed(session, [Seed(number=5_000_000 + number, age=datetime.timedelta())])
        start = time.perf_counter()
        now = client.get("/claude-batches/api/totals").json()
        answered.append(1000 * (time.perf_counter() - start))
        while jobs_of_today(now) == before:
            time.sleep(0.02)
            now = client.get("/claude-batches/api/totals").json()
        counted.append(1000 * (time.perf_counter() - start))
    return answered, counted


def jobs_of_today(sums: dict[str, Any]) -> int:
    """Jobs of the last day of some sums: no job leaves them while another comes."""
    return sum(one["jobs"] for one in sums["by_day"] if one["day"] == sums["days"][-1])


def pages_at_once(client: Any) -> list[float]:
    """Of each request of ten pages that are opened at the same moment."""
    from tests.plugins.seeding import PAGE_REQUESTS

    def ask(path: str) -> float:
        start = time.perf_counter()
        client.get(f"/claude-batches/api/{path}")
        return 1000 * (time.perf_counter() - start)

    with ThreadPoolExecutor(PAGES) as pool:
        return list(pool.map(ask, list(PAGE_REQUESTS) * PAGES))


def admin() -> Any:
    """A browser of an admin, logged in."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    app = create_app(apps="core")
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="admin", role="admin"))
    return TestClient(app, base_url="http://airflow.test", cookies={"_token": token})


if __name__ == "__main__":
    main()
