"""Many jobs under one ``storage_path``: how many calls it takes to find and to delete them."""

from __future__ import annotations

import argparse
import datetime
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.purge import purge
from airflow_claude_batch.batches.job.stored import homes, listed_jobs
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli.jobs import find_jobs
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import IDENTITY, records, submit
from tests.batches.many_jobs import DAGS, created_at, lay_down, one_job, put
from tests.batches.s3 import S3

JOBS = 100
ALL = datetime.timedelta(0)
NO_FILTER = {"dag": None, "since": None, "tag": None, "state": None}


@pytest.fixture
def pattern(tmp_path: Path, emulator: Emulator) -> Folder:
    root = Folder.at(f"file://{tmp_path}/one")
    one_job(root, emulator)
    return root


@pytest.fixture
def many(pattern: Folder, tmp_path: Path) -> Folder:
    root = Folder.at(f"file://{tmp_path}/many")
    lay_down(pattern, JOBS, root)
    return root


@pytest.fixture
def on_s3(pattern: Folder, s3: S3) -> Iterator[Folder]:
    root = s3.folder("many")
    put(pattern, JOBS, root.url)
    yield root
    root.remove()


@pytest.fixture
def calls(s3: S3) -> Counter[str]:
    """Calls that S3 has received, by method."""
    counted: Counter[str] = Counter()

    def count(environ: dict[str, Any]) -> bool:
        counted[environ["REQUEST_METHOD"]] += 1
        return False

    s3.fails = count
    return counted


def listed(root: Folder, **options: Any) -> int:
    unreadable: list[str] = []
    found = list(find_jobs(root, argparse.Namespace(**NO_FILTER | options), unreadable))
    assert not unreadable
    return len(found)


def test_a_list_on_s3_takes_a_read_a_job_and_a_listing_a_dag(on_s3: Folder, calls: Counter[str]) -> None:
    assert listed(on_s3) == JOBS
    assert calls == {"GET": JOBS + DAGS + 1}
    calls.clear()
    assert listed(on_s3, dag="many-03") == JOBS // DAGS
    assert calls == {"GET": JOBS // DAGS + 1}
    calls.clear()
    assert listed(on_s3, since=created_at(10)) == 11
    assert calls["GET"] < DAGS + 1 + 11 + 30  # those of a day before, too, as the clocks may differ


def test_a_purge_on_s3_takes_three_calls_a_job_and_deletes_by_the_thousand(
    on_s3: Folder, calls: Counter[str]
) -> None:
    assert purge(on_s3, older_than=ALL, dry_run=True).jobs == JOBS
    assert calls["POST"] == calls["DELETE"] == calls["PUT"] == 0
    calls.clear()
    done = purge(on_s3, older_than=ALL)
    assert (done.jobs, done.claims, done.homes, done.left_alone) == (JOBS, JOBS, JOBS, 0)
    assert sum(calls.values()) < 3 * JOBS + 150, calls  # of the last day, is somebody at work?
    assert calls["POST"] < JOBS / 10
    on_s3.fs.invalidate_cache()
    assert not on_s3.fs.find(on_s3.path)


def test_an_interrupted_purge_leaves_whole_jobs_and_the_next_one_does_the_rest(many: Folder) -> None:
    def interrupt(number: int) -> None:
        if number == 55:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        purge(many, older_than=ALL, tell=interrupt)
    left = list(listed_jobs(many))
    assert 0 < len(left) < JOBS
    for job in left:
        ledger = job.load()
        assert ledger is not None
        assert all(job.folder.exists(part.requests) for part in ledger.parts)
    assert purge(many, older_than=ALL).jobs == len(left)
    assert not [path for path in Path(many.path).rglob("*") if path.is_file()]
    assert not (Path(many.path) / "jobs" / "many-00").exists()


def test_what_was_cut_off_within_a_job_is_gone_on_with(many: Folder) -> None:
    job = next(listed_jobs(many))
    job.folder.remove_files([name for name in job.files if name not in job.ledger_files])
    assert purge(many, older_than=ALL).jobs == JOBS
    assert not [path for path in Path(many.path).rglob("*") if path.is_file()]


def test_a_mapped_instance_below_a_task_that_was_not_mapped_keeps_its_job(
    root: Folder, api: BatchesApi
) -> None:
    mapped = Identity(dag_id=IDENTITY.dag_id, run_id=IDENTITY.run_id, task_id=IDENTITY.task_id, map_index=0)
    submit(root, api, records(3))
    submit(root, api, records(3), identity=mapped)
    job = mapped.folder(root).child("job-1")
    ledger = ledgers.load(job)
    assert ledger is not None
    ledger.created_at += datetime.timedelta(days=1)
    ledgers.save(job, ledger)
    assert purge(root, older_than=ALL).jobs == 1
    assert ledgers.load(IDENTITY.folder(root).child("job-1")) is None
    assert ledgers.load(job) is not None
    assert job.exists(ledger.parts[0].requests)


def test_work_that_began_after_the_listing_is_not_disturbed(
    root: Folder, api: BatchesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(root, api, records(3))
    found = list(homes(root))
    monkeypatch.setattr("airflow_claude_batch.batches.job.purge.homes", lambda root: iter(found))
    with lease.hold(IDENTITY.folder(root)):
        pass
    done = purge(root, older_than=ALL)
    assert (done.jobs, done.left_alone) == (0, 1)
    assert next(listed_jobs(root)).load() is not None


def test_a_lease_on_s3_that_another_process_took_after_the_listing_is_seen(s3: S3) -> None:
    root = s3.folder("listed-before")
    home = IDENTITY.folder(root)
    with lease.hold(home):
        pass
    (found,) = homes(root)
    with lease.hold(IDENTITY.folder(s3.folder("listed-before"))):
        assert lease.exists(found.folder, 2)
    assert not lease.exists(found.folder, 3)
