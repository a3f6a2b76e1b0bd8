"""Every test runs in an Airflow home of its own, and can reach no API but the one it starts.

Airflow reads its home when it is first imported, so this happens before any test module is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.harness.local_airflow import (
    airflow_environment,
    common_settings,
    create_database,
    write_settings,
)

# Only the top conftest may name plugins: they serve the whole run.
pytest_plugins = ["airflow_claude_batch.emulator.pytest_plugin"]

REPOSITORY = Path(__file__).parents[1]
SHARE_AN_AIRFLOW = {
    f"tests/system/test_{name}.py"
    for name in ("kill", "lineage", "nightly_report", "submission", "ui", "waiting")
}
HOME = Path(tempfile.mkdtemp(prefix="claude-batch-tests-"))


def pytest_configure() -> None:
    environment = airflow_environment(HOME, {})
    os.environ.clear()
    os.environ.update(environment)
    write_settings(HOME, common_settings(HOME, [REPOSITORY / "dags"]))


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes, the tests that share one Airflow go to one of them, others file by file.

    xdist's own marks of groups are not heeded under pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneAirflow(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "airflow" if file in SHARE_AN_AIRFLOW else file

    return OneAirflow(config, log)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """A migrated database for tests that use Airflow's models in this process, such as `dag.test()`."""
    create_database(HOME)
