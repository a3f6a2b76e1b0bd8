"""A job that this process works on: taken, stored when it is new, and changed by nobody else meanwhile."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError, LedgerError, LostOwnershipError
from airflow_claude_batch.batches.job import claims
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.answers import has_sent
from airflow_claude_batch.batches.job.from_batches import complete
from airflow_claude_batch.batches.job.history import History, StoredJob, reserve
from airflow_claude_batch.batches.job.identity import Identity, root_relative
from airflow_claude_batch.batches.job.ledger import Ledger, ReuseNote, Trial
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.spool import Limits, Router, spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.sampling import Sample
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

TAKE_TRIES = 10
"""How often a job is read again because another process was about to write it."""
PROOF = "exclusive-create"
"""File under ``storage_path`` that shows that its store can create a file exclusively."""


@dataclass(frozen=True, kw_only=True)
class Reusing:
    """How a job uses what earlier ones were answered."""

    router: Router
    """Says which requests need not be asked."""
    note: ReuseNote
    """For the ledger."""


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
    bad_fraction: float = 0.0
    """Share of the records that may be bad; the others are sent."""
    may_be_empty: bool = False
    """Whether no records are a job, too."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many files the source leaves out, by suffix; counted while it is read."""
    recipe: Recipe = field(default_factory=Recipe)
    """What makes requests of records that are none yet."""
    reuse: Callable[[], Reusing] | None = None
    """Looks up what earlier jobs were answered; called before ``records``. None to ask everything."""
    complete: Callable[[Input], Input] | None = None
    """Looks up what the rest depends on, such as a system prompt in a file; called before ``records``."""
    sample: Sample | None = None
    """Picks some of the records, to try the job with; ``records`` has them only."""
    check: Callable[[], None] | None = None
    """Called when all is spooled; raises where it is known that the API would refuse it."""


@dataclass(kw_only=True)
class Job:
    """A job that this process works on: its newest ledger in memory."""

    root: Folder
    """``storage_path``."""
    folder: Folder
    ledger: Ledger
    lease: leases.Lease
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the ledger is changed and saved (two parts upload at a time)."""

    @contextlib.contextmanager
    def change(self) -> Iterator[Ledger]:
        """Change the ledger and save it as its next version.

        Raises:
            LostOwnershipError: When another process has written meanwhile.
        """
        with self.lock:
            yield self.ledger
            ledgers.save(self.folder, self.ledger)

    def check(self) -> None:
        """Return if this process still has the newest version.

        Raises:
            LostOwnershipError: If another process has written since.
        """
        with self.lock:
            if ledgers.versions(self.folder)[-1:] != [self.ledger.number]:
                raise LostOwnershipError(
                    f"Another worker has taken over the job in {self.folder.url}; this one stops without "
                    "sending anything more."
                )

    def check_next(self) -> None:
        """Like :meth:`check`, with one question to the store: whether somebody has written the next version.

        Raises:
            LostOwnershipError: If so; not where more versions than are kept were written since.
        """
        with self.lock:
            following = ledgers.file_name(self.ledger.number + 1)
        if self.folder.exists(following):
            self.check()

    def number_of(self, part: Part) -> int:
        """Position of a part in the ledger."""
        return next(number for number, own in enumerate(self.ledger.parts) if own is part)

    def claim(self, part: Part, batch_id: str) -> None:
        """Say, for everybody, that the batch is this part's."""
        ledger = self.ledger
        number = self.number_of(part)
        mine = claims.Claim(job=ledger.job, part=number, sent_id=part.sent_id, dag_id=ledger.dag_id)
        claims.claim(self.root, batch_id, mine)


@dataclass(frozen=True, kw_only=True)
class Later:
    """Submission cannot go on now. Not a failure: come back at ``at``."""

    at: datetime.datetime
    reason: str
    batch_id: str | None = None
    """Come back when this batch has ended, rather than at a certain time."""
    certain: bool = True
    """Whether ``batch_id`` is proved to be the job's; if not, nothing may be done to it."""
    unreachable: bool = False
    """Whether it is because the API cannot be reached."""


