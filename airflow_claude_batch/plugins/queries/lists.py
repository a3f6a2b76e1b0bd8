"""Lists of jobs, filtered, a page at a time.

A job is *in flight* while its run is active, its task has not failed, and its results are not delivered.
A summary is of the job that it names if that is of the same run and map index: no DAG speaks for another's.

Semi joins on JSON are written as ``CASE WHEN … IN (…)``. A bare ``IN`` lets PostgreSQL, which knows nothing
of the distribution of what lies in JSON, take nested loops; ``IN (…) IS TRUE`` makes SQLite, which then has
to tell false from NULL, read all of the right side for each row that is not in it.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import ColumnElement, Select, Text, and_, case, cast, func, not_, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_claude_batch.common.xcoms import HANDLE_KEY, SUMMARY, XCOM_KEY
from airflow_claude_batch.plugins.queries.rows import (
    ACTIVE_RUN,
    ENDED_BADLY,
    SUBMITTING,
    Announced,
    AnnouncedJob,
    Stamp,
    Submitting,
    Summarised,
    TaskKey,
)
from airflow_claude_batch.plugins.statements import BatchIds, Due, IfJson, JobName, Succeeded, Total, run

_DELIVERED = ("delivered", "partial")
"""Results that no job in flight has."""
_PRIMARY_KEY = (Announced.dag_run_id, Announced.task_id, Announced.map_index, Announced.key)


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """Which jobs a list holds."""

    dag_ids: Collection[str]
    """Those that the user may read, or fewer; none means no job."""
    in_flight: bool | None = None
    result: str | None = None
    """``delivered`` (every request succeeded), ``partial``, or ``failed`` (nothing, or no results)."""
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    search: str = ""
    """A batch id, or a part of a run, DAG or task id."""
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    by_deadline: bool = False
    """The soonest first: what the author wants, or what the API gives."""


def announcing_dag_ids(session: Session, permitted: Collection[str]) -> set[str]:
    """Those of the DAGs that have jobs."""
    rows = run(session, select(XComModel.dag_id).where(XComModel.key == XCOM_KEY).distinct())
    return set(rows.scalars()) & set(permitted)


def list_jobs(
    session: Session, wanted: JobFilter, *, limit: int, offset: int = 0
) -> tuple[list[AnnouncedJob], int]:
    """One page of jobs in their order, newest first by default, and how many there are on all pages."""
    # Sorting takes all of them anyway, so counting them costs no query of its own. The announcements'
    # values are read for the page only.
    rank: Any = Due(Announced.value, Announced.timestamp) if wanted.by_deadline else Announced.timestamp

    def order(ranks: Any) -> Any:
        return ranks.asc() if wanted.by_deadline else ranks.desc()

    page = (
        _jobs(select(*_PRIMARY_KEY, rank.label("rank"), func.count().over().label("total")), wanted)
        .order_by(order(rank), *_PRIMARY_KEY)
        .limit(limit)
        .offset(offset)
        .subquery()
    )
    value: Any = aliased(XComModel, name="value")
    rows = run(
        session,
        select(*_columns(value), page.c.total)
        .select_from(page)
        .join(value, and_(*(getattr(value, column.key) == page.c[column.key] for column in _PRIMARY_KEY)))
        .join(DagRun, DagRun.id == value.dag_run_id)
        .order_by(order(page.c.rank), page.c.dag_run_id, page.c.task_id, page.c.map_index),
    ).all()
    jobs = [AnnouncedJob(TaskKey(*row[:4]), *row[4:-1]) for row in rows]
    if not rows and offset:
        return jobs, list_jobs(session, wanted, limit=1)[1]
    return jobs, rows[0].total if rows else 0


def _columns(announced: Any) -> list[Any]:
    """Those of an :class:`AnnouncedJob`."""
    key = [getattr(announced, name) for name in TaskKey._fields]
    return [*key, announced.dag_run_id, announced.timestamp, cast(announced.value, Text), DagRun.state]


def announced_job(session: Session, key: TaskKey) -> AnnouncedJob | None:
    """The job that a task instance submitted."""
    wanted = JobFilter(dag_ids=[key.dag_id], run_id=key.run_id, task_id=key.task_id, map_index=key.map_index)
    return next(iter(list_jobs(session, wanted, limit=1)[0]), None)


def announced_jobs(session: Session, wanted: Collection[Stamp]) -> list[AnnouncedJob]:
    """The jobs of these announcements, the newest first."""
    if not wanted:
        return []
    rows = run(
        session,
        select(*_columns(Announced))
        .join(DagRun, DagRun.id == Announced.dag_run_id)
        .where(
            Announced.key == XCOM_KEY,
            Announced.dag_run_id.in_({one.dag_run_id for one in wanted}),
            Announced.task_id.in_({one.task_id for one in wanted}),
            Announced.map_index.in_({one.map_index for one in wanted}),
        )
        .order_by(Announced.timestamp.desc()),
    )
    places = {(one.dag_run_id, one.task_id, one.map_index) for one in wanted}
    jobs = [AnnouncedJob(TaskKey(*row[:4]), *row[4:]) for row in rows]
    return [job for job in jobs if (job.dag_run_id, job.key.task_id, job.key.map_index) in places]


def _jobs(columns: Select[Any], wanted: JobFilter) -> Select[Any]:
    """Announcements that a filter lets through."""
    statement = columns.select_from(Announced).where(
        Announced.key == XCOM_KEY, Announced.dag_id.in_(wanted.dag_ids)
    )
    for column in ("run_id", "task_id", "map_index"):
        if (value := getattr(wanted, column)) is not None:
            statement = statement.where(getattr(Announced, column) == value)
    if wanted.since:
        statement = statement.where(Announced.timestamp >= wanted.since)
    if wanted.until:
        statement = statement.where(Announced.timestamp < wanted.until)
    if wanted.search:
        statement = statement.where(_matches(wanted.search, wanted.dag_ids))
    if wanted.in_flight:
        statement = _in_flight(statement, wanted.dag_ids)
    elif wanted.in_flight is False and wanted.result not in _DELIVERED:
        # Those in flight are few: the others are told from them, not each looked at.
        in_flight = _in_flight(select(*_PRIMARY_KEY).where(Announced.key == XCOM_KEY), wanted.dag_ids)
        found = tuple_(*_PRIMARY_KEY).in_(in_flight.correlate(None))
        statement = statement.where(case((found, 1), else_=0) == 0)
    if wanted.result:
        statement = statement.where(_has_result(wanted))
    return statement


def _matches(search: str, dag_ids: Collection[str]) -> ColumnElement[bool]:
    if search.startswith("msgbatch"):
        # Batches of later rounds are named by the tasks that came after the one that announced the job.
        naming = (
            Summarised.key.in_((HANDLE_KEY, SUMMARY)),
            Summarised.dag_id.in_(dag_ids),
            _names_batch(Summarised, search),
        )
        # Few runs have one, so JSON is read for few: CASE keeps the order.
        near = select(Summarised.dag_run_id, Summarised.map_index).where(*naming)
        named = case(
            (_names_batch(Announced, search), 1),
            (tuple_(Announced.dag_run_id, Announced.map_index).not_in(near), 0),
            (_announced_in(_named_jobs().where(*naming)), 1),
            else_=0,
        )
        return named == 1
    return or_(
        *(
            column.icontains(search, autoescape=True)
            for column in (Announced.run_id, Announced.dag_id, Announced.task_id)
        )
    )


def _in_flight(announcements: Select[Any], dag_ids: Collection[str]) -> Select[Any]:
    """Those of the announcements whose jobs are in flight; read from the active runs on."""
    active = select(DagRun.id).where(DagRun.state.in_(ACTIVE_RUN), DagRun.dag_id.in_(dag_ids))
    # The delivered jobs of active runs are few and are found once. A subquery per job would read all of a
    # run's XComs for each of its mapped tasks.
    delivered = _named_jobs().where(Summarised.dag_run_id.in_(active), Summarised.key == SUMMARY)
    return announcements.join(Submitting, SUBMITTING).where(
        Announced.dag_run_id.in_(active),
        func.coalesce(Submitting.state, "").not_in(ENDED_BADLY),
        not_(_announced_in(delivered)),
    )


def _has_result(wanted: JobFilter) -> ColumnElement[bool]:
    # Compared as text: who wrote "abc" where a number belongs must not break a cast for everybody.
    value = Summarised.value
    total, succeeded = func.coalesce(Total(value), ""), func.coalesce(Succeeded(value), "0")
    jobs = _named_jobs().where(Summarised.key == SUMMARY, Summarised.dag_id.in_(wanted.dag_ids))
    if wanted.result == "delivered":
        return _announced_in(jobs.where(IfJson(value, succeeded == total)))
    if wanted.result == "partial":
        return _announced_in(jobs.where(IfJson(value, and_(succeeded != total, succeeded != "0"))))
    return not_(_announced_in(jobs.where(IfJson(value, or_(succeeded != "0", total == "0")))))


def _named_jobs() -> Select[Any]:
    """Which jobs XComs name, each as run, map index and job."""
    return select(Summarised.dag_run_id, Summarised.map_index, _job_of(Summarised, missing="")).select_from(
        Summarised
    )


def _job_of(xcom: Any, *, missing: str) -> ColumnElement[str]:
    return func.coalesce(IfJson(xcom.value, JobName(xcom.value)), missing)


def _names_batch(xcom: Any, search: str) -> ColumnElement[bool]:
    return IfJson(xcom.value, BatchIds(xcom.value).contains(search, autoescape=True))


def _announced_in(jobs: Select[Any]) -> ColumnElement[bool]:
    announced = tuple_(Announced.dag_run_id, Announced.map_index, _job_of(Announced, missing="-"))
    found = announced.in_(jobs)
    return case((found, 1), else_=0) == 1
