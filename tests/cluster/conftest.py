"""One cluster and one emulator for all tests here; each test brings back what it has killed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.emulator.testing import Emulator, start_emulator
from tests.harness.airflow_api import FINISHED_STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.cluster import Cluster
    from tests.cluster.services import Bucket

# `make test-cluster` has an environment with Celery, and `make test` has none.
collect_ignore_glob = [] if importlib.util.find_spec("celery") else ["test_*.py"]

DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="session")
def emulator_process() -> Iterator[Emulator]:
    with start_emulator(duration="manual") as emulator:
        yield emulator


@pytest.fixture(scope="session")
def running_cluster(emulator_process: Emulator) -> Iterator[Cluster]:
    from tests.cluster.cluster import Cluster

    with Cluster(emulator_process.url, dag_folders=[DAGS]) as cluster:
        yield cluster


@pytest.fixture
def emulator(emulator_process: Emulator) -> Emulator:
    """The emulator without batches, faults and journal of earlier tests."""
    emulator_process.reset()
    return emulator_process


@pytest.fixture
def cluster(running_cluster: Cluster, emulator: Emulator) -> Iterator[Cluster]:
    """The cluster with all its components and, whatever became of the last test, no run under way."""
    yield running_cluster
    running_cluster.heal()
    api = running_cluster.api
    for dag_id in ("three_tasks", "two_machines", "one_task", "mapped", "nights"):
        for run in api.runs(dag_id):
            if run["state"] not in FINISHED_STATES:
                api.mark_run(dag_id, run["dag_run_id"], "failed")


@pytest.fixture
def bucket(running_cluster: Cluster) -> Bucket:
    """What lies on S3."""
    return running_cluster.s3.bucket()