@contextlib.contextmanager
def open_job(root: Folder, url: str) -> Iterator[Job]:
    """Take the existing job at ``url`` over, for the time of the block.

    Raises:
        LedgerError: If there is none.
    """
    folder = root_relative(root, url)
    with leases.hold(folder.parent) as lease:
        yield _take(root, folder, lease)


def _take(root: Folder, folder: Folder, lease: leases.Lease, **changes: Any) -> Job:
    """Write a version of this process's own, so that whoever had the job before can write no more."""
    for _ in range(TAKE_TRIES):
        ledger = read_ledger(folder)
        ledger.owner = lease.token
        for name, value in changes.items():
            setattr(ledger, name, value)
        try:
            ledgers.save(folder, ledger)
        except LostOwnershipError:
            continue
        return Job(root=root, folder=folder, ledger=ledger, lease=lease)
    raise LostOwnershipError(f"Other workers keep writing the job in {folder.url}; a retry tries again.")


def read_ledger(folder: Folder) -> Ledger:
    """The newest ledger of a job that must exist.

    Raises:
        LedgerError: If it does not, or cannot be read.
    """
    ledger = ledgers.load(folder)
    if ledger is None:
        raise LedgerError(f"There is no job at {folder.url} (no ledger). Was its folder purged or moved?")
    return ledger


@contextlib.contextmanager
def start_job(
    root: Folder,
    identity: Identity,
    source: Input,
    *,
    generation: int,
    conn_id: str = "",
    force_new: bool = False,
    allow_unsafe_storage: bool = False,
) -> Iterator[tuple[Job, list[Job]]]:
    """Own the job that this task instance means, spooling it first where that is needed.

    Args:
        root: ``storage_path``.
        identity: The task instance.
        source: Its input.
        generation: First try number of the task instance's generation: the same for its retries, another
            after a clear.
        conn_id: The connection that the job belongs to.
        force_new: After a clear, start a new job even for the same requests.
        allow_unsafe_storage: Take the job even where the store cannot create a file exclusively.

    Yields:
        The job, and the older ones that it replaces, if that is not settled yet.

    Raises:
        InputError: If the requests are faulty; the older job is then left as it is.
        LostOwnershipError: If another worker has started the task instance's job meanwhile.
    """
    if not allow_unsafe_storage:
        _prove(root)
    home = identity.folder(root)
    with leases.hold(home) as lease:
        known, changes = History.read(home), dict[str, Any](generation=generation)
        if known.jobs and not known.number:  # of format version 1
            known.make_current(known.jobs[0], lease.token)
        if known.jobs and known.jobs[0].ledger.generation == generation:
            log.info("Resuming the job in %s: %s", known.jobs[0].folder.url, describe(known.jobs[0].ledger))
        else:
            empty = empty_ledger(identity, owner=lease.token, conn_id=conn_id, generation=generation)
            empty.betas = source.betas
            if known.jobs:
                empty.past_deadline = changes["past_deadline"] = known.jobs[0].ledger.missed_deadline
            fresh = _spool(reserve(home, empty), empty, source)
            same = None if force_new else _begun_with(fresh, known)
            if same is None:
                known.add(fresh)
            else:
                _return_to(same, fresh, known, lease.token)
                changes["trial"] = fresh.ledger.trial
        job = _take(root, known.jobs[0].folder, lease, **changes)
        # A kill may have come between the new job and the end of the old one: the mark tells.
        others = [one for one in known.jobs[1:] if not one.ledger.superseded_by]
        yield job, [_take(root, one.folder, lease) for one in others]


def _return_to(same: StoredJob, fresh: StoredJob, known: History, token: str) -> None:
    """Make an earlier job the current one instead of what was just stored, whose requests are the same."""
    fresh.folder.remove()
    log.info("The same requests as before: %s", describe(same.ledger))
    if same is not known.jobs[0]:
        known.make_current(same, token)


