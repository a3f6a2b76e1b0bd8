"""Many jobs at once on a distributed Airflow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cluster.test_faults import REQUESTS, delivered
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator
    from tests.cluster.cluster import Cluster
    from tests.cluster.services import Bucket

JOBS = int(os.environ.get("CLUSTER_MAPPED_JOBS", "200"))
SECONDS = 600
NIGHTS = 10

pytestmark = [pytest.mark.system, pytest.mark.timeout(SECONDS + 60)]


def test_jobs_that_wait_at_once_and_nights_that_catch_up_are_each_paid_once_and_delivered(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    cluster.api.wait_for_dag("mapped")
    run_id = cluster.api.trigger("mapped", {"jobs": JOBS})
    wait_until(lambda: len(emulator.batches()) == JOBS, SECONDS, "all mapped jobs to wait")
    waiting = emulator.batches()
    assert {batch["processing_status"] for batch in waiting} == {"in_progress"}

    emulator.settings(duration=1.0)  # of the nights' batches
    cluster.api.unpause("nights")
    for batch in waiting:
        emulator.end(batch["id"])
    cluster.api.wait_for_success("mapped", run_id, timeout=SECONDS)
    wait_until(
        lambda: [run["state"] for run in cluster.api.runs("nights")] == ["success"] * NIGHTS,
        SECONDS,
        "all nights to succeed",
    )
    assert len(emulator.batches()) == JOBS + NIGHTS
    assert emulator.ledger()["submitted_once"] == JOBS + NIGHTS * REQUESTS
    for job in range(JOBS):
        assert delivered(bucket, f"output/mapped/{run_id}/{job}") == [f"r-{job}"]
    for night in range(1, NIGHTS + 1):
        assert len(delivered(bucket, f"output/nights/2026-01-{night:02}")) == REQUESTS
