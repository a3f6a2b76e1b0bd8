"""Deleting what is no longer needed under ``storage_path``.

Requests are stored in full for as long as a round may want to send them again. The API keeps
results for 29 days; a job older than that can neither be fetched nor resubmitted.

A purge that is interrupted is gone on with by the next one: of each job the ledger, by which it is found,
goes last, and the leases of a task instance after all of its jobs.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from airflow_claude_batch.batches.api.client import RESULTS_KEPT
from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.stored import (
    MARGIN,
    Home,
    Listed,
    at_once,
    homes,
    side_by_side,
)
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

HOMES_AT_ONCE = 50
"""Task instances whose files are deleted by the same calls: S3 takes 1,000 names in one."""


@dataclass(kw_only=True)
class Purged:
    """What a purge deleted."""

    jobs: int = 0
    claims: int = 0
    intents: int = 0
    homes: int = 0
    """Folders of task instances that had no job left; leases and the names of current jobs were in them."""
    left_alone: int = 0
    """Jobs whose ledger cannot be read, or that somebody is at work on."""
    undelivered: int = 0
    """Jobs whose batches the API still has and nothing has delivered: a new try would send and pay for all
    of it again. Left alone, or among the deleted ones, as was asked for."""


@dataclass(kw_only=True)
class _Found:
    """What is to be done about one task instance."""

    home: Home
    old: list[tuple[Listed, list[str]]] = field(default_factory=list)
    """Jobs to delete, with their batches."""
    kept: int = 0
    """Other jobs that are there."""
    left_alone: int = 0
    undelivered: int = 0
    goes: bool = False
    """Whether no job is left, so that all else that is stored for it is of no use."""


def purge(
    root: Folder,
    *,
    older_than: datetime.timedelta,
    dry_run: bool = False,
    undelivered: bool = True,
    tell: Callable[[int], None] = lambda _: None,
) -> Purged:
    """Delete jobs that were created longer ago, their claims, and stale intents.

    A job whose ledger cannot be read, or that a worker is at work on, is left alone and logged.

    Args:
        root: ``storage_path``.
        older_than: Age of a job.
        dry_run: Only count.
        undelivered: Whether those go, too, that are sent, not delivered, and young enough to be.
        tell: Is told after each task instance how many were looked at.
    """
    limit = datetime.datetime.now(datetime.UTC) - older_than
    purged, due = Purged(), list[_Found]()
    looks = side_by_side(lambda home: _look(home, limit, undelivered=undelivered), homes(root), at_once(root))
    with contextlib.closing(looks):
        for number, found in enumerate(looks, 1):
            purged.left_alone += found.left_alone
            purged.undelivered += found.undelivered
            due.append(found)
            if len(due) == HOMES_AT_ONCE:
                _delete(root, due, purged, dry_run=dry_run)
                due.clear()
            tell(number)
    _delete(root, due, purged, dry_run=dry_run)
    intents = root.child("intents")
    stale = [name for name, written in intents.find() if (written or intents.modified(name)) < limit]
    purged.intents = len(stale)
    if not dry_run:
        intents.remove_files(stale)
    return purged


def _look(home: Home, limit: datetime.datetime, *, undelivered: bool) -> _Found:
    """What is to be done about a task instance; nothing where somebody is at work."""
    found = _sort_jobs(home, limit, undelivered=undelivered)
    if found.kept and not found.old:
        return found
    lease = home.newest_lease
    written = _written(home, lease)
    is_left = written is None or written < limit  # nobody has worked there since
    if not found.old and not is_left:
        return found
    if _is_at_work(home, lease, is_long_ago=written is not None and written < limit - MARGIN):
        found.left_alone += len(found.old)
        found.old.clear()
    else:
        found.goes = is_left and not found.kept
    return found


def _sort_jobs(home: Home, limit: datetime.datetime, *, undelivered: bool) -> _Found:
    """Which jobs of a task instance are old, and how many are kept, by their ledgers alone."""
    found = _Found(home=home)
    for job in home.jobs:
        try:
            ledger = job.load()
        except LedgerError as error:
            log.warning("Left alone: %s", foreign_text(error))
            found.kept += 1
            found.left_alone += 1
            continue
        if ledger is None:
            continue
        is_due = ledger.created_at < limit and _is_to_be_delivered(ledger)
        found.undelivered += is_due
        if ledger.created_at >= limit or (is_due and not undelivered):
            found.kept += 1
        else:
            found.old.append((job, [part.batch_id for part in ledger.parts if part.batch_id]))
    return found


def _is_to_be_delivered(ledger: Ledger) -> bool:
    """Whether it has batches, paid for, whose results the API still has and nobody has fetched."""
    since = datetime.datetime.now(datetime.UTC) - RESULTS_KEPT
    return not ledger.superseded_by and any(
        part.delivery is None and (part.submitted_at or part.intent_at or since) > since
        for part in ledger.live_parts
    )


def _written(home: Home, lease: str) -> datetime.datetime | None:
    """When a lease was renewed last; None for no lease."""
    if not lease:
        return None
    return home.files[lease] or home.folder.modified(lease)


def _is_at_work(home: Home, lease: str, *, is_long_ago: bool) -> bool:
    """Whether somebody is at work there, or was since it was listed."""
    number = leases.number_of(lease)
    if leases.exists(home.folder, number + 1):
        return True
    return not is_long_ago and leases.alive(home.folder, number)


def _delete(root: Folder, due: Iterable[_Found], purged: Purged, *, dry_run: bool) -> None:
    """Delete what was found in several task instances, by few calls."""
    claims: list[str] = []
    data: list[str] = []
    records: list[str] = []
    rest: list[str] = []
    for found in due:
        for job, batch_ids in found.old:
            purged.jobs += 1
            purged.claims += len(batch_ids)
            claims += [f"batches/{batch_id}" for batch_id in batch_ids]
            place, ledger_files = _place(root, job.folder), job.ledger_files
            data += [f"{place}/{name}" for name in job.files if name not in ledger_files]
            records += [f"{place}/{name}" for name in ledger_files]
        if found.goes:
            purged.homes += 1
            rest += [f"{_place(root, found.home.folder)}/{name}" for name in found.home.files]
    if dry_run:
        return
    for names in (claims, data, records, rest):
        root.remove_files(names)
    if root.is_local:
        for found in due:
            _remove_folders(root, found)


def _place(root: Folder, folder: Folder) -> str:
    """Where a folder lies below ``storage_path``."""
    return folder.path.removeprefix(root.path).strip("/")


def _remove_folders(root: Folder, found: _Found) -> None:
    """On a disk empty folders stay behind; object stores have none."""
    for job, _ in found.old:
        job.folder.remove()
    if not found.goes:
        return
    folder = found.home.folder.child(leases.FOLDER)
    while folder.path.startswith(f"{root.child('jobs').path}/"):
        with contextlib.suppress(OSError):  # not empty, or not there
            Path(folder.path).rmdir()
        folder = folder.parent
