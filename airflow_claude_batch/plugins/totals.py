"""Sums over the delivered jobs of the last days: cost and saving by day and DAG, outcomes, durations."""

from __future__ import annotations

import bisect
import datetime
import math
import zoneinfo
from collections import Counter, defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy.orm import Session

from airflow_claude_batch.plugins import queries, shapes

DAYS = 30


def totals(
    session: Session, dag_ids: Collection[str], now: datetime.datetime, zone: zoneinfo.ZoneInfo
) -> dict[str, Any]:
    """The last :data:`DAYS` days, today included, as days of this time zone."""
    today = now.astimezone(zone).date()
    days = [today - datetime.timedelta(days=number) for number in reversed(range(DAYS))]
    starts = [datetime.datetime.combine(day, datetime.time(), zone).astimezone(datetime.UTC) for day in days]
    yesterday = now - datetime.timedelta(hours=24)
    by_day: defaultdict[tuple[int, str], _Sum] = defaultdict(_Sum)
    last_day = _Sum()
    durations: list[float] = []
    for dag_id, at, text in queries.summaries(session, dag_ids, starts[0]):
        outline = shapes.read(shapes.Outline, text)
        if outline is None:
            continue
        by_day[bisect.bisect_right(starts, at) - 1, dag_id].add(outline)
        if at >= yesterday:
            last_day.add(outline)
        durations += _durations(outline)
    everything = sum(by_day.values(), _Sum())
    return {
        "days": [day.isoformat() for day in days],
        "by_day": [
            {"day": days[number].isoformat(), "dag_id": dag_id, **one.view()}
            for (number, dag_id), one in sorted(by_day.items())
        ],
        "outcomes": {outcome: everything.outcomes[outcome] for outcome in shapes.OUTCOMES},
        "all": everything.view(),
        "last_24_hours": last_day.view(),
        "batch_seconds": {
            "batches": len(durations),
            "median": percentile(durations, 0.5),
            "p95": percentile(durations, 0.95),
        },
        "truncated": everything.jobs >= queries.TOTALS_LIMIT,
    }


class _Sum:
    """Of some jobs; ten thousand are added one by one, so it counts and does no more."""

    def __init__(self) -> None:
        self.jobs = self.requests = self.unpriced_jobs = 0
        self.cost = self.standard = 0.0
        self.outcomes: Counter[str] = Counter()

    def add(self, outline: shapes.Outline) -> None:
        self.jobs += 1
        counts = outline.counts
        self.requests += counts.total
        for outcome in shapes.OUTCOMES:
            self.outcomes[outcome] += getattr(counts, outcome)
        money = outline.cost
        if money is None or money.total_usd is None:
            self.unpriced_jobs += 1
            return
        self.cost += money.total_usd
        self.standard += money.total_usd if money.standard_usd is None else money.standard_usd

    def __add__(self, other: _Sum) -> _Sum:
        both = _Sum()
        for name in ("jobs", "requests", "unpriced_jobs", "cost", "standard", "outcomes"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def view(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "requests": self.requests,
            "succeeded": self.outcomes["succeeded"],
            "cost_usd": self.cost,
            "saved_usd": self.standard - self.cost,
            "unpriced_jobs": self.unpriced_jobs,
        }


def _durations(outline: shapes.Outline) -> list[float]:
    return [
        (batch.ended_at - batch.created_at).total_seconds()
        for batch in outline.batches
        if batch.created_at and batch.ended_at
    ]


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that at least this share of all values does not exceed."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
