"""When to look at batches again, and when to stop: pure decisions, shared by every way of waiting.

A wait ends when all its batches have ended. An outage, a busy API or a 404 on a batch that we know
never ends it before the server's own deadline; it is the batch's work that costs, not the waiting.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pendulum

from airflow_claude_batch.batches.api.client import BATCH_LIFETIME, Batch
from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text
from airflow_claude_batch.batches.api.retry import asked_seconds

SHORTEST_SECONDS, LONGEST_SECONDS = 15.0, 300.0
"""Bounds of the growing interval between two looks."""
GROWTH = 0.1
"""The next look comes after this fraction of the time waited so far: at most 10 % late."""
RETRY_SECONDS = 5.0
"""After a look that failed the next one comes this soon, then after twice the time, and so on."""
LONGEST_RETRY_AFTER = 300.0
"""The API's ``retry-after`` is honoured up to this many seconds."""
DEADLINE_GRACE = datetime.timedelta(minutes=30)
"""How long after its ``expires_at`` a batch may take to end."""
PATIENCE = datetime.timedelta(minutes=5)
"""For a refused key, or an id that nobody knows: how long it must persist to be believed."""
TROUBLE = 3
"""Looks that must fail in a row before it is worth a line in the log."""
IDS_SHOWN = 5

DOUBT_SECONDS = 60.0
"""Longest interval while the next looks decide if the wait goes on."""

Verdict = Literal["ended", "some", "due", "vanished", "timeout", "overdue", "gone", "unknown", "refused"]


class Span(NamedTuple):
    """How long the API has been giving the same answer: an outage in between proves nothing."""

    first: datetime.datetime
    last: datetime.datetime

    @property
    def persistent(self) -> bool:
        """Whether that is long enough to be believed."""
        return self.last - self.first >= PATIENCE


