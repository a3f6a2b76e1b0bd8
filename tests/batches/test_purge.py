from __future__ import annotations

import datetime

from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches.api import BatchesApi
from airflow_claude_batch.batches.jobs import Identity
from airflow_claude_batch.batches.purge import purge
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli import main
from tests.batches.conftest import IDENTITY, records, submit

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
    assert ledgers.find_claim(root, old) is not None
    assert (done := purge(root, older_than=month)).jobs == done.claims == 1
    assert ledgers.find_claim(root, old) is None
    assert ledgers.find_claim(root, young) is not None
    assert not IDENTITY.folder(root).exists("job-1/ledger.json")
    assert OTHER.folder(root).exists("job-1/ledger.json")


def test_a_job_with_a_damaged_ledger_is_left_alone(root: Folder, api: BatchesApi) -> None:
    submit(root, api, records(3))
    IDENTITY.folder(root).child("job-1").write("ledger.json", b"{")
    assert purge(root, older_than=datetime.timedelta(0)).jobs == 0
    assert IDENTITY.folder(root).exists("job-1/ledger.json")


def test_the_command_says_whose_batch_it_is(root: Folder, api: BatchesApi, capsys: object) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    assert main(["--storage-path", root.url, "whose", batch_id]) == 0
    assert main(["--storage-path", root.url, "whose", "msgbatch_nobody"]) == 1
    assert main(["--storage-path", root.url, "purge", "--older-than", "0"]) == 0
    assert main(["--storage-path", root.url, "whose", batch_id]) == 1
    out = capsys.readouterr().out  # type: ignore[attr-defined]
    assert f"{IDENTITY.folder(root).url}/job-1 part 0" in out
    assert "deleted 1 jobs, 1 claims" in out
