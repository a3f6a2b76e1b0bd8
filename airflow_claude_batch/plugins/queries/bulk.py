"""What all jobs of some days have come to, for sums and for what is usual.

Sums of ten thousand jobs are asked for every minute, and few of the jobs have changed since: so the database
is asked what blocks of jobs come to, and then for the values of those only that are not known yet.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Collection, Iterator
from typing import Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import Text, and_, cast, func, literal_column, or_, select
from sqlalchemy.orm import Session

from airflow_claude_batch.common.xcoms import ESTIMATE, SUMMARY, XCOM_KEY
from airflow_claude_batch.plugins.queries.rows import (
    ACTIVE_RUN,
    ENDED_BADLY,
    SUBMITTING,
    Announced,
    Block,
    BlockValue,
    Contents,
    Estimate,
    Submitting,
    Summarised,
)
from airflow_claude_batch.plugins.statements import Microseconds, run

HISTORY_LIMIT = 50_000
"""Jobs that sums are made of, newest first."""
DELIVERIES_LIMIT = 1_000
"""Of those that say what is usual."""
ESTIMATES_LIMIT = 2_000
"""Runs whose jobs' estimates are read at once."""

RUNS = 100
"""Of a block: a change of one job lets those of so many runs of its DAG be read again."""
INDEXES = 1_000
"""And so many of a mapped task."""
MOST_RANGES = 15
"""Of runs that one query names; more are read as one, with what lies between them."""

_KEYS = (XCOM_KEY, SUMMARY)
_FIRST_RUN: Any = XComModel.dag_run_id - XComModel.dag_run_id % literal_column(str(RUNS))
_FIRST_INDEX: Any = XComModel.map_index - XComModel.map_index % literal_column(str(INDEXES))


def deliveries(
    session: Session, dag_ids: Collection[str], since: datetime.datetime
) -> list[tuple[str, datetime.datetime, datetime.datetime]]:
    """DAG, submission and delivery of jobs since then, the newest :data:`DELIVERIES_LIMIT` first."""
    if not dag_ids:
        return []
    newest = (
        select(Summarised.dag_run_id, Summarised.map_index, Summarised.timestamp)
        .where(Summarised.key == SUMMARY, Summarised.dag_id.in_(dag_ids), Summarised.timestamp >= since)
        .order_by(Summarised.timestamp.desc())
        .limit(DELIVERIES_LIMIT)
        .subquery()
    )
    of_same = and_(Announced.dag_run_id == newest.c.dag_run_id, Announced.map_index == newest.c.map_index)
    rows = run(
        session,
        select(Announced.dag_id, Announced.timestamp, newest.c.timestamp)
        .join(newest, of_same)
        .where(Announced.key == XCOM_KEY)
        .order_by(newest.c.timestamp.desc()),
    )
    return [(dag_id, announced, delivered) for dag_id, announced, delivered in rows]


def blocks(session: Session, dag_ids: Collection[str], since: datetime.datetime) -> list[Block]:
    """Announcements and summaries since then; the newest :data:`HISTORY_LIMIT` jobs, or some more."""
    if not dag_ids:
        return []
    place = XComModel.dag_id, _FIRST_RUN, _FIRST_INDEX
    by_key: dict[str, dict[tuple[str, int, int], Contents]] = {}
    for key in _KEYS:  # of two keys at once, databases may read all others, too
        rows = run(
            session,
            select(
                *place,
                func.count(),
                func.max(XComModel.timestamp),
                func.sum(Microseconds(XComModel.timestamp)),
            )
            .where(XComModel.key == key, XComModel.dag_id.in_(dag_ids), XComModel.timestamp >= since)
            .group_by(*place),
        )
        by_key[key] = {row[:3]: Contents(*row[3:]) for row in map(tuple, rows)}
    none = Contents()
    all_blocks = [
        Block(*where, announced, by_key[SUMMARY].get(where, none))
        for where, announced in by_key[XCOM_KEY].items()
    ]
    all_blocks.sort(key=lambda block: block.announced.newest or since, reverse=True)
    before = itertools.accumulate((block.announced.number for block in all_blocks), initial=0)
    return [block for block, number in zip(all_blocks, before, strict=False) if number < HISTORY_LIMIT]


def block_values(
    session: Session, wanted: Collection[Block], since: datetime.datetime
) -> Iterator[BlockValue]:
    """Announcements and summaries since then of these blocks, oldest first, and of some others."""
    if not wanted:
        return
    firsts = sorted({block.first_run for block in wanted})
    ranges = [(first, first) for first in firsts] if len(firsts) <= MOST_RANGES else [(firsts[0], firsts[-1])]
    rows = run(
        session,
        select(
            XComModel.dag_id,
            _FIRST_RUN,
            _FIRST_INDEX,
            XComModel.key,
            XComModel.dag_run_id,
            XComModel.map_index,
            XComModel.task_id,
            XComModel.timestamp,
            cast(XComModel.value, Text),
        )
        .where(
            XComModel.key.in_(_KEYS),
            XComModel.dag_id.in_({block.dag_id for block in wanted}),
            XComModel.timestamp >= since,
            or_(*(XComModel.dag_run_id.between(first, last + RUNS - 1) for first, last in ranges)),
        )
        .order_by(XComModel.timestamp),
    )
    for row in rows:
        value = BlockValue(*row)
        # Of one zone's object, times are compared ten times as fast.
        yield value._replace(at=value.at.astimezone(datetime.UTC))


def unfinished(session: Session, dag_ids: Collection[str]) -> frozenset[tuple[int, int, str]]:
    """Jobs whose runs are still at it, delivered or not, each as run, map index and task."""
    if not dag_ids:
        return frozenset()
    # From the active runs on, which are few; read from the key on, each job's run would be looked up.
    active = select(DagRun.id).where(DagRun.state.in_(ACTIVE_RUN), DagRun.dag_id.in_(dag_ids))
    rows = run(
        session,
        select(Announced.dag_run_id, Announced.map_index, Announced.task_id)
        .join(Submitting, SUBMITTING)
        .where(
            Announced.key == XCOM_KEY,
            Announced.dag_run_id.in_(active),
            func.coalesce(Submitting.state, "").not_in(ENDED_BADLY),
        ),
    )
    return frozenset((run_id, map_index, task_id) for run_id, map_index, task_id in rows)


def estimates(session: Session, dag_run_ids: Collection[int]) -> list[Estimate]:
    """What the jobs of these runs were estimated to cost."""
    rows = run(
        session,
        select(
            XComModel.dag_run_id,
            XComModel.map_index,
            XComModel.task_id,
            cast(XComModel.value, Text),
        ).where(XComModel.key == ESTIMATE, XComModel.dag_run_id.in_(sorted(dag_run_ids)[-ESTIMATES_LIMIT:])),
    )
    return [Estimate(*row) for row in rows]


def next_runs(
    session: Session, dag_ids: Collection[str], until: datetime.datetime
) -> list[tuple[str, datetime.datetime]]:
    """When the next run of each DAG that has one until then begins."""
    if not dag_ids:
        return []
    rows = run(
        session,
        select(DagModel.dag_id, DagModel.next_dagrun_create_after).where(
            DagModel.dag_id.in_(dag_ids),
            DagModel.is_paused.is_(False),
            DagModel.is_stale.is_(False),
            DagModel.next_dagrun_create_after < until,
        ),
    )
    return [(dag_id, at) for dag_id, at in rows]
