"""Batches become a task's job: because its ledger was lost, or because a person has submitted them.

Nothing is sent, and nothing is taken on trust: a batch shows its custom_ids when it has ended, and they are
compared with what the task has stored, or, where it has stored nothing, with what it will store when it runs.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.api.result_lines import read_custom_ids
from airflow_claude_batch.batches.errors import (
    ClaudeBatchError,
    ConfigurationError,
    IncompleteResultsError,
    LedgerError,
    ResultsGoneError,
    UnknownBatchError,
    WaitError,
)
from airflow_claude_batch.batches.job import claims
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import BATCH_ID, Claim, find_claim
from airflow_claude_batch.batches.job.from_batches import made_part, match
from airflow_claude_batch.batches.job.history import History, StoredJob, reserve
from airflow_claude_batch.batches.job.identity import Identity, root_relative
from airflow_claude_batch.batches.job.job import empty_ledger, read_ledger
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part, PartState
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.reconcile import announced

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A batch that has ended, and whose it may be."""

    batch: Batch
    custom_ids: list[str]
    """As its results show them."""
    claim: Claim | None


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What became of it."""

    job: str
    """URL of the job's folder."""
    batch_ids: list[str]
    new: bool
    """Whether the job was made of the batches, rather than having waited for them."""


def adopt_batches(
    root: Folder, identity: Identity, api: BatchesApi, batch_ids: list[str], *, force: bool = False
) -> Adopted:
    """Make batches the job of a task instance, or of parts of its job that have none.

    Args:
        root: ``storage_path``.
        identity: The task instance.
        api: Where the batches are.
        batch_ids: All of the job's.
        force: Also where the task has another job, which is replaced then, or where a claim names a job that
            cannot be read.

    Raises:
        ConfigurationError: If they belong to another job, or differ from what the task has stored.
        WaitError: If one has not ended.
        UnknownBatchError: If the API does not know one.
    """
    home = identity.folder(root)
    _check_idle(home)
    found = [_read(api, root, batch_id) for batch_id in batch_ids]
    for one in found:
        _check_claim(root, home, one, force=force)
    with leases.hold(home) as lease:
        damaged = _damaged(home)
        if damaged is not None:
            return _make_anew(root, damaged, _empty(identity, lease.token, api.conn_id), found, force=force)
        history = History.read(home)
        current = history.jobs[0] if history.jobs else None
        if current is not None:
            pairs = _open_parts(current, found)
            if pairs is not None:
                _fill(root, current, pairs, lease.token)
                return Adopted(job=current.folder.url, batch_ids=batch_ids, new=False)
            if not force and not _grows(current, batch_ids):
                raise _other_job(current)
        if not force:
            _check_complete(_claimed_below(root, home), home, batch_ids)
        ledger = _empty(identity, lease.token, api.conn_id)
        made = StoredJob(folder=reserve(home, ledger), ledger=ledger)
        _make(made, found)
        history.add(made)
        for part in ledger.parts:
            _claim(root, ledger, part)
    return Adopted(job=made.folder.url, batch_ids=batch_ids, new=True)


def restore(root: Folder, url: str) -> Ledger:
    """Write a new ledger for a job whose newest one cannot be read.

    It begins with the newest version that can be; claims say which batches came after it, and announced POSTs
    of which nothing more is known become uncertain, so that the next try looks for their batches.

    Raises:
        ConfigurationError: If the ledger can be read.
        LedgerError: If no version can be read, or a batch is of a part that the readable one does not know.
    """
    folder = root_relative(root, url)
    _check_idle(folder.parent)
    numbers = ledgers.versions(folder)
    try:
        read_ledger(folder)
    except LedgerError:
        if not numbers:
            raise
    else:
        raise ConfigurationError(f"The ledger of {folder.url} can be read; nothing was changed.")
    with leases.hold(folder.parent) as lease:
        ledger = _newest_readable(root, folder, numbers)
        for batch_id, claim in claims_of(root, folder.url):
            part = _part_of(ledger, claim, batch_id)
            if part.batch_id is None:
                part.batch_id, part.sent_id, part.adopted = batch_id, claim.sent_id, True
        for intent in announced(root, folder.url):
            announced_by = ledger.parts[intent.part] if intent.part < len(ledger.parts) else None
            if announced_by is not None and announced_by.batch_id is None:
                announced_by.intent_at, announced_by.sent_id = intent.at, intent.sent_id
        ledger.owner, ledger.number = lease.token, numbers[-1]
        ledgers.save(folder, ledger)
    return ledger


def claims_of(root: Folder, url: str) -> Iterator[tuple[str, Claim]]:
    """The batches that claims give to a job: all claims are read."""
    for batch_id in root.child("batches").names():
        claim = find_claim(root, batch_id)
        if claim is not None and claim.job == url:
            yield batch_id, claim


