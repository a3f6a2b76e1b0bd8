"""Sums over the jobs of the last days: cost by day, DAG, model and connection; outcomes, errors, times."""

from __future__ import annotations

import bisect
import datetime
import logging
import threading
import zoneinfo
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from airflow.utils.session import create_session
from sqlalchemy.orm import Session

from airflow_claude_batch.batches.results.output_records import OUTCOMES
from airflow_claude_batch.plugins import shapes
from airflow_claude_batch.plugins.history import (
    Mark,
    Past,
    batch_seconds,
    deliveries,
    mark,
    past_jobs,
    percentile,
    usual_seconds,
)
from airflow_claude_batch.plugins.queries import bulk
from airflow_claude_batch.plugins.zones import start_of, zone_of

log = logging.getLogger(__name__)

DAYS = 30
ERROR_DAYS = 7
LATE = datetime.timedelta(hours=24)
"""After so long, a job without a deadline of its own is late: the API gives no batch more."""
FRESH = datetime.timedelta(minutes=1)
"""Sums are good for so long if nothing was announced, delivered or ended: many open pages ask for them."""
MANY = 2_000
"""Sums of more jobs take long: the last ones are given out while new ones are made, once for all who ask."""
CHECKED = datetime.timedelta(seconds=10)
"""Such sums are not even compared with the database for so long."""
OLDEST = datetime.timedelta(minutes=5)
"""And who asks after so long waits for new ones."""
MOST_ANSWERS = 32
MOST_GROUPS = 10_000
"""Rows of one table of sums: a name is made up easily."""


def totals(
    session: Session, dag_ids: Collection[str], now: datetime.datetime, zone: zoneinfo.ZoneInfo
) -> dict[str, Any]:
    """The last :data:`DAYS` days, today included, as days of this time zone."""
    place = _Place(frozenset(dag_ids), zone.key, now.astimezone(zone).date())
    known = _answers.get(place)
    if known is not None and known.jobs > MANY and now - known.checked < OLDEST:
        if now - known.checked < CHECKED:
            return known.view
        _renew_soon(place)
        return known.view | {"renewing": True}
    since = place.days_and_starts()[1][0]
    marked = mark(session, dag_ids, since)
    if known is not None and known.mark == marked and now - known.at < FRESH:
        return known.view
    return _make(session, place, marked, now).view


class _Place(NamedTuple):
    """Whose sums, over which days."""

    dag_ids: frozenset[str]
    zone: str
    today: datetime.date

    def days_and_starts(self) -> tuple[list[datetime.date], list[datetime.datetime]]:
        """The days, and when each begins."""
        zone = zone_of(self.zone)
        days = [self.today - datetime.timedelta(days=number) for number in reversed(range(DAYS))]
        return days, [start for day in days if (start := start_of(zone, day)) is not None]


class _Answer(NamedTuple):
    mark: Mark
    at: datetime.datetime
    checked: datetime.datetime
    """When it was last known to be what the database says."""
    jobs: int
    view: dict[str, Any]


_lock = threading.Lock()
_answers: dict[_Place, _Answer] = {}
_renewing: set[_Place] = set()
_renewer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="claude-batch-totals")


def _make(session: Session, place: _Place, marked: Mark, now: datetime.datetime) -> _Answer:
    view = _sums(session, marked, now, *place.days_and_starts()) | {"renewing": False}
    answer = _Answer(marked, now, now, view["all"]["jobs"], view)
    with _lock:
        _answers.pop(place, None)
        _answers[place] = answer
        while len(_answers) > MOST_ANSWERS:
            del _answers[next(iter(_answers))]
    return answer


def _renew_soon(place: _Place) -> None:
    with _lock:
        if place in _renewing:
            return
        _renewing.add(place)
    _renewer.submit(_renew, place)


def _renew(place: _Place) -> None:
    now = datetime.datetime.now(datetime.UTC)
    try:
        with create_session(scoped=False) as session:
            marked = mark(session, place.dag_ids, place.days_and_starts()[1][0])
            known = _answers.get(place)
            if known is not None and known.mark == marked and now - known.at < FRESH:
                with _lock:
                    _answers[place] = known._replace(checked=now)
            else:
                _make(session, place, marked, now)
    except Exception:  # whoever asks next tries again
        log.exception("The sums of the page Claude Batches could not be renewed")
    finally:
        with _lock:
            _renewing.discard(place)


