"""The jobs of a task instance, and which one counts.

A task instance has one folder, its home. Each different input that it was ever given is a job of its own in
there (``job-1``, ``job-2``, …). ``current-000001.json``, ``current-000002.json``, … name, one after the
other, the job that counts; like a ledger's versions each can be created by one process only, so two workers
that both take the other for dead agree on one job. A retry resumes it. After a clear the source is asked
again: the same requests, in any order, mean the same job; others a new one.
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass

import msgspec

from airflow_claude_batch.batches.errors import LostOwnershipError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

_CURRENT = re.compile(r"current-(\d{6,})\.json")
_JOB = re.compile(r"job-(\d+)")


@dataclass(kw_only=True)
class StoredJob:
    """A job as it lies on storage."""

    folder: Folder
    ledger: Ledger


def current_job(home: Folder) -> StoredJob | None:
    """The job that counts of those of a task instance; None where there is none.

    Raises:
        LedgerError: If one of them cannot be read.
    """
    jobs = History.read(home).jobs
    return jobs[0] if jobs else None


class _Current(msgspec.Struct):
    """Content of ``current-….json``: the folder of the job that counts, and who says so."""

    job: str
    owner: str


_decode_current = msgspec.json.Decoder(_Current).decode


@dataclass
class History:
    """The jobs of a task instance that counted, the newest first, as they were when this was read."""

    home: Folder
    jobs: list[StoredJob]
    number: int
    """Of the last ``current-….json``; 0 for none."""

    @classmethod
    def read(cls, home: Folder) -> History:
        """What the folder of a task instance holds.

        Raises:
            LedgerError: If the ledger of a job cannot be read.
        """
        names = home.names()
        numbered = {int(match[1]): name for name in names if (match := _CURRENT.fullmatch(name))}
        named = [
            _decode_current(home.read(numbered[number])).job for number in sorted(numbered, reverse=True)
        ]
        # One that counts again is named twice.
        folders = [home.child(name) for name in dict.fromkeys(named) or _before_version_2(home, names)]
        jobs = [
            StoredJob(folder=folder, ledger=ledger)
            for folder in folders
            if (ledger := ledgers.load(folder)) is not None and ledger.spooled
        ]
        return cls(home, jobs, max(numbered, default=0))

    def add(self, fresh: StoredJob) -> None:
        """Make a spooled job the one that counts.

        Raises:
            LostOwnershipError: Where another process has made one so since this was read.
        """
        ledger = fresh.ledger
        ledger.spooled = True
        ledgers.save(fresh.folder, ledger)
        self.make_current(fresh, ledger.owner)
        parts, url = len(ledger.parts), fresh.folder.url
        log.info("Spooled %s requests in %s parts to %s", ledger.request_count, parts, url)

    def make_current(self, job: StoredJob, owner: str) -> None:
        """Make a job the one that counts: create the next ``current-….json``.

        Raises:
            LostOwnershipError: Where another process has done so.
        """
        current = _Current(job=job.folder.url.rpartition("/")[2], owner=owner)
        name = f"current-{self.number + 1:06d}.json"
        if not self.home.create(name, msgspec.json.encode(current)):
            raise LostOwnershipError(
                f"Another worker has started a job in {self.home.url} meanwhile; this one stops without "
                "sending anything."
            )
        self.number += 1
        self.jobs = [job, *(one for one in self.jobs if one is not job)]


def _before_version_2(home: Folder, names: list[str]) -> list[str]:
    """Folders of jobs from before one was named as current, the newest first."""
    jobs = {number: name for name in names if (number := job_number(name)) is not None}
    newest_first = (jobs[number] for number in sorted(jobs, reverse=True))
    return [name for name in newest_first if not ledgers.versions(home.child(name))]


def job_number(name: str) -> int | None:
    """The number of a job's folder, by its name; None for the name of something else."""
    match = _JOB.fullmatch(name)
    return int(match[1]) if match else None


def reserve(home: Folder, ledger: Ledger) -> Folder:
    """A new folder that no other process writes to, with the ledger as its first version."""
    number = max((job_number(name) or 0 for name in home.names()), default=0)
    while True:
        number += 1
        folder = home.child(f"job-{number}")
        ledger.job, ledger.number = folder.url, 0
        with contextlib.suppress(LostOwnershipError):
            ledgers.save(folder, ledger)
            return folder
