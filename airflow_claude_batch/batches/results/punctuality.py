"""What the summary says of how requests were answered, and whether that was in time."""

from __future__ import annotations

import datetime
from typing import Any

from airflow_claude_batch.batches.cost.spending import PICO, Spending
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part


def by_way(ledger: Ledger) -> dict[str, Any]:
    """How many requests were delivered from where, and what single calls have cost more than batches.

    Args:
        ledger: Of a job all of whose parts are delivered.
    """
    ways: dict[str, dict[str, Any]] = {}
    extra: int | None = 0
    for part in ledger.parts:
        if part.split or part.delivery is None:
            continue
        way = ways.setdefault(_way_of(part), {"requests": 0, "cost_usd": 0.0})
        tally = part.delivery.tally
        way["requests"] += tally.delivered
        for spending in tally.spending:
            way["cost_usd"] = _sum(way["cost_usd"], spending.paid_pico)
            more = _more_than_a_batch(spending)
            extra = None if more is None or extra is None else extra + more
    return {"ways": ways, "direct_extra_usd": None if extra is None else extra / PICO}


def punctuality(ledger: Ledger, now: datetime.datetime) -> dict[str, Any]:
    """The deadline, and whether the delivery has kept it; all null where there is none.

    Args:
        ledger: Of the job.
        now: When the delivery was complete.
    """
    on_time = ledger.on_time
    if on_time is None:
        return {"deadline": None, "on_time": None}
    return {
        "deadline": on_time.at.isoformat(),
        "on_time": now <= on_time.at,
        "without_batches": on_time.chosen,
        "without_batches_since": on_time.began_at.isoformat() if on_time.began_at else None,
        "without_batches_reason": on_time.reason or None,
    }


def _way_of(part: Part) -> str:
    return "rejected" if part.rejected else part.way


def _sum(usd: float | None, pico: int | None) -> float | None:
    return None if usd is None or pico is None else usd + pico / PICO


def _more_than_a_batch(spending: Spending) -> int | None:
    if spending.paid_pico is None or spending.batch_pico is None:
        return None
    return spending.paid_pico - spending.batch_pico
