"""Every test runs in an Airflow home of its own, and can reach no API but the one it starts.

Airflow reads its home when it is first imported, so this happens before any test module is.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.local_airflow import (
    airflow_environment,
    common_settings,
    create_database,
    write_settings,
)

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator

# Only the top conftest may name plugins: they serve the whole run.
pytest_plugins = ["airflow_claude_batch.emulator.pytest_plugin"]

REPOSITORY = Path(__file__).parents[1]
ROWS = {
    "waits": ("kill", "submission", "waiting", "uncertain", "deadline", "watcher"),
    "pages": ("ui_page", "ui", "nightly_report", "lineage", "deadline_alert", "trial_then_approve"),
}
"""Files of `tests/system` that run one after the other in one process, most of them on one Airflow.

They mostly wait. Each of two processes begins with one.
"""
ROW_OF = {f"tests/system/test_{name}.py": row for row, names in ROWS.items() for name in names}
FIRST = [*ROW_OF, "tests/system/test_demo.py", "tests/batches/test_faults.py"]
"""The longest ones, so that no process is left with one when the others have ended."""
HOME = Path(tempfile.mkdtemp(prefix="claude-batch-tests-"))


def pytest_configure() -> None:
    environment = airflow_environment(HOME, {})
    os.environ.clear()
    os.environ.update(environment)
    write_settings(HOME, common_settings(HOME, [REPOSITORY / "dags"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {file: place for place, file in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, each row goes to one of them, other tests file by file.

    `xdist_group` is meant for that, but pytest-xdist 3.8 takes no notice of it since pytest 9.2
    (https://github.com/pytest-dev/pytest-xdist/issues/1386). Once a released xdist does, this can go, for
    `--dist loadgroup` and a mark in `tests/system/conftest.py`.
    """
    from xdist.scheduler import LoadScopeScheduling

    class RowByRow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ROW_OF.get(file, file)

    config.option.loadscopereorder = False  # keeps the order of the collection
    return RowByRow(config, log)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated database for tests that use Airflow's models in this process, such as `dag.test()`."""
    from airflow.sdk.execution_time import supervisor

    create_database(HOME)
    if not hasattr(supervisor.in_process_api_server, "cache_info"):  # Airflow 3.1 makes one for each task
        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


@pytest.fixture
def emulator(claude_batch_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, empty, as the API behind the default connection."""
    connection = {"conn_type": "anthropic", "password": "test-key", "host": claude_batch_emulator.url}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RECONCILE_GRACE_SECONDS", "0.4")
    return claude_batch_emulator