def empty_ledger(identity: Identity, *, owner: str, conn_id: str, generation: int) -> Ledger:
    """The ledger of a job that has nothing yet, not even a place."""
    return Ledger(
        version=ledgers.VERSION,
        owner=owner,
        job="",
        dag_id=identity.dag_id,
        run_id=identity.run_id,
        task_id=identity.task_id,
        map_index=identity.map_index,
        conn_id=conn_id,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC),
    )


def _spool(folder: Folder, ledger: Ledger, source: Input) -> StoredJob:
    """Store the whole input; the ledger that is returned is not yet saved as spooled."""
    try:
        source = source.complete(source) if source.complete else source
        reusing = source.reuse() if source.reuse else None
        spooled = spool(
            source.records(),
            folder,
            defaults=source.defaults,
            limits=source.limits,
            compress=source.compress,
            recipe=source.recipe,
            bad_fraction=source.bad_fraction,
            may_be_empty=source.may_be_empty,
            router=reusing.router if reusing else None,
        )
        if source.check:
            source.check()
    except BaseException:
        # Nothing was sent from here; a kill leaves the folder behind, which is as harmless.
        with contextlib.suppress(OSError):
            folder.remove()
        raise
    ledger.digest, ledger.request_count, ledger.parts = spooled.digest, spooled.request_count, spooled.parts
    ledger.survey, ledger.left_out = spooled.survey, dict(source.left_out)
    if source.sample is not None:
        sample = source.sample
        ledger.trial = Trial(
            records=spooled.request_count, of=sample.total, pick=sample.pick, asset_events=sample.asset_events
        )
    ledger.reuse = reusing.note if reusing else None
    ledger.warm_cache = source.limits.first_alone and len(ledger.batch_parts) > 1
    for part in spooled.parts:
        if part.rejected:
            log.warning(
                "%s records are not sent; the reasons are in %s/%s",
                part.request_count,
                folder.url,
                part.inputs,
            )
    return StoredJob(folder=folder, ledger=ledger)


def _prove(root: Folder) -> None:
    """See once that the store can create a file exclusively; without that nothing keeps two workers apart.

    Raises:
        ConfigurationError: When it cannot.
    """
    if root.exists(PROOF):
        return
    first, second = (f"{number} {datetime.datetime.now(datetime.UTC)}".encode() for number in (1, 2))
    root.create(PROOF, first)
    if root.create(PROOF, second):
        root.remove_file(PROOF)
        raise ConfigurationError(
            f"The store of {root.url} replaced a file that was to be created only if there is none. It needs "
            "conditional writes (S3 If-None-Match, or what GCS and Azure have); use another storage_path, or "
            "set [claude_batch] allow_unsafe_storage where only one worker at a time ever runs."
        )


def _has_begun(known: StoredJob) -> bool:
    """Whether anything of a job was sent, or may have been, or was delivered."""
    delivered = any(part.delivery for part in known.ledger.parts)
    return delivered or has_sent(known.folder, known.ledger)


def _begun_with(fresh: StoredJob, known: History) -> StoredJob | None:
    """The job that was begun last, where its requests are those of a fresh one.

    What was never sent, a dry run or what a budget refused, hides nothing that was paid for.
    """
    begun = next((one for one in known.jobs if _has_begun(one)), None)
    if begun is None or begun.ledger.superseded_by or not _same(begun, fresh):
        return None
    return begun


def _same(known: StoredJob, fresh: StoredJob) -> bool:
    """Whether a job is what was just stored; of one that was made of batches, the custom_ids tell."""
    recorded, new = known.ledger, fresh.ledger
    if recorded.without_requests:
        return recorded.conn_id == new.conn_id and complete(known.folder, recorded, fresh.folder, new)
    return (recorded.digest, recorded.betas, recorded.conn_id) == (new.digest, new.betas, new.conn_id)


def describe(ledger: Ledger) -> str:
    """One line about a job, for logs: no prompts, no answers."""
    parts = ledger.batch_parts
    submitted = sum(1 for part in parts if part.batch_id)
    return f"{ledger.request_count} requests, {submitted} of {len(parts)} batches submitted"
