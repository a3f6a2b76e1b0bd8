"""The page's only look at Airflow's metadata database.

Airflow's models are no public interface: everything that names them stands here. Each query starts from
the index on XCom keys or from runs that a page of jobs names, and has a limit.

A job is *in flight* while its run is active, its task has not failed, and its results are not delivered.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import ColumnElement, Select, Text, and_, cast, func, not_, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_claude_batch.plugins.shapes import ANNOUNCEMENT, CANCELED, HANDLE, JOB_KEYS, SUMMARY

TOTALS_LIMIT = 50_000
"""Summaries that totals are made of, newest first."""

_ACTIVE_RUN = ("queued", "running", "restarting")
_ENDED_BADLY = ("failed", "upstream_failed", "skipped", "removed")

Announced: Any = aliased(XComModel, name="announced")
Summarised: Any = aliased(XComModel, name="summarised")
Submitting: Any = aliased(TaskInstance, name="submitting")

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


class TaskKey(NamedTuple):
    """One task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


class AnnouncedJob(NamedTuple):
    """One row of a list of jobs."""

    key: TaskKey
    dag_run_id: int
    announced_at: datetime.datetime
    value: str
    run_state: str | None


class TaskState(NamedTuple):
    """State of one task instance."""

    key: TaskKey
    state: str | None
    operator: str
    try_number: int
    start_date: datetime.datetime | None
    end_date: datetime.datetime | None


class JobValue(NamedTuple):
    """An XCom that belongs to a job."""

    key: TaskKey
    name: str
    value: str
    timestamp: datetime.datetime


def announcing_dag_ids(session: Session) -> set[str]:
    """DAGs that have jobs."""
    return set(session.scalars(select(XComModel.dag_id).where(XComModel.key == ANNOUNCEMENT).distinct()))


def list_jobs(
    session: Session, wanted: JobFilter, *, limit: int, offset: int = 0
) -> tuple[list[AnnouncedJob], int]:
    """One page of jobs, newest first, and how many there are on all pages."""
    # Sorting takes all of them anyway, so counting them costs no query of its own. The announcements'
    # values are read for the page only.
    page = (
        _jobs(
            select(*_PRIMARY_KEY, Announced.timestamp, func.count().over().label("total")),
            wanted,
        )
        .order_by(Announced.timestamp.desc(), *_PRIMARY_KEY)
        .limit(limit)
        .offset(offset)
        .subquery()
    )
    value: Any = aliased(XComModel, name="value")
    rows = session.execute(
        select(
            value.dag_id,
            value.run_id,
            value.task_id,
            value.map_index,
            value.dag_run_id,
            value.timestamp,
            cast(value.value, Text),
            DagRun.state,
            page.c.total,
        )
        .select_from(page)
        .join(value, and_(*(getattr(value, column.key) == page.c[column.key] for column in _PRIMARY_KEY)))
        .join(DagRun, DagRun.id == value.dag_run_id)
        .order_by(page.c.timestamp.desc(), page.c.dag_run_id, page.c.task_id, page.c.map_index)
    ).all()
    jobs = [AnnouncedJob(TaskKey(*row[:4]), *row[4:-1]) for row in rows]
    if not rows and offset:
        return jobs, list_jobs(session, wanted, limit=1)[1]
    return jobs, rows[0].total if rows else 0


def announced_job(session: Session, key: TaskKey) -> AnnouncedJob | None:
    """The job that a task instance submitted."""
    wanted = JobFilter(dag_ids=[key.dag_id], run_id=key.run_id, task_id=key.task_id, map_index=key.map_index)
    return next(iter(list_jobs(session, wanted, limit=1)[0]), None)


def job_values(session: Session, jobs: Iterable[AnnouncedJob]) -> list[JobValue]:
    """What all tasks of these jobs' runs have said about jobs."""
    jobs = list(jobs)
    rows = session.execute(
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            cast(XComModel.value, Text),
            XComModel.timestamp,
        ).where(
            XComModel.dag_run_id.in_({job.dag_run_id for job in jobs}),
            XComModel.map_index.in_({job.key.map_index for job in jobs}),
            XComModel.key.in_(JOB_KEYS),
        )
    )
    return [JobValue(TaskKey(*row[:4]), *row[4:]) for row in rows]


def task_states(session: Session, jobs: Iterable[AnnouncedJob], task_ids: Collection[str]) -> list[TaskState]:
    """Task instances of these jobs' runs that are of this package, or that have these task ids."""
    jobs = list(jobs)
    operator = func.coalesce(TaskInstance.custom_operator_name, TaskInstance.operator)
    rows = session.execute(
        select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            operator,
            TaskInstance.try_number,
            TaskInstance.start_date,
            TaskInstance.end_date,
        ).where(
            tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(
                {(job.key.dag_id, job.key.run_id) for job in jobs}
            ),
            TaskInstance.map_index.in_({job.key.map_index for job in jobs}),
            or_(
                TaskInstance.task_id.in_(task_ids),
                TaskInstance.operator.like("ClaudeBatch%"),
                TaskInstance.custom_operator_name.like("@task.claude_batch%"),
            ),
        )
    )
    return [TaskState(TaskKey(*row[:4]), *row[4:]) for row in rows]


