"""Jobs: which one a task instance means, and who may change it.

A task instance has one folder. Each different input that it was ever given is a job of its own in
there (``job-1``, ``job-2``, …); the newest spooled one counts. A retry resumes it. After a clear the
source is asked again: the same requests, in any order, mean the same job; others a new one.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from airflow_claude_batch.batches import lease as leases
from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches.errors import ConfigurationError, LedgerError
from airflow_claude_batch.batches.ledger import Ledger, Part
from airflow_claude_batch.batches.preparation import Recipe
from airflow_claude_batch.batches.spool import Limits, spool
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose job it is. The try number is not part of it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def folder(self, root: Folder) -> Folder:
        """The task instance's folder under ``storage_path``."""
        names = [quote(name, safe="+:=@,~ ") for name in (self.dag_id, self.run_id, self.task_id)]
        return root.child("jobs", *names, *([str(self.map_index)] if self.map_index >= 0 else []))


@dataclass(frozen=True, kw_only=True)
class Input:
    """What is to be submitted."""

    records: Callable[[], Iterable[Any]]
    """Asks the source; called at most once, and not at all when a recorded job is resumed."""
    defaults: Mapping[str, Any]
    """Messages API parameters of requests that do not set them."""
    limits: Limits = field(default_factory=Limits)
    compress: bool = False
    betas: list[str] = field(default_factory=list)
    recipe: Recipe = field(default_factory=Recipe)
    """What makes requests of records that are none yet."""
    complete: Callable[[Input], Input] | None = None
    """Looks up what the rest depends on, such as a system prompt in a file; called before ``records``."""
    check: Callable[[], None] | None = None
    """Called when all is spooled; raises where it is known that the API would refuse it."""


@dataclass(kw_only=True)
class Job:
    """A job that this process owns: its ledger in memory, and the right to write it."""

    root: Folder
    """``storage_path``."""
    folder: Folder
    ledger: Ledger
    lease: leases.Lease
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the ledger is changed and saved (two parts upload at a time)."""

    @contextlib.contextmanager
    def change(self) -> Iterator[Ledger]:
        """Change the ledger and save it.

        Ownership is checked on both sides of the save. Whoever takes the job over makes its lease
        first and reads the ledger then: so either it reads what is saved here, or this process
        learns of it and does not act on what it saved.

        :raises LostOwnershipError: if this process no longer owns the job
        """
        with self.lock:
            self.lease.check()
            yield self.ledger
            ledgers.save(self.folder, self.ledger)
            self.lease.check()

    def claim(self, part: Part, batch_id: str) -> None:
        """Say, for everybody, that the batch is this part's."""
        ledgers.claim(self.root, batch_id, self.ledger.job, self.ledger.parts.index(part))


@contextlib.contextmanager
def open_job(root: Folder, url: str) -> Iterator[Job]:
    """Own the existing job at ``url`` for the time of the block.

    :raises LedgerError: if there is none
    """
    folder = root_relative(root, url)
    with leases.hold(folder.parent) as lease:
        yield Job(root=root, folder=folder, ledger=read_ledger(folder), lease=lease)


def read_ledger(folder: Folder) -> Ledger:
    """The ledger of a job that must exist.

    :raises LedgerError: if it does not, or cannot be read
    """
    ledger = ledgers.load(folder)
    if ledger is None:
        raise LedgerError(
            f"There is no job at {folder.url} (no {ledgers.LEDGER}). Was its folder purged or moved?"
        )
    return ledger


def root_relative(root: Folder, url: str) -> Folder:
    """The job's folder, reached through ``storage_path`` and so with its credentials."""
    prefix = f"{root.url.rstrip('/')}/"
    if not url.startswith(prefix):
        raise ConfigurationError(
            f"The job {url} does not lie under storage_path {root.url}. "
            "Give the same storage_path to all tasks that share a job."
        )
    return root.child(*url.removeprefix(prefix).split("/"))