def _sums(
    session: Session,
    marked: Mark,
    now: datetime.datetime,
    days: list[datetime.date],
    starts: list[datetime.datetime],
) -> dict[str, Any]:
    history = past_jobs(session, marked)
    parts: defaultdict[tuple[int, str, str, str], Sum] = defaultdict(Sum)
    for past in history:
        number = bisect.bisect_right(starts, past.row.at) - 1
        known = past.announcement
        parts[number, past.row.dag_id, known.model or "", known.conn_id].add(past, now)
    by_day = _merged(parts, 0, 1)
    everything = sum(by_day.values(), Sum())
    yesterday, last_week = now - datetime.timedelta(hours=24), now - datetime.timedelta(days=ERROR_DAYS)
    durations = list(batch_seconds(history))
    usual = usual_seconds(deliveries(history, {past.row.dag_id for past in history if past.in_flight}))
    return {
        "as_of": now.isoformat(),
        "days": [day.isoformat() for day in days],
        "by_day": [
            {"day": days[number].isoformat(), "dag_id": dag_id, **one.view()}
            for (number, dag_id), one in by_day.items()
        ],
        "by_model": [{"name": name, **one.view()} for (name,), one in _merged(parts, 2).items()],
        "by_connection": [{"name": name, **one.view()} for (name,), one in _merged(parts, 3).items()],
        "outcomes": {outcome: everything.outcomes[outcome] for outcome in OUTCOMES},
        "all": everything.view(),
        "last_24_hours": Sum.over((past for past in history if past.row.at >= yesterday), now).view(),
        "in_flight": Sum.over((past for past in history if past.in_flight), now).view(),
        "usual_seconds": {dag_id: median for dag_id, (median, _) in usual.items()},
        "errors": _errors([past for past in history if past.row.at >= last_week]),
        "batch_seconds": {
            "batches": len(durations),
            "median": percentile(durations, 0.5) if durations else None,
            "p95": percentile(durations, 0.95) if durations else None,
        },
        "truncated": len(history) >= bulk.HISTORY_LIMIT,
    }


def _merged(parts: dict[tuple[int, str, str, str], Sum], *places: int) -> dict[tuple[Any, ...], Sum]:
    """Sums by these places of their keys, in order."""
    found: defaultdict[tuple[Any, ...], Sum] = defaultdict(Sum)
    for key, one in parts.items():
        found[tuple(key[place] for place in places)] += one
    return dict(sorted(found.items())[:MOST_GROUPS])


def _errors(history: Iterable[Past]) -> list[dict[str, Any]]:
    """What requests met instead of an answer, and answers that were refused or cut off, by DAG and model."""
    numbers: Counter[tuple[str, str, str]] = Counter()
    jobs: Counter[tuple[str, str, str]] = Counter()
    for past in history:
        found = Counter(past.outcome.errors) if past.outcome else Counter[str]()
        for reason in ("refusal", "max_tokens"):
            if past.outcome and (number := past.outcome.stop_reasons.get(reason, 0)):
                found[reason] += number
        for kind, number in found.items():
            key = kind, past.row.dag_id, past.announcement.model or ""
            numbers[key] += number
            jobs[key] += 1
    return [
        {
            "type": kind,
            "dag_id": dag_id,
            "model": model,
            "requests": number,
            "jobs": jobs[kind, dag_id, model],
        }
        for (kind, dag_id, model), number in numbers.most_common(200)
    ]


class Sum:
    """Of some jobs; ten thousand are added one by one, so it counts and does no more."""

    NUMBERS = (
        "jobs", "delivered", "failed", "late", "unreadable", "requests", "requests_over",
        "unpriced_jobs", "cost", "estimated",
        "standard", "reused", "reuse_saved", "outcomes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.jobs = self.delivered = self.failed = self.late = self.unreadable = 0
        self.requests = self.requests_over = self.unpriced_jobs = self.reused = 0
        self.cost = self.estimated = self.standard = self.reuse_saved = 0.0
        self.outcomes: Counter[str] = Counter()

    @classmethod
    def over(cls, history: Iterable[Past], now: datetime.datetime) -> Sum:
        """The sum of these."""
        one = cls()
        for past in history:
            one.add(past, now)
        return one

    def add(self, past: Past, now: datetime.datetime) -> None:
        """Count one more job."""
        self.jobs += 1
        self.unreadable += past.unreadable
        self.failed += past.failed
        self.requests += past.requests
        self.requests_over += 0 if past.in_flight else past.requests
        if past.outcome is not None:
            self.delivered += 1
            counts = past.outcome.counts
            self.outcomes["succeeded"] += counts.succeeded
            if counts.succeeded < counts.total:
                for outcome in OUTCOMES[1:]:
                    self.outcomes[outcome] += getattr(counts, outcome)
            if past.outcome.reused:
                self.reused += shapes.natural(past.outcome.reused) or 0
                self.reuse_saved += shapes.dollars(past.outcome.saved_by_reuse_usd) or 0.0
        self.late += past.is_late(now, LATE)
        self._add_money(past)

    def _add_money(self, past: Past) -> None:
        if before := past.announcement.paid_before:
            self.cost += before.usd
            self.standard += before.usd
            self.estimated += before.estimated_usd
        cost, standard = past.cost
        if cost is not None:
            self.cost += cost
            self.standard += cost if standard is None else standard
        elif past.outcome is None and past.estimate is not None:
            self.cost += past.estimate
            self.standard += past.estimate
            self.estimated += past.estimate
        elif past.outcome is not None or past.sent:
            self.unpriced_jobs += 1

    def __add__(self, other: Sum) -> Sum:
        both = Sum()
        for name in self.NUMBERS:
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def view(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "jobs": self.jobs,
            "delivered": self.delivered,
            "failed": self.failed,
            "late": self.late,
            "unreadable": self.unreadable,
            "requests": self.requests,
            "requests_over": self.requests_over,
            "succeeded": self.outcomes["succeeded"],
            "cost_usd": self.cost,
            "estimated_usd": self.estimated,
            "saved_usd": self.standard - self.cost,
            "unpriced_jobs": self.unpriced_jobs,
            "reused": self.reused,
            "saved_by_reuse_usd": self.reuse_saved,
        }
