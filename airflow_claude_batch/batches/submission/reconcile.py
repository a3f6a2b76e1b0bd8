"""Finding the batch of a create whose answer was lost.

Count and time are a sieve: a batch that was created after the workspace's newest one before the POST, of
the part's size, and claimed by nobody is a candidate. The proof is the part's mark (see ``job.marks``), and
a batch shows it only when it has ended. Until then a candidate is but a candidate: nothing is done to it.

Intents, announced POSTs of all jobs, lie in ``intents/`` under ``storage_path``. They are read before the
list, and claims after it: a job that is about to claim a batch has its intent there, or its claim.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.api.result_lines import read_custom_ids
from airflow_claude_batch.batches.errors import IncompleteResultsError, ResultsGoneError
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import short_hash
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

MARGIN = datetime.timedelta(minutes=1)
"""Batches that were created so much before the newest one known are looked at, too: servers have clocks."""
INTENT_LIFETIME = datetime.timedelta(hours=25)
"""Within it a batch has ended, and whose it is has shown."""
UNKNOWN_START = datetime.timedelta(minutes=15)
"""The same before the intent, where the list could not be read before the POST."""
FAILED_DOWNLOADS = 3
"""After so many, no further batch is looked into this time."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the list of batches says about one intent."""

    batch: Batch | None = None
    """The part's batch, proved."""
    candidates: list[Batch] = field(default_factory=list)
    """Batches that have not ended and may be the part's."""
    unreadable: list[Batch] = field(default_factory=list)
    """Ended batches that may be the part's, and whose results cannot be had any more."""
    foreign: list[str] = field(default_factory=list)
    """Batches that turned out to be somebody else's."""
    rivals: bool = False
    """Whether another job has announced a POST of the same size; it may own one of the batches."""


class Intent(msgspec.Struct, kw_only=True):
    """An announced POST, visible to all jobs under the same ``storage_path``."""

    job: str
    part: int
    request_count: int
    at: datetime.datetime
    sent_id: str = ""
    """custom_id that the POST's batch shows in its results."""


_decode = msgspec.json.Decoder(Intent).decode


def announce(job: Job, part: Part) -> None:
    """Let other jobs know that a batch of this size may appear."""
    assert part.intent_at is not None
    intent = Intent(
        job=job.ledger.job,
        part=job.number_of(part),
        request_count=part.request_count,
        at=part.intent_at,
        sent_id=part.sent_id,
    )
    job.root.child("intents").create(_intent_name(job, part), msgspec.json.encode(intent) + b"\n")


def announced(root: Folder, url: str) -> Iterator[Intent]:
    """The POSTs that a job has announced, and of which nothing more is written down."""
    folder = root.child("intents")
    for name in folder.names():
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            intent = _decode(folder.read(name))
            if intent.job == url:
                yield intent


def withdraw(job: Job, part: Part) -> None:
    """The POST is settled."""
    job.root.child("intents").remove_file(_intent_name(job, part))


def _intent_name(job: Job, part: Part) -> str:
    key = short_hash(f"{job.ledger.job}#{job.number_of(part)}#{part.sent_id}")
    return f"{part.request_count}-{key}.json"


def _has_rivals(job: Job, part: Part, now: datetime.datetime) -> bool:
    """Whether other jobs have announced a POST of the same size, not longer ago than a batch lives."""
    own, folder = _intent_name(job, part), job.root.child("intents")
    for name in folder.names():
        if name == own or not name.startswith(f"{part.request_count}-"):
            continue
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            if _decode(folder.read(name)).at > now - INTENT_LIFETIME:
                return True
    return False


def find_batch(job: Job, part: Part, api: BatchesApi) -> Finding:
    """Look for the batch of a part whose intent is recorded without a batch id.

    Some batches may have to be downloaded to see whose they are. One download that fails does not undo the
    others: what they showed is recorded, and not asked again.

    Raises:
        IncompleteResultsError: When a candidate's results came short; that is no sign of another's batch.
        Exception: The SDK's.
    """
    import anthropic
    import httpx2

    rivals = _has_rivals(job, part, api.now())
    candidates, unreadable, foreign = list[Batch](), list[Batch](), list[str]()
    failures = list[Exception]()
    for batch, own in _similar(job, part, api):
        if own:  # made by the answer to its POST, just before the ledger was to say so
            return Finding(batch=batch)
        if not batch.ended:
            candidates.append(batch)
            continue
        try:
            shown = _shows_mark(part, batch, api)
        except (anthropic.APIError, httpx2.TransportError, IncompleteResultsError) as error:
            failures.append(error)
            if len(failures) == FAILED_DOWNLOADS:
                break
            continue
        if shown:
            return Finding(batch=batch, foreign=foreign)
        if shown is None:
            unreadable.append(batch)
        else:
            foreign.append(batch.id)
    if failures:
        with job.change():
            part.foreign = [*part.foreign, *foreign]
        raise failures[0]
    return Finding(candidates=candidates, unreadable=unreadable, foreign=foreign, rivals=rivals)


def _similar(job: Job, part: Part, api: BatchesApi) -> Iterator[tuple[Batch, bool]]:
    """Batches of the part's size that nobody else claims, and whether the part does."""
    mine = job.ledger.job, job.number_of(part), part.sent_id
    for batch in list(api.list_since(_start(part))):
        if batch.request_counts.total != part.request_count or batch.id in part.foreign:
            continue
        claim = find_claim(job.root, batch.id)
        if claim is None or (claim.job, claim.part, claim.sent_id) == mine:
            yield batch, claim is not None


def _shows_mark(part: Part, batch: Batch, api: BatchesApi) -> bool | None:
    """Whether an ended batch is the part's; None where nothing can tell."""
    if not part.marked:
        return None
    try:
        return shows(api, batch, part.sent_id)
    except ResultsGoneError:
        return None


def _start(part: Part) -> datetime.datetime:
    """Batches from before this moment, by the API's clock, cannot be the part's."""
    assert part.intent_at is not None
    if part.newest_before is not None:
        return part.newest_before - MARGIN
    return part.intent_at - UNKNOWN_START


def shows(api: BatchesApi, batch: Batch, sent_id: str) -> bool:
    """Whether the results of an ended batch hold a custom_id.

    Raises:
        IncompleteResultsError: When the download ended early and did not hold it.
        ResultsGoneError: When the results cannot be had any more.
    """
    if batch.archived_at is not None:
        raise ResultsGoneError(f"The results of {batch.id} are archived.")
    seen = 0
    with api.results(batch.id) as blocks:
        for custom_id in read_custom_ids(blocks):
            if custom_id == sent_id:
                return True
            seen += 1
    if seen < batch.request_counts.total:
        raise IncompleteResultsError(
            f"Only {seen} of {batch.request_counts.total} results of {batch.id} came, none with the mark. "
            "If it stays so, say whose it is with `claude-batch adopt`."
        )
    return False
