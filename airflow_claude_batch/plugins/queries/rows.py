"""What the queries return, and the tables that several of them start from."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_
from sqlalchemy.orm import aliased

ACTIVE_RUN = ("queued", "running", "restarting")
ENDED_BADLY = ("failed", "upstream_failed", "skipped", "removed")

Announced: Any = aliased(XComModel, name="announced")
Summarised: Any = aliased(XComModel, name="summarised")
Submitting: Any = aliased(TaskInstance, name="submitting")

SUBMITTING = and_(
    Submitting.dag_id == Announced.dag_id,
    Submitting.task_id == Announced.task_id,
    Submitting.run_id == Announced.run_id,
    Submitting.map_index == Announced.map_index,
)
"""The task instance that announced a job."""


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


class Stamp(NamedTuple):
    """Where and when an XCom of a job was written."""

    dag_run_id: int
    map_index: int
    task_id: str
    dag_id: str
    at: datetime.datetime


class Block(NamedTuple):
    """XComs of neighbouring runs of a DAG.

    Equal ones hold equal values: Airflow writes each value with a new time, which need not be the newest, as
    servers' clocks differ.
    """

    dag_id: str
    first_run: int
    first_index: int
    announced: Contents
    summarised: Contents


class Contents(NamedTuple):
    """The XComs of a key."""

    number: int = 0
    newest: datetime.datetime | None = None
    microseconds: int = 0


class BlockValue(NamedTuple):
    """An XCom of a block."""

    dag_id: str
    first_run: int
    first_index: int
    key: str
    dag_run_id: int
    map_index: int
    task_id: str
    at: datetime.datetime
    value: str


class Estimate(NamedTuple):
    """What a job was estimated to cost."""

    dag_run_id: int
    map_index: int
    task_id: str
    value: str
