"""Fixtures for tests of DAGs.

In ``conftest.py``::

    pytest_plugins = ["airflow_claude_batch.testing.pytest_plugin"]

Nothing else has to be set up: where ``AIRFLOW_HOME`` is not set, the tests have one of their own, whose
database is made when the first test needs it, and the default connection is the emulator's.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import DAG

    from airflow_claude_batch.testing.claude_batches import Answers, ClaudeBatches
    from airflow_claude_batch.testing.dag_runs import Run

DEFAULT_CONNECTION = "anthropic_default"
QUICK = {"duration": 0.01, "cancel_duration": 0.01}
"""Batches end before anybody looks, so no task has to be deferred."""
_HOME = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests an Airflow of their own, before Airflow is imported and looks for one."""
    if "AIRFLOW_HOME" in os.environ or "airflow" in sys.modules:
        return
    home = tempfile.mkdtemp(prefix="claude-batch-airflow-")
    config.stash[_HOME] = home
    os.environ["AIRFLOW_HOME"] = home
    os.environ.setdefault("AIRFLOW__CORE__LOAD_EXAMPLES", "False")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it."""
    home = config.stash.get(_HOME, None)
    if home is not None:
        shutil.rmtree(home, ignore_errors=True)
        if os.environ.get("AIRFLOW_HOME") == home:
            del os.environ["AIRFLOW_HOME"]


@pytest.fixture(scope="session")
def claude_batch_database() -> None:
    """Airflow's database, migrated."""
    from airflow.utils import db

    try:
        db.check_migrations(0)
    except Exception:  # noqa: BLE001  # there is none, or it is older; each database has its own error
        db.initdb()


@pytest.fixture
def claude_batch_answers() -> Answers:
    """What is answered, by custom_id: fill it in a test, or override it by a mapping or a function.

    A function takes a `SentRequest`. An answer is a text, or data that becomes JSON; what is not there, or
    None, the emulator makes up.
    """
    return {}


@pytest.fixture
def claude_batches(
    claude_batch_answers: Answers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[ClaudeBatches]:
    """The API behind the connection ``anthropic_default``, empty, and quick; see `ClaudeBatches`."""
    from airflow_claude_batch.emulator.in_process import run_in_process
    from airflow_claude_batch.testing.claude_batches import ClaudeBatches

    with run_in_process(**QUICK) as (url, emulation):
        connection = {"conn_type": "anthropic", "password": "test", "host": url}
        monkeypatch.setenv(f"AIRFLOW_CONN_{DEFAULT_CONNECTION.upper()}", json.dumps(connection))
        monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", (tmp_path / "claude_batch").as_uri())
        monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RECONCILE_GRACE_SECONDS", "0.5")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        batches = ClaudeBatches(url, emulation, claude_batch_answers)
        yield batches
    if batches.problems:
        raise batches.problems[0]


@pytest.fixture
def run_dag(claude_batch_database: None) -> Callable[..., Run]:
    """A function that runs a DAG to its end in this process: ``run_dag(dag, accounts=3)``.

    It takes a DAG or a DAG file, and the run's params. A failed task is no exception; see `Run`.
    """
    from airflow_claude_batch.testing import dag_runs

    def run(dag: DAG | str | Path, /, **params: Any) -> Run:
        return dag_runs.run_dag(dag_runs.load(dag) if isinstance(dag, (str, Path)) else dag, params)

    return run
