"""What machines do to a distributed Airflow, and that no request is paid twice or lost for it.

Each test asks the emulator what it received, and the bucket what lies in it.
"""

from __future__ import annotations

import datetime
import json
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.batches.job.lease import STALE_SECONDS
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RESULTS
from tests.cluster.cluster import STORAGE, TRIGGERERS, WORKERS
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator
    from tests.cluster.cluster import Cluster
    from tests.cluster.services import Bucket

REQUESTS = 30
BATCHES = 3
OUTAGE_SECONDS = STALE_SECONDS + 3
"""Longer than a lease lives without being renewed."""

DATABASE_OUTAGE_SECONDS = 8
"""Several heartbeats and polls of each component."""

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


@dataclass
class Run:
    """One run of a DAG on the cluster."""

    cluster: Cluster
    emulator: Emulator
    bucket: Bucket
    dag_id: str
    run_id: str

    def instance(self, task_id: str) -> dict[str, Any]:
        return self.cluster.api.task_instance(self.dag_id, self.run_id, task_id)

    def worker(self, task_id: str) -> str:
        """The worker that runs the task, or ran it last."""
        name = str(self.instance(task_id)["hostname"])
        assert name in WORKERS
        return name

    def log(self, task_id: str, try_number: int) -> str:
        """What the workers and triggerers of one try have written."""
        folder = self.cluster.logs / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={task_id}"
        return "".join(file.read_text() for file in folder.glob(f"attempt={try_number}.log*"))

    def is_deferred(self, task_id: str) -> None:
        self.cluster.api.wait_for_task(self.dag_id, self.run_id, task_id, "deferred", timeout=240)

    def is_sent(self) -> None:
        """Its batches exist, and a trigger waits: for all of them, or for one to end that may be its own.

        Whose a batch is, its results tell, where Airflow has ended a task while a POST was under way.
        """

        def waits() -> bool:
            return any(self.instance(task_id)["state"] == "deferred" for task_id in ("submit", "wait"))

        wait_until(waits, 240, "a trigger to wait for the batches")

    def end_batches(self) -> None:
        """End what there is, and soon what is sent later."""
        self.emulator.settings(duration=0.5)
        for batch in self.emulator.batches():
            self.emulator.end(batch["id"])

    def succeeds(self) -> None:
        """The run ends well, every request was paid once, and each has one answer in the bucket."""
        self.cluster.api.wait_for_success(self.dag_id, self.run_id, timeout=300)
        assert self.emulator.ledger()["submitted_once"] == REQUESTS
        assert len(self.emulator.batches()) == (1 if self.dag_id == "one_task" else BATCHES)
        assert self.output() == sorted(f"r-{number}" for number in range(REQUESTS))
        assert not [key for key in self.bucket.keys("") if "tmp" in key]

    def output(self) -> list[str]:
        return delivered(self.bucket, f"output/{self.dag_id}/{self.run_id}")

    def ledger(self) -> dict[str, Any]:
        key = max(
            key
            for key in self.bucket.keys(f"{STORAGE}/jobs/{self.dag_id}/")
            if re.search(r"/ledger-\d+\.json$", key)
            and json.loads(self.bucket.read(key))["run_id"] == self.run_id
        )
        return dict(json.loads(self.bucket.read(key)))


def start(cluster: Cluster, emulator: Emulator, bucket: Bucket, dag_id: str) -> Run:
    cluster.api.wait_for_dag(dag_id)
    return Run(cluster, emulator, bucket, dag_id, cluster.api.trigger(dag_id))


def delivered(bucket: Bucket, prefix: str) -> list[str]:
    """custom_ids of the succeeded records of a complete delivery."""
    keys = bucket.keys(f"{prefix}/")
    assert f"{prefix}/summary.json" in keys
    lines = [line for key in keys if "/succeeded/" in key for line in bucket.read(key).splitlines()]
    return sorted(json.loads(line)["custom_id"] for line in lines)


