"""One Airflow and one emulator for all system tests: they take 13 seconds to start.

Tests share them, so each uses runs of its own and lets them finish. They end with the last system test, since
an idle Airflow takes processor time from the others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.emulator.testing import Emulator, start_emulator
from tests.harness.local_airflow import LocalAirflow
from tests.plugins.browser import open_browser

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser

DAGS = Path(__file__).parents[2] / "dags"
SECONDS = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="package")
def emulator_process() -> Iterator[Emulator]:
    """The API that `local_airflow` talks to; batches end when a test ends them."""
    with start_emulator(duration="manual") as emulator:
        yield emulator


@pytest.fixture
def emulator(emulator_process: Emulator) -> Emulator:
    """The emulator without batches, faults and journal of earlier tests."""
    emulator_process.reset()
    return emulator_process


@pytest.fixture(scope="package")
def lineage_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `local_airflow` writes OpenLineage events of DAGs that ask for them, if it can."""
    return tmp_path_factory.mktemp("lineage") / "events.jsonl"


@pytest.fixture(scope="package")
def local_airflow(
    emulator_process: Emulator, lineage_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """Running Airflow with the DAGs of `dags/`; `write_dag` adds a test's own."""
    connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator_process.url}
    with LocalAirflow(
        tmp_path_factory.mktemp("airflow"),
        dag_folders=[DAGS],
        connections={"anthropic_default": connection},
        env={
            "AIRFLOW__CLAUDE_BATCH__RECONCILE_GRACE_SECONDS": "2",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(lineage_file), "append": True}
            ),
            "AIRFLOW__OPENLINEAGE__SELECTIVE_ENABLE": "True",
        },
    ) as airflow:
        yield airflow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser; while it is there, this process can run no event loop."""
    with open_browser() as browser:
        yield browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what Airflow's components complained of while a failed test ran them."""
    report = yield
    if report.failed:
        for airflow in getattr(item, "funcargs", {}).values():
            if isinstance(airflow, LocalAirflow):
                report.sections.append(("What Airflow's components complained of", airflow.complaints()))
    return report
