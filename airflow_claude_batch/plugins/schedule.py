"""What the runs of the next hours will cost: each DAG's next runs, at what a run of it usually costs."""

from __future__ import annotations

import datetime
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy.orm import Session

from airflow_claude_batch.plugins.history import USUAL_OF, Past, mark, past_jobs, percentile
from airflow_claude_batch.plugins.queries import bulk

AHEAD = datetime.timedelta(hours=24)
PAST = datetime.timedelta(days=30)
SHORTEST_GAP = datetime.timedelta(minutes=1)


def expected(session: Session, dag_ids: Collection[str], now: datetime.datetime) -> dict[str, Any]:
    """Runs of the next :data:`AHEAD` of DAGs that had jobs in the last :data:`PAST`.

    A run is expected to cost the median of the DAG's last runs; how often it runs until then is told from the
    gaps between those. DAGs that are paused, or wait for something else than a time, are left out.
    """
    next_runs = dict(bulk.next_runs(session, dag_ids, now + AHEAD))
    by_dag: defaultdict[str, list[Past]] = defaultdict(list)
    for past in past_jobs(session, mark(session, next_runs, now - PAST)):
        by_dag[past.row.dag_id].append(past)
    rows: list[dict[str, Any]] = []
    for dag_id in by_dag:
        at = next_runs[dag_id]
        cost, gap = _usual_run(by_dag[dag_id])
        left = max(now + AHEAD - max(at, now), datetime.timedelta())
        runs = 1 if gap is None else 1 + int(left / max(gap, SHORTEST_GAP))
        rows.append({"dag_id": dag_id, "at": at.isoformat(), "runs": runs, "usd": cost and cost * runs})
    rows.sort(key=lambda row: (-(row["usd"] or 0), row["dag_id"]))
    return {
        "rows": rows,
        "usd": sum(row["usd"] or 0 for row in rows),
        "runs": sum(row["runs"] for row in rows),
        "unknown": sum(row["usd"] is None for row in rows),
        "hours": AHEAD.total_seconds() / 3600,
    }


def _usual_run(history: Iterable[Past]) -> tuple[float | None, datetime.timedelta | None]:
    """What a run costs, and after what time the next one comes, by the median; None where not known."""
    costs: dict[int, float | None] = {}
    began: dict[int, datetime.datetime] = {}
    for past in history:
        run = past.row.dag_run_id
        began.setdefault(run, past.row.at)
        known, _ = past.cost
        cost = known if known is not None else past.estimate
        before = costs.get(run, 0.0)
        costs[run] = None if cost is None or before is None else before + cost
    last = sorted(began, key=lambda run: began[run])[-USUAL_OF:]
    known_costs = [cost for run in last if (cost := costs[run]) is not None]
    gaps = [(began[later] - began[one]).total_seconds() for one, later in itertools.pairwise(last)]
    return (
        percentile(known_costs, 0.5) if known_costs else None,
        datetime.timedelta(seconds=percentile(gaps, 0.5)) if gaps else None,
    )
