"""Deleting what is no longer needed under ``storage_path``.

Requests are stored in full for as long as a round may want to send them again. The API keeps
results for 29 days; a job older than that can neither be fetched nor resubmitted.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Purged:
    """What a purge deleted."""

    jobs: int = 0
    claims: int = 0
    intents: int = 0


def purge(root: Folder, *, older_than: datetime.timedelta, dry_run: bool = False) -> Purged:
    """Delete jobs that were created longer ago, their claims, and stale intents.

    A job whose ledger cannot be read is left alone and logged.

    :param dry_run: only count
    """
    limit = datetime.datetime.now(datetime.UTC) - older_than
    purged = Purged()
    claims = root.child("batches")
    for folder in job_folders(root):
        try:
            ledger = ledgers.load(folder)
        except LedgerError as error:
            log.warning("Left alone: %s", error)
            continue
        if ledger is None or ledger.created_at >= limit:
            continue
        batch_ids = [part.batch_id for part in ledger.parts if part.batch_id]
        purged.jobs += 1
        purged.claims += len(batch_ids)
        if not dry_run:
            for batch_id in batch_ids:
                claims.remove_file(batch_id)
            folder.remove()
    intents = root.child("intents")
    for name in intents.names():
        if intents.modified(name) < limit:
            purged.intents += 1
            if not dry_run:
                intents.remove_file(name)
    return purged


def job_folders(root: Folder) -> Iterator[Folder]:
    """Every job under ``storage_path``."""
    jobs = root.child("jobs")
    jobs.fs.invalidate_cache(jobs.path)
    found = sorted(jobs.fs.find(jobs.path)) if jobs.fs.exists(jobs.path) else []
    prefix = jobs.fs._strip_protocol(jobs.path)
    for path in found:
        if path.endswith(f"/{ledgers.LEDGER}"):
            yield jobs.child(*path.removeprefix(prefix).strip("/").split("/")[:-1])
