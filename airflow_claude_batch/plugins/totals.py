"""Sums over the delivered jobs of the last days: cost and saving by day and DAG, outcomes, durations."""

from __future__ import annotations

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
    first = today - datetime.timedelta(days=DAYS - 1)
    since = datetime.datetime.combine(first, datetime.time(), zone).astimezone(datetime.UTC)
    outcomes: Counter[str] = Counter()
    by_day: defaultdict[tuple[str, str], _Sum] = defaultdict(_Sum)
    everything, last_day = _Sum(), _Sum()
    durations: list[float] = []
    for dag_id, at, text in queries.summaries(session, dag_ids, since):
        outline = shapes.read(shapes.Outline, text)
        if outline is None:
            continue
        day = at.astimezone(zone).date().isoformat()
        sums = [everything, by_day[day, dag_id]]
        if at >= now - datetime.timedelta(hours=24):
            sums.append(last_day)
        for one in sums:
            one.add(outline)
        for outcome in shapes.OUTCOMES:
            outcomes[outcome] += getattr(outline.counts, outcome)
        durations += _durations(outline)
    return {
        "days": [(first + datetime.timedelta(days=number)).isoformat() for number in range(DAYS)],
        "by_day": [
            {"day": day, "dag_id": dag_id, **one.view()} for (day, dag_id), one in sorted(by_day.items())
        ],
        "outcomes": dict(outcomes),
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
    def __init__(self) -> None:
        self.jobs = self.requests = self.succeeded = self.unpriced_jobs = 0
        self.cost = self.standard = 0.0

    def add(self, outline: shapes.Outline) -> None:
        self.jobs += 1
        self.requests += outline.counts.total
        self.succeeded += outline.counts.succeeded
        money = outline.cost
        if money is None or money.total_usd is None:
            self.unpriced_jobs += 1
            return
        self.cost += money.total_usd
        self.standard += money.total_usd if money.standard_usd is None else money.standard_usd

    def view(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "requests": self.requests,
            "succeeded": self.succeeded,
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
