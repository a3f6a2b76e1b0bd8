"""How long the Claude Batches page's requests take with 10,000 jobs in the database.

    python -m benchmarks.page                    # SQLite
    python -m benchmarks.page postgresql         # in an environment that `make test-cluster` has made

Airflow's whole API server answers in this process, to an admin; times are from request to answer.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.harness.local_airflow import airflow_environment, common_settings, create_database, write_settings

JOBS = 10_000
TRIES = 15


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ.update(airflow_environment(home, {}))
        settings = common_settings(home, [home])
        settings["logging"]["logging_level"] = "ERROR"
        if sys.argv[1:] == ["postgresql"]:
            with_postgresql(home, settings)
        else:
            write_settings(home, settings)
            create_database(home)
            measure("SQLite")


def with_postgresql(home: Path, settings: dict[str, dict[str, str]]) -> None:
    from tests.cluster.services import Postgres, install_missing

    install_missing()
    home.chmod(0o755)  # PostgreSQL runs as another user than root
    postgres = Postgres(home)
    try:
        postgres.create()
        settings["database"]["sql_alchemy_conn"] = f"postgresql+psycopg2://{postgres.url}"
        write_settings(home, settings)
        from airflow.utils.db import initdb

        initdb()
        measure("PostgreSQL")
    finally:
        postgres.stop()


def measure(database: str) -> None:
    """Fill the database, and time each request a few times."""
    from airflow.utils.session import create_session
    from sqlalchemy import text

    from tests.plugins.seeding import PAGE_REQUESTS, many, seed

    with create_session(scoped=False) as session:
        seed(session, many(JOBS))
        session.execute(text("analyze"))  # as the server does by itself, some time after such a change
        session.commit()
    client = admin()
    print(f"{database}, {JOBS:,} jobs, load {os.getloadavg()[0]:.1f}")
    for path in PAGE_REQUESTS:
        took = []
        for _ in range(TRIES):
            start = time.perf_counter()
            assert client.get(f"/claude-batches/api/{path}").status_code == 200
            took.append(1000 * (time.perf_counter() - start))
        print(f"  {path:48} median {statistics.median(took):4.0f} ms, slowest {max(took):4.0f} ms")


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