def summaries(
    session: Session, dag_ids: Collection[str], since: datetime.datetime
) -> Iterable[tuple[str, datetime.datetime, str]]:
    """DAG, time and text of each summary since then, in no order; the newest :data:`TOTALS_LIMIT` of them."""
    if not dag_ids:
        return ()
    wanted = (XComModel.key == SUMMARY, XComModel.dag_id.in_(dag_ids), XComModel.timestamp >= since)
    # Sorting times is quick, sorting whole summaries is not: it takes longer than all the rest.
    times = select(XComModel.timestamp).where(*wanted).order_by(XComModel.timestamp.desc())
    first = times.offset(TOTALS_LIMIT - 1).limit(1).scalar_subquery()
    rows = session.execute(
        select(XComModel.dag_id, XComModel.timestamp, cast(XComModel.value, Text)).where(
            *wanted, XComModel.timestamp >= func.coalesce(first, since)
        )
    )
    return rows.tuples()


def named_elsewhere(session: Session, batch_ids: Iterable[str], dag_id: str) -> set[str]:
    """Which of these batches jobs of other DAGs have announced, or submitted in a later round."""
    rows = session.scalars(
        select(cast(XComModel.value, Text)).where(
            XComModel.key.in_((ANNOUNCEMENT, HANDLE)), XComModel.dag_id != dag_id
        )
    )
    wanted = set(batch_ids)
    found: set[str] = set()
    for text in rows:
        found |= {batch_id for batch_id in wanted - found if f'"{batch_id}"' in text}
    return found


def note_cancellation(session: Session, key: TaskKey, value: dict[str, Any]) -> None:
    """Write down, beside the job, who asked for its batches to be cancelled."""
    run = select(DagRun.id).where(DagRun.dag_id == key.dag_id, DagRun.run_id == key.run_id)
    session.merge(
        XComModel(
            key=CANCELED,
            value=value,
            dag_run_id=session.scalar(run),
            dag_id=key.dag_id,
            run_id=key.run_id,
            task_id=key.task_id,
            map_index=key.map_index,
        )
    )


def _jobs(columns: Select[Any], wanted: JobFilter) -> Select[Any]:
    """Announcements that a filter lets through."""
    statement = (
        columns.select_from(Announced)
        .join(DagRun, DagRun.id == Announced.dag_run_id)
        .where(Announced.key == ANNOUNCEMENT, Announced.dag_id.in_(wanted.dag_ids))
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
    if wanted.in_flight is not None:
        in_flight = _in_flight(wanted.dag_ids)
        statement = statement.join(
            Submitting,
            and_(
                Submitting.dag_id == Announced.dag_id,
                Submitting.task_id == Announced.task_id,
                Submitting.run_id == Announced.run_id,
                Submitting.map_index == Announced.map_index,
            ),
        ).where(in_flight if wanted.in_flight else not_(in_flight))
    if wanted.result:
        statement = statement.where(_has_result(wanted))
    return statement


def _matches(search: str, dag_ids: Collection[str]) -> ColumnElement[bool]:
    if search.startswith("msgbatch"):
        # Batches of later rounds are named by the tasks that came after the one that announced the job.
        later = select(func.coalesce(_job_of(Summarised), "")).where(
            Summarised.key.in_((HANDLE, SUMMARY)),
            Summarised.dag_id.in_(dag_ids),
            cast(Summarised.value, Text).contains(search, autoescape=True),
        )
        return or_(
            cast(Announced.value, Text).contains(search, autoescape=True),
            func.coalesce(_job_of(Announced), "-").in_(later),
        )
    return or_(
        *(
            column.icontains(search, autoescape=True)
            for column in (Announced.run_id, Announced.dag_id, Announced.task_id)
        )
    )


def _in_flight(dag_ids: Collection[str]) -> ColumnElement[bool]:
    # The delivered jobs of active runs are few and are found once. A subquery per job would read all of a
    # run's XComs for each of its mapped tasks.
    run = aliased(DagRun, name="summarised_run")
    delivered = (
        select(func.coalesce(_job_of(Summarised), ""))
        .join(run, run.id == Summarised.dag_run_id)
        .where(run.state.in_(_ACTIVE_RUN), run.dag_id.in_(dag_ids), Summarised.key == SUMMARY)
    )
    return and_(
        DagRun.state.in_(_ACTIVE_RUN),
        func.coalesce(Submitting.state, "").not_in(_ENDED_BADLY),
        func.coalesce(_job_of(Announced), "-").not_in(delivered),
    )


def _has_result(wanted: JobFilter) -> ColumnElement[bool]:
    total = Summarised.value["counts"]["total"].as_integer()
    succeeded = Summarised.value["counts"]["succeeded"].as_integer()
    jobs = select(func.coalesce(_job_of(Summarised), "")).where(
        Summarised.key == SUMMARY, Summarised.dag_id.in_(wanted.dag_ids)
    )
    job = func.coalesce(_job_of(Announced), "-")
    if wanted.result == "delivered":
        return job.in_(jobs.where(succeeded == total))
    if wanted.result == "partial":
        return job.in_(jobs.where(succeeded < total, succeeded > 0))
    return job.not_in(jobs.where(or_(succeeded > 0, total == 0)))


def _job_of(value: Any) -> Any:
    return value.value["job"].as_string()