@dataclass(kw_only=True, slots=True, eq=False)
class Wait:
    """One wait for some batches: what was seen so far, and what follows from it."""

    batch_ids: list[str]
    started_at: datetime.datetime
    """When waiting began, by the wall clock: a wait goes on across processes."""
    known: bool = True
    """Whether a ledger knows the batches; then a 404 is the API's fault and passes."""
    uncertain: bool = False
    """Whether the batches only may be ours; another who owns one may delete it, and then it is gone."""
    timeout_at: datetime.datetime | None = None
    """When the user wants to give up, if earlier than the batches' own deadline."""
    due_at: datetime.datetime | None = None
    """When the job goes on without the batches that have not ended."""
    some_at: datetime.datetime | None = None
    """From when on it is enough that some of the batches have ended: their parts can be delivered."""
    poll_interval: float | None = None
    """Fixed seconds between two looks; None for an interval that grows from 15 s to 5 min."""
    batches: dict[str, Batch] = field(default_factory=dict)
    """Last seen state by id."""
    missing: dict[str, Span] = field(default_factory=dict)
    """Ids that the API answers with 404."""
    refusal: Span | None = None
    """Since when the connection has been refused (401, 403)."""
    failures: int = 0
    """Looks that have failed in a row."""
    trouble: str = ""
    """Why the last look failed."""
    not_before: datetime.datetime | None = None
    """The API asked not to be called before."""

    @property
    def open_ids(self) -> list[str]:
        """Batches that have not been seen to end."""
        return [batch_id for batch_id in self.batch_ids if not self._ended(batch_id)]

    # What was seen

    def saw(self, batch: Batch) -> bool:
        """Take note of a batch's state; returns whether that is news.

        An ended batch stays ended: two answers may arrive in the wrong order.
        """
        before = self.batches.get(batch.id)
        if before is not None and before.ended:
            return False
        if before != batch:
            self.batches[batch.id] = batch
        self.missing.pop(batch.id, None)
        recovered = self.failures >= TROUBLE
        self._answered()
        return recovered or before is None or before.processing_status != batch.processing_status

    def failed(self, error: Exception, now: datetime.datetime, batch_id: str | None = None) -> bool:
        """A look failed; returns whether that is news.

        Args:
            error: What went wrong.
            now: The wall clock.
            batch_id: The batch that was asked for; None when it was a page of the list.
        """
        status = getattr(error, "status_code", None)
        if status == 404 and batch_id is not None:
            self._answered()
            before = self.missing.get(batch_id)
            self.missing[batch_id] = Span(before.first if before else now, now)
            return False
        self.failures += 1
        self.trouble = describe_error(error)
        if status in (401, 403):
            self._refused(now)
        if seconds := retry_after(error):
            self.not_before = now + datetime.timedelta(seconds=seconds)
        return self.failures == TROUBLE

    def unusable(self, reason: str, now: datetime.datetime) -> bool:
        """The connection cannot be used at all; returns whether that is news."""
        self.failures += 1
        self.trouble = foreign_text(reason)
        self._refused(now)
        return self.failures == TROUBLE

    def _refused(self, now: datetime.datetime) -> None:
        self.refusal = Span(self.refusal.first if self.refusal else now, now)

    def _answered(self) -> None:
        self.refusal = None
        self.failures = 0
        self.trouble = ""
        self.not_before = None

    # What follows

    def verdict(self, now: datetime.datetime) -> Verdict | None:
        """Whether the wait is over, and how; None to go on."""
        open_ids = self.open_ids
        if not open_ids:
            return "ended"
        if self.due_at and now >= self.due_at:
            return "due"
        if self.some_at and now >= self.some_at and len(open_ids) < len(self.batch_ids):
            return "some"
        if self.refusal and self.refusal.persistent:
            return "refused"
        if any(span.persistent for span in self._strangers):
            return "unknown"
        if self.uncertain and all(self._vanished(batch_id) for batch_id in open_ids):
            return "vanished"
        if self.timeout_at and now >= self.timeout_at:
            return "timeout"
        if now >= self.deadline + DEADLINE_GRACE:
            return "gone" if all(batch_id in self.missing for batch_id in open_ids) else "overdue"
        return None

    @property
    def in_doubt(self) -> bool:
        """Whether the next looks decide if the wait goes on: a refused key, an id never seen, or deleted."""
        vanishing = self.uncertain and bool(self.missing)
        return self.refusal is not None or bool(self._strangers) or vanishing

    @property
    def _strangers(self) -> list[Span]:
        if self.known:
            return []
        return [span for batch_id, span in self.missing.items() if batch_id not in self.batches]

    @property
    def deadline(self) -> datetime.datetime:
        """When the last open batch has to end, by the server's word."""
        expiries = [
            self.batches[batch_id].expires_at if batch_id in self.batches else None
            for batch_id in self.open_ids
        ]
        return max(
            (expiry or self.started_at + BATCH_LIFETIME for expiry in expiries), default=self.started_at
        )

    def next_look(self, now: datetime.datetime) -> float:
        """Seconds until the next look."""
        if self.poll_interval is not None:
            seconds = self.poll_interval
        else:
            waited = (now - self._submitted_at).total_seconds()
            seconds = min(max(waited * GROWTH, SHORTEST_SECONDS), LONGEST_SECONDS)
        if self.in_doubt:
            seconds = min(seconds, DOUBT_SECONDS)
        if self.failures:
            seconds = min(seconds, RETRY_SECONDS * 2.0 ** min(self.failures - 1, 16))
        if self.not_before:
            seconds = max(seconds, (self.not_before - now).total_seconds())
        some_at = self.some_at if len(self.open_ids) < len(self.batch_ids) else None
        for end in filter(None, (self.timeout_at, self.due_at, some_at)):
            seconds = min(seconds, max((end - now).total_seconds(), 0.0))
        return seconds

    # What people are told

    @property
    def counts(self) -> dict[str, int]:
        """Requests by state, over all batches seen."""
        totals: dict[str, int] = {}
        for batch in self.batches.values():
            for name in batch.request_counts.__struct_fields__:
                totals[name] = totals.get(name, 0) + getattr(batch.request_counts, name)
        return totals

    @property
    def progress(self) -> dict[str, Any]:
        """For XCom: how far the wait has come. It changes only when a batch does."""
        open_ids = self.open_ids
        return {
            "batches": len(self.batch_ids),
            "ended": len(self.batch_ids) - len(open_ids),
            "canceling": sum(
                1 for i in open_ids if i in self.batches and self.batches[i].processing_status == "canceling"
            ),
            "requests": self.counts,
            "waiting_since": self.started_at.isoformat(),
            "deadline": self.deadline.isoformat() if open_ids else None,
            "due": self.due_at.isoformat() if self.due_at else None,
        }

    def describe(self, now: datetime.datetime) -> str:
        """One line for the log."""
        open_ids = self.open_ids
        ended = len(self.batch_ids) - len(open_ids)
        text = f"{ended} of {len(self.batch_ids)} batches ended; waited {_hours(now - self.started_at)}"
        if open_ids:
            text += f" for {_shown(open_ids)}; the API ends them within {_hours(self.deadline - now)}"
            if self.timeout_at and self.timeout_at < self.deadline:
                text += f", giving up in {_hours(self.timeout_at - now)}"
            if self.due_at:
                text += f", going on without them in {_hours(self.due_at - now)}"
        missing = [batch_id for batch_id in open_ids if batch_id in self.missing]
        if missing:
            since = min(self.missing[batch_id].first for batch_id in missing)
            text += f"; for {_hours(now - since)} the API has answered 404 for {_shown(missing)}"
            if self._strangers:
                text += (
                    ", which no job of this installation submitted: a wrong id, or a connection to another "
                    "workspace? It is asked a few times more"
                )
        if self.failures >= TROUBLE:
            text += f"; the last {self.failures} looks failed ({self.trouble}), waiting goes on"
        return text

    def explain(self, verdict: Verdict, conn_id: str, now: datetime.datetime) -> str:
        """The end of the wait in words: what happened, what was done about it, what to do next."""
        ids = _shown(self.open_ids)
        left_alone = "The batches go on and were left alone"
        again = "clear the task to wait again"
        match verdict:
            case "ended":
                return f"all {len(self.batch_ids)} batches ended"
            case "some":
                ended = len(self.batch_ids) - len(self.open_ids)
                return f"{ended} of {len(self.batch_ids)} batches have ended; their parts are delivered"
            case "due":
                return f"The job is needed soon, and {ids} have not ended; it goes on without them."
            case "vanished":
                since = min(self.missing[batch_id].first for batch_id in self.open_ids)
                return (
                    f"The API has answered 404 for {ids} since {_moment(since)}: whoever it belonged to has "
                    "deleted it. It is not waited for any more."
                )
            case "timeout":
                waited = _hours(now - self.started_at)
                return f"Gave up on {ids} after {waited}, as the timeout asks; {again}."
            case "overdue":
                return f"{ids} should have ended by {_moment(self.deadline)}. {left_alone}; {again}."
            case "gone":
                since = min(self.missing[batch_id].first for batch_id in self.open_ids)
                return (
                    f"The API has answered 404 for {ids} since {_moment(since)}, and they should have ended "
                    f"by {_moment(self.deadline)}: they were deleted, or connection {conn_id!r} has come to "
                    "belong to another workspace. Nothing was submitted again. Correct the connection and "
                    "clear the task; deleted batches have lost their results."
                )
            case "unknown":
                return (
                    f"The API does not know {ids}, and no job of this installation submitted it. Check the "
                    f"id, and whether connection {conn_id!r} belongs to the workspace that the batch is in."
                )
            case "refused":
                refused = _hours(now - (self.refusal.first if self.refusal else now))
                return (
                    f"Connection {conn_id!r} was refused for {refused} ({self.trouble}). {left_alone}; "
                    f"correct the connection, then {again}."
                )

    @property
    def _submitted_at(self) -> datetime.datetime:
        return min((batch.created_at for batch in self.batches.values()), default=self.started_at)

    def _vanished(self, batch_id: str) -> bool:
        span = self.missing.get(batch_id)
        return span is not None and span.persistent

    def _ended(self, batch_id: str) -> bool:
        batch = self.batches.get(batch_id)
        return batch is not None and batch.ended


def retry_after(error: Exception) -> float | None:
    """Seconds that the API asks to be left alone for, capped; None where it does not."""
    seconds = asked_seconds(error)
    return None if seconds is None else min(max(seconds, 1.0), LONGEST_RETRY_AFTER)


def _shown(ids: list[str]) -> str:
    return ", ".join(ids[:IDS_SHOWN]) + (f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else "")


def _moment(at: datetime.datetime) -> str:
    return pendulum.instance(at).in_timezone("UTC").format("YYYY-MM-DD HH:mm z")


def _hours(span: datetime.timedelta) -> str:
    minutes, seconds = divmod(max(int(span.total_seconds()), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