@contextlib.contextmanager
def start_job(
    root: Folder,
    identity: Identity,
    source: Input,
    *,
    life: int,
    conn_id: str = "",
    force_new: bool = False,
) -> Iterator[tuple[Job, Job | None]]:
    """Own the job that this task instance means, spooling it first where that is needed.

    :param life: first try number of the task instance's life: the same for its retries, another
        after a clear
    :param force_new: after a clear, start a new job even for the same requests
    :returns: the job, and the older one that it replaces, if that is not settled yet
    :raises InputError: if the requests are faulty; the older job is then left as it is
    """
    home = identity.folder(root)
    with leases.hold(home) as lease:
        spooled = _spooled_jobs(home)
        current = spooled[0] if spooled else None
        if current and current[1].life == life:
            log.info("Resuming the job in %s: %s", current[0].url, describe(current[1]))
        else:
            current = _ask_source(home, identity, source, current, lease, life, conn_id, force_new)
            spooled = _spooled_jobs(home)

        def job(folder: Folder, ledger: Ledger) -> Job:
            return Job(root=root, folder=folder, ledger=ledger, lease=lease)

        # A kill may have come between the new job and the end of the old one: the mark tells.
        previous = spooled[1] if len(spooled) > 1 and not spooled[1][1].superseded_by else None
        yield job(*current), job(*previous) if previous else None


def _ask_source(
    home: Folder,
    identity: Identity,
    source: Input,
    recorded: tuple[Folder, Ledger] | None,
    lease: leases.Lease,
    life: int,
    conn_id: str,
    force_new: bool,
) -> tuple[Folder, Ledger]:
    """Spool the input; the recorded job if it has the same requests, else a new one."""
    numbers = [int(name[4:]) for name in home.names() if name.startswith("job-")]
    folder = home.child(f"job-{max(numbers, default=0) + 1}")
    ledger = _spool(folder, identity, source, life=life, conn_id=conn_id)
    lease.check()
    if recorded and not force_new and _same(recorded[1], ledger):
        folder.remove()
        folder, ledger = recorded
        ledger.life = life
        log.info("The same requests as before; attaching to %s: %s", folder.url, describe(ledger))
    else:
        ledger.spooled = True
        log.info("Spooled %s requests in %s parts to %s", ledger.request_count, len(ledger.parts), folder.url)
    ledgers.save(folder, ledger)
    return folder, ledger


def _spooled_jobs(home: Folder) -> list[tuple[Folder, Ledger]]:
    """The task instance's jobs whose whole input is stored, newest first."""
    numbers = sorted((int(name[4:]) for name in home.names() if name.startswith("job-")), reverse=True)
    jobs = ((folder, ledgers.load(folder)) for folder in (home.child(f"job-{number}") for number in numbers))
    return [(folder, ledger) for folder, ledger in jobs if ledger is not None and ledger.spooled]


def _spool(folder: Folder, identity: Identity, source: Input, *, life: int, conn_id: str) -> Ledger:
    """Store the whole input; the ledger that is returned is not yet saved as spooled."""
    ledger = Ledger(
        version=ledgers.VERSION,
        job=folder.url,
        dag_id=identity.dag_id,
        run_id=identity.run_id,
        task_id=identity.task_id,
        map_index=identity.map_index,
        conn_id=conn_id,
        life=life,
        created_at=datetime.datetime.now(datetime.UTC),
        betas=source.betas,
    )
    ledgers.save(folder, ledger)
    try:
        source = source.complete(source) if source.complete else source
        spooled = spool(
            source.records(),
            folder,
            defaults=source.defaults,
            limits=source.limits,
            compress=source.compress,
            recipe=source.recipe,
        )
        if source.check:
            source.check()
    except BaseException:
        # Nothing was sent from here; a kill leaves the folder behind, which is as harmless.
        with contextlib.suppress(OSError):
            folder.remove()
        raise
    ledger.digest, ledger.request_count, ledger.parts = spooled.digest, spooled.request_count, spooled.parts
    ledger.warm_cache = source.limits.first_alone and len(ledger.live_parts) > 1
    for part in spooled.parts:
        if part.rejected:
            log.warning(
                "%s records are not sent; why, says %s/%s", part.request_count, folder.url, part.inputs
            )
    return ledger


def _same(recorded: Ledger, fresh: Ledger) -> bool:
    return (recorded.digest, recorded.betas, recorded.conn_id) == (fresh.digest, fresh.betas, fresh.conn_id)


def describe(ledger: Ledger) -> str:
    """One line about a job, for logs: no prompts, no answers."""
    parts = ledger.live_parts
    submitted = sum(1 for part in parts if part.batch_id)
    return f"{ledger.request_count} requests, {submitted} of {len(parts)} batches submitted"