def identity_of(root: Folder, url: str) -> Identity:
    """The task instance whose job lies there, by the path alone."""
    names = url.removeprefix(f"{root.url.rstrip('/')}/jobs/").split("/")
    mapped = len(names) == 5
    if len(names) not in (4, 5) or (mapped and not names[3].isdecimal()):
        raise ConfigurationError(
            f"{url} is no job's folder; it looks like {root.url}/jobs/DAG/RUN/TASK/job-1."
        )
    dag_id, run_id, task_id = map(unquote, names[:3])
    return Identity(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=int(names[3]) if mapped else -1)


def _check_idle(home: Folder) -> None:
    if leases.alive(home, leases.newest(home)):
        raise ConfigurationError(
            f"A worker is at work on {home.url}. Try again when its task has ended, or mark it failed."
        )


def _read(api: BatchesApi, root: Folder, batch_id: str) -> Ended:
    import anthropic

    if not BATCH_ID.fullmatch(batch_id):
        raise ConfigurationError(f"{batch_id[:100]!r} is no batch id; it looks like msgbatch_01….")
    try:
        batch = api.retrieve(batch_id)
    except anthropic.NotFoundError:
        raise UnknownBatchError(
            f"The API does not know {batch_id} (connection {api.conn_id!r}). Nothing was changed."
        ) from None
    if not batch.ended:
        raise WaitError(
            f"{batch_id} has not ended, and only then the API shows its custom_ids. Nothing was changed; try "
            "again then."
        )
    if batch.archived_at is not None:
        raise ResultsGoneError(f"The results of {batch_id} are gone (archived at {batch.archived_at}).")
    with api.results(batch_id) as blocks:
        custom_ids = list(read_custom_ids(blocks))
    if len(custom_ids) != batch.request_counts.total:
        raise IncompleteResultsError(
            f"{len(custom_ids)} of {batch.request_counts.total} results of {batch_id} came. Try again; if "
            "it stays so, `claude-batch fetch … --incomplete` writes those that come."
        )
    return Ended(batch=batch, custom_ids=custom_ids, claim=find_claim(root, batch_id))


def _check_claim(root: Folder, home: Folder, one: Ended, *, force: bool) -> None:
    """Return if the batch is nobody's, or belongs to a job of this task whose ledger was lost."""
    if one.claim is None:
        return
    owner = f"Batch {one.batch.id} belongs to part {one.claim.part} of {one.claim.job}"
    ledger: Ledger | None = None
    with contextlib.suppress(ClaudeBatchError):
        ledger = ledgers.load(root_relative(root, one.claim.job))
    is_own = one.claim.job.rpartition("/")[0] == home.url
    if ledger is not None and is_own and ledger.without_requests:
        return  # made by an adoption that lacked others
    if ledger is not None and one.batch.id in ledger.batch_ids:
        raise ConfigurationError(f"{owner}. Nothing was changed.")
    if not force and not is_own:
        raise ConfigurationError(
            f"{owner}, whose ledger does not name it, or cannot be read. Nothing was changed. Say --force if "
            "that job is lost."
        )


def _open_parts(job: StoredJob, found: list[Ended]) -> list[tuple[Part, Ended, str]] | None:
    """For each batch the part of the job that waits for it; None where one has none."""
    open_parts = [
        part
        for part in job.ledger.live_parts
        if part.state in (PartState.TO_SEND, PartState.UNCERTAIN) and part.requests
    ]
    pairs = []
    for one in found:
        for part in open_parts:
            sent_id = match(job.folder, part, one.custom_ids)
            if sent_id is not None:
                pairs.append((part, one, sent_id))
                open_parts.remove(part)
                break
        else:
            return None
    return pairs


def _fill(root: Folder, job: StoredJob, pairs: list[tuple[Part, Ended, str]], owner: str) -> None:
    for part, one, sent_id in pairs:
        part.batch_id, part.submitted_at, part.adopted = one.batch.id, one.batch.created_at, True
        part.sent_id = sent_id
    job.ledger.owner = owner
    ledgers.save(job.folder, job.ledger)
    for part, _, _ in pairs:
        _claim(root, job.ledger, part)


def _other_job(current: StoredJob) -> ConfigurationError:
    ledger = current.ledger
    named = f" ({', '.join(ledger.batch_ids[:3])})" if ledger.batch_ids else ""
    return ConfigurationError(
        f"The task has the job {current.folder.url} of {ledger.request_count} requests{named}, and the "
        "batches' custom_ids are not those of its parts that have no batch. Nothing was changed. Say "
        "--force to make a job of these batches that replaces it."
    )


