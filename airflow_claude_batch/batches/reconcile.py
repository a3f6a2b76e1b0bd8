"""Finding the batch of a create whose answer was lost.

The API gives a batch no name, so a batch is recognised by what it shares with the intent: made
after it, of the same size, and claimed by nobody else. Where more than one intent or more than
one batch fit, only the custom_ids in the results can tell, and those exist when a batch has ended.

Open intents of all jobs lie in ``intents/`` under ``storage_path``, so that two jobs that lost an
answer at the same time do not take each other's batch.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.errors import IncompleteResultsError
from airflow_claude_batch.batches.jobs import Job
from airflow_claude_batch.batches.ledger import Part
from airflow_claude_batch.batches.resultlines import read_custom_ids
from airflow_claude_batch.batches.spool import read_inputs
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

CLOCK_SKEW = datetime.timedelta(minutes=5)
"""A batch may seem older than its intent by so much, where our clock is ahead of the API's."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the list of batches says about one intent."""

    batch: Batch | None = None
    """The batch to adopt."""
    certain: bool = False
    """Whether it is known to be ours (claimed by us, or its custom_ids compared)."""
    undecided: list[Batch] = field(default_factory=list)
    """Batches that may be ours; which of them only their results can tell."""


class Intent(msgspec.Struct, kw_only=True):
    """An announced POST, visible to all jobs under the same ``storage_path``."""

    job: str
    part: int
    request_count: int
    ids_digest: str
    at: datetime.datetime


def announce(job: Job, part: Part, at: datetime.datetime) -> None:
    """Let other jobs know that a batch of this size may appear."""
    intent = Intent(
        job=job.ledger.job,
        part=job.ledger.parts.index(part),
        request_count=part.request_count,
        ids_digest=part.ids_digest,
        at=at,
    )
    job.root.child("intents").write(_intent_name(job, part), msgspec.json.encode(intent) + b"\n")


def withdraw(job: Job, part: Part) -> None:
    """The POST is settled."""
    job.root.child("intents").remove_file(_intent_name(job, part))


def _intent_name(job: Job, part: Part) -> str:
    key = ledgers.short_hash(f"{job.ledger.job}#{job.ledger.parts.index(part)}")
    return f"{part.request_count}-{key}.json"


def _rivals(job: Job, part: Part, since: datetime.datetime) -> list[Intent]:
    """Other open intents that the same batch would fit."""
    folder = job.root.child("intents")
    own = _intent_name(job, part)
    rivals = []
    for name in folder.names():
        if name == own or not name.startswith(f"{part.request_count}-"):
            continue
        try:
            intent = msgspec.json.decode(folder.read(name), type=Intent)
        except (FileNotFoundError, msgspec.DecodeError):
            continue
        if intent.at >= since - CLOCK_SKEW:
            rivals.append(intent)
    return rivals


def find_batch(job: Job, part: Part, api: BatchesApi) -> Finding:
    """Look for the batch of a part whose intent is recorded without a batch id."""
    assert part.intent_at is not None
    since = part.intent_at - CLOCK_SKEW
    number = job.ledger.parts.index(part)
    candidates = []
    for batch in api.list_since(since):
        if batch.request_counts.total != part.request_count or batch.id in part.foreign:
            continue
        claim = ledgers.find_claim(job.root, batch.id)
        if claim is None:
            candidates.append(batch)
        elif (claim.job, claim.part) == (job.ledger.job, number):
            return Finding(batch=batch, certain=True)
    if not candidates:
        return Finding()
    rivals = _rivals(job, part, since)
    if len(candidates) == 1 and not rivals:
        return Finding(batch=candidates[0])
    if any(rival.ids_digest == part.ids_digest for rival in rivals):
        # The same custom_ids in another job: not even the results could tell the batches apart.
        return Finding(undecided=candidates)
    return _compare(job, part, candidates, api)


def _compare(job: Job, part: Part, candidates: list[Batch], api: BatchesApi) -> Finding:
    matching, open_ones = [], []
    for batch in candidates:
        if not batch.ended:
            open_ones.append(batch)
        elif is_batch_of(job.folder, part, batch.id, api):
            matching.append(batch)
    if len(matching) == 1:
        return Finding(batch=matching[0], certain=True)
    return Finding(undecided=matching or open_ones)


def is_batch_of(folder: Folder, part: Part, batch_id: str, api: BatchesApi) -> bool:
    """Whether an ended batch holds exactly the custom_ids of a part.

    :raises IncompleteResultsError: when the download ended early; that is no sign of another's batch
    """
    expected = {custom_id for custom_id, _ in read_inputs(folder, part.inputs)}
    for custom_id in _ids(api, batch_id):
        if custom_id not in expected:
            return False
        expected.discard(custom_id)
    if expected:
        # The batch is of the part's size, and every custom_id so far is the part's.
        raise IncompleteResultsError(
            f"{len(expected)} of {part.request_count} results of {batch_id} did not come; the download ended "
            "early."
        )
    return True


def _ids(api: BatchesApi, batch_id: str) -> Iterator[str]:
    with api.results(batch_id) as blocks:
        yield from read_custom_ids(blocks)
