"""When to look at batches again, and when to stop: pure decisions, shared by every way of waiting.

A wait ends when all its batches have ended. An outage, a busy API or a 404 on a batch that we know
never ends it before the server's own deadline; it is the batch's work that costs, not the waiting.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Literal

from airflow_claude_batch.batches.api import Batch

SHORTEST_SECONDS, LONGEST_SECONDS = 15.0, 300.0
"""Bounds of the growing interval between two looks."""
GROWTH = 0.1
"""The next look comes after this fraction of the time waited so far: at most 10 % late."""
LIFETIME = datetime.timedelta(hours=24)
"""The API ends a batch after so long; used where a batch has not told its ``expires_at`` yet."""
DEADLINE_GRACE = datetime.timedelta(minutes=30)
"""How long after its ``expires_at`` a batch may take to end."""
PATIENCE = datetime.timedelta(minutes=5)
"""For a refused key, or an id that nobody knows: how long it must persist to be believed."""

Verdict = Literal["ended", "timeout", "overdue", "unknown", "refused"]


@dataclass(kw_only=True)
class Wait:
    """One wait for some batches: what was seen so far, and what follows from it."""

    batch_ids: list[str]
    started_at: datetime.datetime
    """When waiting began, by the wall clock: a wait goes on across processes."""
    known: bool = True
    """Whether a ledger knows the batches; then a 404 is the API's fault and passes."""
    timeout_at: datetime.datetime | None = None
    """When the user wants to give up, if earlier than the batches' own deadline."""
    poll_interval: float | None = None
    """Fixed seconds between two looks; None for an interval that grows from 15 s to 5 min."""
    batches: dict[str, Batch] = field(default_factory=dict)
    """Last seen state by id."""
    missing_since: dict[str, datetime.datetime] = field(default_factory=dict)
    refused_since: datetime.datetime | None = None

    @property
    def open_ids(self) -> list[str]:
        """Batches that have not been seen to end."""
        return [batch_id for batch_id in self.batch_ids if not self._ended(batch_id)]

    def saw(self, batch: Batch) -> bool:
        """Take note of a batch's state; returns whether that is news."""
        before = self.batches.get(batch.id)
        self.batches[batch.id] = batch
        self.missing_since.pop(batch.id, None)
        self.refused_since = None
        return before is None or before.processing_status != batch.processing_status

    def not_found(self, batch_id: str, now: datetime.datetime) -> None:
        """The API answered 404 for this batch."""
        self.missing_since.setdefault(batch_id, now)
        self.refused_since = None

    def refused(self, now: datetime.datetime) -> None:
        """The API refused the key (401, 403)."""
        self.refused_since = self.refused_since or now

    def failed(self, batch_id: str, error: Exception, now: datetime.datetime) -> None:
        """A look failed. Anything but a 404 or a refused key passes by itself."""
        status = getattr(error, "status_code", None)
        if status == 404:
            self.not_found(batch_id, now)
        elif status in (401, 403):
            self.refused(now)

    def verdict(self, now: datetime.datetime) -> Verdict | None:
        """Whether the wait is over, and how; None to go on."""
        if not self.open_ids:
            return "ended"
        if self.refused_since and now - self.refused_since >= PATIENCE:
            return "refused"
        if not self.known and any(
            batch_id not in self.batches and now - since >= PATIENCE
            for batch_id, since in self.missing_since.items()
        ):
            return "unknown"
        if self.timeout_at and now >= self.timeout_at:
            return "timeout"
        if now >= self.deadline + DEADLINE_GRACE:
            return "overdue"
        return None

    @property
    def deadline(self) -> datetime.datetime:
        """When the last open batch has to end, by the server's word."""
        expiries = [
            self.batches[batch_id].expires_at if batch_id in self.batches else None
            for batch_id in self.open_ids
        ]
        return max((expiry or self.started_at + LIFETIME for expiry in expiries), default=self.started_at)

    def next_look(self, now: datetime.datetime) -> float:
        """Seconds until the next look."""
        if self.poll_interval is not None:
            seconds = self.poll_interval
        else:
            waited = (now - self._submitted_at).total_seconds()
            seconds = min(max(waited * GROWTH, SHORTEST_SECONDS), LONGEST_SECONDS)
        if self.timeout_at:
            seconds = min(seconds, max((self.timeout_at - now).total_seconds(), 0.0))
        return seconds

    @property
    def counts(self) -> dict[str, int]:
        """Requests by state, over all batches seen."""
        totals: dict[str, int] = {}
        for batch in self.batches.values():
            for name in batch.request_counts.__struct_fields__:
                totals[name] = totals.get(name, 0) + getattr(batch.request_counts, name)
        return totals

    def describe(self, now: datetime.datetime) -> str:
        """One line for the log."""
        ended = len(self.batch_ids) - len(self.open_ids)
        left = self.deadline - now
        return (
            f"{ended} of {len(self.batch_ids)} batches ended; waited {_hours(now - self.started_at)}, "
            f"deadline in {_hours(left)}"
        )

    def explain(self, verdict: Verdict, conn_id: str, now: datetime.datetime) -> str:
        """The end of the wait in words: what happened, what was done about it, what to do next."""
        ids = ", ".join(self.open_ids[:5]) + (" ..." if len(self.open_ids) > 5 else "")
        waited = _hours(now - self.started_at)
        left_alone = "The batches go on and were left alone"
        again = "clear the task to wait again"
        match verdict:
            case "ended":
                return f"all {len(self.batch_ids)} batches ended"
            case "timeout":
                return f"Gave up after {waited}, as timeout asks, on {ids}. {left_alone}; {again}."
            case "overdue":
                return f"{ids} should have ended by {self.deadline}. {left_alone}; {again}."
            case "unknown":
                return (
                    f"The API does not know {ids}, and no job of this installation submitted it. Check the "
                    f"id, and whether connection {conn_id!r} belongs to the workspace that the batch is in."
                )
            case "refused":
                refused = _hours(now - (self.refused_since or now))
                return (
                    f"The API refused the key of connection {conn_id!r} for {refused}. {left_alone}; "
                    f"correct the connection, then {again}."
                )

    @property
    def _submitted_at(self) -> datetime.datetime:
        return min((batch.created_at for batch in self.batches.values()), default=self.started_at)

    def _ended(self, batch_id: str) -> bool:
        batch = self.batches.get(batch_id)
        return batch is not None and batch.ended


def _hours(span: datetime.timedelta) -> str:
    minutes, seconds = divmod(max(int(span.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