def _empty(identity: Identity, owner: str, conn_id: str) -> Ledger:
    # Of no try: the next one asks the source, and compares.
    ledger = empty_ledger(identity, owner=owner, conn_id=conn_id, generation=0)
    ledger.without_requests = True
    return ledger


def _damaged(home: Folder) -> Folder | None:
    """The newest job of a task instance whose ledger cannot be read."""
    names = [name for name in home.names() if name.startswith("job-")]
    for name in sorted(names, key=lambda name: (len(name), name), reverse=True):
        try:
            ledgers.load(home.child(name))
        except LedgerError:
            return home.child(name)
    return None


def _make_anew(root: Folder, folder: Folder, ledger: Ledger, found: list[Ended], *, force: bool) -> Adopted:
    """Write a new version over a ledger that cannot be read; all of the job's batches must be there."""
    given = [one.batch.id for one in found]
    if not force:
        _check_complete([batch_id for batch_id, _ in claims_of(root, folder.url)], folder, given)
    numbers = ledgers.versions(folder)
    ledger.job, ledger.number = folder.url, numbers[-1] if numbers else 0
    _make(StoredJob(folder=folder, ledger=ledger), found)
    ledger.spooled = True
    ledgers.save(folder, ledger)
    for part in ledger.parts:
        _claim(root, ledger, part)
    return Adopted(job=folder.url, batch_ids=given, new=True)


def _claimed_below(root: Folder, home: Folder) -> list[str]:
    """The batches that claims give to jobs of a task instance whose ledgers are lost."""
    found = []
    for batch_id in root.child("batches").names():
        claim = find_claim(root, batch_id)
        if claim is None or claim.job.rpartition("/")[0] != home.url:
            continue
        if ledgers.load(root_relative(root, claim.job)) is None:
            found.append(batch_id)
    return found


def _check_complete(claimed: list[str], folder: Folder, given: list[str]) -> None:
    others = [batch_id for batch_id in claimed if batch_id not in given]
    if others:
        raise ConfigurationError(
            f"Claims give further batches to {folder.url}: {', '.join(others)}. Name them, too, or say "
            "--force to leave them out; they are paid for. Nothing was changed."
        )


def _grows(current: StoredJob, batch_ids: list[str]) -> bool:
    """Whether the job was made of some of these batches."""
    return current.ledger.without_requests and set(current.ledger.batch_ids) <= set(batch_ids)


def _make(job: StoredJob, found: list[Ended]) -> None:
    """Parts of batches, in the order in which these were made."""
    ledger = job.ledger
    for number, one in enumerate(sorted(found, key=lambda one: one.batch.created_at)):
        part = made_part(job.folder, number, one.custom_ids, one.claim.sent_id if one.claim else "")
        part.batch_id, part.submitted_at, part.adopted = one.batch.id, one.batch.created_at, True
        ledger.parts.append(part)
    ledger.request_count = sum(part.request_count for part in ledger.parts)


def _claim(root: Folder, ledger: Ledger, part: Part) -> None:
    """Say whose the batch is; a claim that is left of a lost job gives way."""
    assert part.batch_id is not None
    number = next(number for number, own in enumerate(ledger.parts) if own is part)
    mine = Claim(job=ledger.job, part=number, sent_id=part.sent_id, dag_id=ledger.dag_id)
    if find_claim(root, part.batch_id) not in (None, mine):
        root.child("batches").remove_file(part.batch_id)
    claims.claim(root, part.batch_id, mine)


def _newest_readable(root: Folder, folder: Folder, numbers: list[int]) -> Ledger:
    for number in reversed(numbers[:-1]):
        try:
            ledger = ledgers.load_version(folder, number)
        except (LedgerError, FileNotFoundError):
            continue
        log.warning("Going on from version %s of the ledger in %s", number, folder.url)
        return ledger
    claimed = " ".join(batch_id for batch_id, _ in claims_of(root, folder.url))
    raise LedgerError(
        f"No version of the ledger in {folder.url} can be read. It can be made anew of its batches: "
        f"`claude-batch adopt {claimed or 'BATCH_ID'} --job {folder.url}`."
        + (" These are those that claims give to it." if claimed else " No claim names one.")
    )


def _part_of(ledger: Ledger, claim: Claim, batch_id: str) -> Part:
    part = ledger.parts[claim.part] if claim.part < len(ledger.parts) else None
    if part is None or part.batch_id not in (None, batch_id):
        raise LedgerError(
            f"Batch {batch_id} is that of part {claim.part} of {ledger.job}, and the newest version that "
            "can be read knows no such part. Restore the ledger from a backup. Nothing was changed."
        )
    return part
