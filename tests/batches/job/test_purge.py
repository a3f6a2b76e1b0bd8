from __future__ import annotations

import datetime

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.purge import purge
from airflow_claude_batch.batches.storage import Folder
from tests.batches.helpers import IDENTITY, records, submit

OTHER = Identity(dag_id="other", run_id="r", task_id="t", map_index=3)


def age(root: Folder, identity: Identity, days: int) -> None:
    folder = identity.folder(root).child("job-1")
    ledger = ledgers.load(folder)
    assert ledger is not None
    ledger.created_at -= datetime.timedelta(days=days)
    ledgers.save(folder, ledger)


def test_a_purge_deletes_old_jobs_with_their_claims_and_leaves_the_others(
    root: Folder, api: BatchesApi
) -> None:
    (old,), _ = submit(root, api, records(3))
    (young,), _ = submit(root, api, records(3), identity=OTHER)
    age(root, IDENTITY, 40)
    month = datetime.timedelta(days=30)
    assert purge(root, older_than=month, dry_run=True).jobs == 1
    assert find_claim(root, old) is not None
    assert (done := purge(root, older_than=month)).jobs == done.claims == 1
    assert find_claim(root, old) is None
    assert find_claim(root, young) is not None
    assert ledgers.load(IDENTITY.folder(root).child("job-1")) is None
    assert ledgers.load(OTHER.folder(root).child("job-1")) is not None


def test_a_job_with_a_damaged_ledger_is_left_alone(root: Folder, api: BatchesApi) -> None:
    submit(root, api, records(3))
    folder = IDENTITY.folder(root).child("job-1")
    name = ledgers.file_name(ledgers.versions(folder)[-1])
    folder.write(name, b"{")
    assert purge(root, older_than=datetime.timedelta(0)).jobs == 0
    assert folder.exists(name)