def test_tasks_on_different_machines_share_nothing_but_the_bucket(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    run = start(cluster, emulator, bucket, "two_machines")
    run.is_deferred("wait")
    run.end_batches()
    run.succeeds()
    assert [run.worker("submit"), run.worker("results")] == ["worker-1", "worker-2"]
    for worker in WORKERS:
        assert not (cluster.home(worker) / "claude_batch").exists()


def test_a_machine_lost_between_post_and_record_costs_nothing(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    # Two POSTs of equal size may be under way: whose batch it is, its results tell once it has ended.
    emulator.settings(duration=8.0)
    emulator.fault("hang", method="POST", path=CREATE, seconds=120, when="after")
    run = start(cluster, emulator, bucket, "three_tasks")
    wait_until(emulator.batches, 60, "the batch to exist that no worker knows of")
    lost = run.worker("submit")
    cluster.kill_machine(lost)
    run.succeeds()
    assert run.worker("submit") != lost
    assert any(part.get("adopted") for part in run.ledger()["parts"])


def test_a_triggerer_lost_with_the_wait_in_it_is_replaced_by_the_other(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    run = start(cluster, emulator, bucket, "three_tasks")
    run.is_deferred("wait")

    def triggerer() -> str:
        return str((run.instance("wait")["triggerer_job"] or {}).get("hostname") or "")

    lost = wait_until(triggerer, 30, "a triggerer to take the wait")
    cluster.kill_machine(lost)
    wait_until(lambda: triggerer() not in ("", lost), 60, "the other triggerer to take the wait over")
    run.end_batches()
    run.succeeds()
    assert cancelled(emulator) == []


def test_a_machine_lost_while_it_writes_results_leaves_nothing_half(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    emulator.fault("hang", method="GET", path=RESULTS, skip=1, seconds=120)
    run = start(cluster, emulator, bucket, "three_tasks")
    run.is_deferred("wait")
    run.end_batches()
    emulator.wait_for("GET", RESULTS, count=2, timeout=60, waiting=True)
    lost = run.worker("results")
    cluster.kill_machine(lost)
    assert "summary.json" not in " ".join(bucket.keys(f"output/three_tasks/{run.run_id}"))
    run.succeeds()
    assert run.worker("results") != lost


def test_waits_outlive_a_restart_of_the_metadata_database(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    run = start(cluster, emulator, bucket, "three_tasks")
    run.is_deferred("wait")
    cluster.postgres.stop()
    time.sleep(DATABASE_OUTAGE_SECONDS)
    cluster.postgres.start()
    cluster.heal(since=datetime.datetime.now(datetime.UTC))  # some components end when they lose the database
    run.end_batches()
    run.succeeds()
    assert cancelled(emulator) == []


def test_an_outage_of_object_storage_delays_and_breaks_nothing(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    assert cluster.s3.process is not None
    emulator.fault("delay", method="POST", path=CREATE, seconds=5, when="after", times=None)
    run = start(cluster, emulator, bucket, "three_tasks")
    wait_until(emulator.batches, 60, "the first batch to exist")
    cluster.s3.process.signal(signal.SIGSTOP)
    try:
        time.sleep(OUTAGE_SECONDS)
    finally:
        cluster.s3.process.signal(signal.SIGCONT)
    run.is_deferred("wait")
    run.end_batches()
    run.succeeds()


def test_clearing_a_deferred_task_pays_nothing_again(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    run = start(cluster, emulator, bucket, "one_task")
    run.is_deferred("batch")
    # Airflow tells a trigger of its end once it has begun.
    wait_until(lambda: " starting" in run.log("batch", 1), 60, "the trigger to begin")
    cluster.api.clear("one_task", run.run_id, "batch")
    wait_until(lambda: run.instance("batch")["try_number"] > 1, 60, "the cleared task to run again")
    run.is_deferred("batch")
    left_alone = "nobody has ended the task; its batches go on"
    wait_until(lambda: left_alone in run.log("batch", 1), 60, "the first try's trigger to end")
    run.end_batches()
    run.succeeds()
    assert cancelled(emulator) == []


def test_marking_a_deferred_task_failed_cancels_its_batches(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    run = start(cluster, emulator, bucket, "three_tasks")
    run.is_deferred("wait")
    seen = emulator.state()["received"]
    emulator.wait_for("GET", since=seen, timeout=60)  # Airflow tells a trigger of its end once it has begun
    cluster.api.mark_task("three_tasks", run.run_id, "wait", "failed")
    emulator.wait_for("POST", CANCEL, count=BATCHES, timeout=60)
    assert {batch["processing_status"] for batch in emulator.batches()} == {"canceling"}
    assert bucket.keys(f"output/three_tasks/{run.run_id}") == []


def test_the_api_server_and_the_scheduler_may_be_lost_at_any_step(
    cluster: Cluster, emulator: Emulator, bucket: Bucket
) -> None:
    emulator.fault("delay", method="POST", path=CREATE, seconds=5, when="after")
    emulator.fault("delay", method="GET", path=RESULTS, seconds=5)
    run = start(cluster, emulator, bucket, "three_tasks")
    wait_until(emulator.batches, 60, "the submission to be under way")
    lose(cluster, "api-server", "scheduler")
    run.is_sent()
    lose(cluster, "api-server", "scheduler")
    run.end_batches()
    emulator.wait_for("GET", RESULTS, timeout=120, waiting=True)
    lose(cluster, "api-server", "scheduler")
    run.succeeds()
    assert cancelled(emulator) == []


def cancelled(emulator: Emulator) -> list[str]:
    """Batches that were cancelled; a triggerer that wakes late may ask for what has ended, and gets 400."""
    asked = emulator.journal(method="POST", path=CANCEL)
    return [entry["batch_id"] for entry in asked if entry["status"] != 400]


def lose(cluster: Cluster, *names: str) -> None:
    """Kill components at once; new ones take their places."""
    lost_at = datetime.datetime.now(datetime.UTC)
    for name in names:
        cluster.kill_machine(name)
    cluster.heal(since=lost_at)


def test_both_triggerers_may_be_lost_at_once(cluster: Cluster, emulator: Emulator, bucket: Bucket) -> None:
    run = start(cluster, emulator, bucket, "three_tasks")
    run.is_deferred("wait")
    lose(cluster, *TRIGGERERS)
    run.end_batches()
    run.succeeds()
    assert cancelled(emulator) == []
