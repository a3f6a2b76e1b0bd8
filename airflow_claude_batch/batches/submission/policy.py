"""What all steps of a submission share: the user's choices, and how a part says that it has to wait."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal

from airflow_claude_batch.batches.job.job import Job, Later


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Choices of the user that submission obeys."""

    on_ambiguous: Literal["wait", "fail"] = "wait"
    """When batches could be the one whose answer was lost: wait until they show it, or fail at once."""
    max_requests_in_queue: int | None = None
    """Submit only while the workspace has fewer requests than this in processing."""
    grace_seconds: float = 60.0
    """How long a batch may take to appear in the list after its POST was interrupted."""
    in_place_seconds: float = 10.0
    """Waits up to so long in all are slept through; longer ones are handed back, so that no worker
    slot is held. (Airflow may fail a task that defers for only some seconds.)"""


class NotYetError(Exception):
    """A part cannot go on now; ``alone`` where that says nothing about the other parts."""

    def __init__(self, later: Later, *, alone: bool = False) -> None:
        super().__init__(later.reason)
        self.later = later
        self.alone = alone


def explain(job: Job, what: str) -> str:
    """Why submission ends, and what becomes of the batches that it has made."""
    live = job.ledger.batch_ids
    kept = (
        f" Batches already submitted stay, and a retry goes on with them: {', '.join(live)}." if live else ""
    )
    return f"{what}.{kept}"


def seconds_from_now(seconds: float) -> datetime.datetime:
    """A moment of this machine's clock."""
    return now() + datetime.timedelta(seconds=seconds)


def seconds_until(moment: datetime.datetime) -> float:
    """How long it is until a moment of this machine's clock; 0 where it has passed."""
    return max((moment - now()).total_seconds(), 0.0)


def now() -> datetime.datetime:
    """This machine's time; what the API has to agree on is told in the API's, see ``BatchesApi.now``."""
    return datetime.datetime.now(datetime.UTC)
