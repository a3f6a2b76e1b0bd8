"""What a delivery needs of the reuse of answers: the lines of requests that were not sent, and a keeper.

Both are the room ``reuse``'s business; a delivery that is given none of it reuses and keeps nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Protocol

from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.results.download import Arrivals
from airflow_claude_batch.batches.results.line_sources import LineSource


class Keeper(Protocol):
    """Takes of one part what later requests can use."""

    def see(self, arrivals: Arrivals) -> None:
        """Lines as they come, whatever they say."""

    def keep(self, answers: Arrivals) -> None:
        """Answers that passed every check, and are not empty."""


class Reuse(Protocol):
    """Takes requests of one job their answers from elsewhere, and keeps its answers for others."""

    def gather(self, job: Job, parts: Mapping[int, Part]) -> None:
        """Bring what earlier jobs were answered into the job's folder, for some parts."""

    def source(self, job: Job, number: int, part: Part) -> LineSource:
        """The lines of a part that is not sent."""

    def keeper(
        self, job: Job, number: int, source: LineSource, key: str
    ) -> contextlib.AbstractContextManager[Keeper | None]:
        """A keeper of a part's answers; what it took counts when the block ends well.

        Args:
            job: Whose part it is.
            number: Of the part.
            source: Where its lines come from.
            key: Names how they are read.
        """

    def finish(self) -> None:
        """After a delivery has ended: tidy up."""


def reuse_summary(ledger: Ledger, tally: Tally) -> dict[str, Any]:
    """Of a job that reuses: how many requests were not asked, how many were, and what that saved.

    Args:
        ledger: Of the job, all of whose parts are delivered.
        tally: Over all of them.
    """
    if ledger.reuse is None:
        return {}
    notes = [part.delivery for part in ledger.parts if part.way == "reuse" and part.delivery]
    reused = sum(note.tally.delivered for note in notes)
    rejected = sum(part.request_count for part in ledger.parts if part.rejected)
    answered = any(note.tally.stop_reasons for note in notes)
    unknown = answered and tally.saved_pico is None
    return {
        "resubmitted": tally.moved - sum(note.tally.moved for note in notes),
        "reused": reused,
        "asked": tally.delivered - reused - rejected,
        "saved_by_reuse_usd": None if unknown else (tally.saved_pico or 0) / PICO,
    }
