"""All jobs under ``storage_path``, found by listing it, without a call for each.

A listing names every file with its time, so that a ledger takes one read, and nothing that a listing says
is asked for again. DAGs are listed side by side, one after the other given out: what is held in memory is
the files of a few DAGs, by name.
"""

from __future__ import annotations

import datetime
import posixpath
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.identity import folder_name
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder

DAGS_AT_ONCE = 4
"""DAGs whose files are listed at the same time."""
CALLS_AT_ONCE = 16
"""Calls to a store that are under way at the same time; a disk gains nothing by them."""
MARGIN = datetime.timedelta(days=1)
"""How far the clocks of the store and of this machine may be apart."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(kw_only=True, slots=True)
class Home:
    """The folder of a task instance, as a listing has it."""

    folder: Folder
    files: dict[str, datetime.datetime | None] = field(default_factory=dict)
    """Those outside of jobs, by name, and when they were last written."""
    jobs: list[Listed] = field(default_factory=list)

    @property
    def newest_lease(self) -> str:
        """Name of the file of the newest lease; empty where nobody was ever at work."""
        name = max(self.files, key=leases.number_of, default="")
        return name if leases.number_of(name) else ""


@dataclass(kw_only=True, slots=True)
class Listed:
    """A job, as a listing has it."""

    folder: Folder
    files: list[str]
    """By name."""
    written: datetime.datetime | None
    """When the newest version of the ledger was written, by the store's clock; None where it does not say."""

    @property
    def ledger_files(self) -> list[str]:
        """The versions of its ledger, the newest last."""
        found = [name for name in self.files if ledgers.is_ledger(name)]
        return sorted(found, key=lambda name: (name != ledgers.VERSION_1_FILE, len(name), name))

    def load(self) -> Ledger | None:
        """The ledger, in one call where none was written since the listing; None where it is gone.

        Raises:
            LedgerError: Where it cannot be read.
        """
        return ledgers.load_listed(self.folder, self.ledger_files[-1])


def homes(root: Folder, dag_id: str | None = None) -> Iterator[Home]:
    """Every task instance that has something stored, ordered by path.

    Args:
        root: ``storage_path``.
        dag_id: Only this DAG's.
    """
    jobs = root.child("jobs")
    dags = jobs.names() if dag_id is None else [folder_name(dag_id)]
    for found in side_by_side(lambda name: _homes_in(jobs.child(name)), dags, DAGS_AT_ONCE):
        yield from found


def listed_jobs(root: Folder, dag_id: str | None = None) -> Iterator[Listed]:
    """Every job; the arguments are those of `homes`."""
    for home in homes(root, dag_id):
        yield from home.jobs


def side_by_side(
    work: Callable[[_Item], _Result], items: Iterable[_Item], at_once: int
) -> Generator[_Result, None, None]:
    """The results in the order of the items, of which a few are worked on at the same time.

    Whoever stops asking, or is interrupted, waits for what is under way only.
    """
    if at_once <= 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="claude-batch-storage")
    ahead: list[Future[_Result]] = []
    try:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * at_once:
                yield ahead.pop(0).result()
        while ahead:
            yield ahead.pop(0).result()
    finally:
        pool.shutdown(cancel_futures=True)


def at_once(root: Folder) -> int:
    """How many calls are worth while at the same time."""
    return 1 if root.is_local else CALLS_AT_ONCE


def _homes_in(dag: Folder) -> list[Home]:
    files = dict(dag.find())
    of_jobs = {posixpath.dirname(path) for path in files if ledgers.is_ledger(posixpath.basename(path))}
    of_leases = {directory for path in files if _is_leases(directory := posixpath.dirname(path))}
    known = {posixpath.dirname(path) for path in of_jobs | of_leases}
    found = {path: Home(folder=_below(dag, path)) for path in sorted(known)}
    jobs = {
        path: Listed(folder=_below(dag, path), files=[], written=None) for path in sorted(of_jobs, key=_order)
    }
    for path, job in jobs.items():
        found[posixpath.dirname(path)].jobs.append(job)
    owners = jobs.keys() | found.keys()
    for path, written in files.items():
        owner = _owner(path, owners)
        name = path.removeprefix(owner).strip("/")
        if owner in jobs:
            jobs[owner].files.append(name)
        elif owner in found:
            found[owner].files[name] = written
    for path, job in jobs.items():
        job.written = files[posixpath.join(path, job.ledger_files[-1])]
    return list(found.values())


def _is_leases(directory: str) -> bool:
    return posixpath.basename(directory) == leases.FOLDER


def _order(path: str) -> tuple[int, str]:
    return len(path), path  # job-10 comes after job-9


def _owner(path: str, owners: set[str]) -> str:
    """The nearest folder above a file that is a job or a home; empty where there is none."""
    while path and path not in owners:
        path = posixpath.dirname(path)
    return path


def _below(folder: Folder, path: str) -> Folder:
    return folder.child(*path.split("/")) if path else folder
