"""Jobs as the tasks of this package leave them in Airflow's database, thousands in a second."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.types import DagRunType
from sqlalchemy import String, delete, func, insert, select
from uuid6 import uuid7

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

BUNDLE = "seeded"
PAGE_REQUESTS = (
    "jobs?view=in_flight",
    "jobs?view=recent",
    "jobs?view=recent&offset=9900",
    "jobs?view=recent&result=delivered",
    "jobs?view=recent&result=partial",
    "jobs?view=recent&result=failed",
    "jobs?view=recent&dag_id=score_leads&result=failed",
    "jobs?view=recent&q=seeded-00500",
    "jobs?view=recent&q=msgbatch_nightly_report_00500",
    "totals",
    "attention",
    "schedule",
    "dags",
)
"""What the page asks for, the costly searches included, once ten thousand jobs are there."""
TASKS = {
    "submit": "ClaudeBatchSubmitOperator",
    "wait": "ClaudeBatchSensor",
    "results": "ClaudeBatchResultsOperator",
}


@dataclass(kw_only=True)
class Seed:
    """One job: what became of it, and when."""

    dag_id: str = "nightly_report"
    number: int = 1
    stage: str = "delivered"
    """delivered, waiting, paused, submitting, refused (nothing was submitted), lost (the wait failed)."""
    age: datetime.timedelta = datetime.timedelta(hours=1)
    requests: int = 200
    batches: int = 1
    failed: dict[str, int] | None = None
    """Requests by outcome other than succeeded."""
    errors: dict[str, int] | None = None
    warnings: tuple[str, ...] = ()
    """What its delivery warned of."""
    empty: int = 0
    """Empty answers."""
    map_index: int = -1
    run: int | None = None
    """Number of the run, when several jobs share one."""

    @property
    def run_id(self) -> str:
        return f"scheduled__seeded-{self.run if self.run is not None else self.number:05}"

    @property
    def job(self) -> str:
        folder = f"file:///claude_batch/jobs/{self.dag_id}/{self.run_id}/submit"
        return folder if self.map_index < 0 else f"{folder}/{self.map_index}"

    @property
    def batch_ids(self) -> list[str]:
        return [f"msgbatch_{self.dag_id}_{self.number:05}_{part:02}" for part in range(self.batches)]


def seed(session: Session, seeds: Sequence[Seed], now: datetime.datetime | None = None) -> None:
    """Write these jobs as finished or running DAG runs with task instances and XComs."""
    now = now or datetime.datetime.now(datetime.UTC)
    known = set(session.scalars(select(DagModel.dag_id)))
    if session.scalar(select(DagBundleModel.name).where(DagBundleModel.name == BUNDLE)) is None:
        session.execute(insert(DagBundleModel.__table__).values(name=BUNDLE, active=True))
    for dag_id in {one.dag_id for one in seeds} - known:
        row = {
            "dag_id": dag_id, "bundle_name": BUNDLE, "is_paused": False, "is_stale": False,
            "fileloc": "seeded.py", "relative_fileloc": "seeded.py", "max_active_tasks": 16,
            "max_consecutive_failed_dag_runs": 0, "has_task_concurrency_limits": False,
            "timetable_type": "NullTimetable", "fail_fast": False, "timetable_partitioned": False,
            "timetable_periodic": False, "exceeds_max_non_backfill": False, "has_import_errors": False,
        }  # fmt: skip
        session.execute(insert(DagModel.__table__).values(**_known(DagModel, row)))
    first = (session.scalar(select(func.max(DagRun.id))) or 0) + 1
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    instances, xcoms = [], []
    for one in seeds:
        place = (one.dag_id, one.run_id)
        if place not in runs:
            runs[place] = _run(one, first + len(runs), now)
        instances += list(_instances(one, now))
        xcoms += list(_xcoms(one, runs[place]["id"], now))
    for model, rows in ((DagRun, list(runs.values())), (TaskInstance, instances), (XComModel, xcoms)):
        for start in range(0, len(rows), 1000):
            some = [_known(model, row) for row in rows[start : start + 1000]]
            session.execute(insert(model.__table__), some)
    session.commit()


def add_xcom(session: Session, one: Seed, task_id: str, key: str, value: Any) -> None:
    """Write one more XCom of a task of a seeded job."""
    run = select(DagRun.id).where(DagRun.dag_id == one.dag_id, DagRun.run_id == one.run_id)
    place = {
        "dag_id": one.dag_id,
        "run_id": one.run_id,
        "task_id": task_id,
        "dag_run_id": session.scalar(run),
    }
    session.add(XComModel(key=key, value=value, map_index=one.map_index, **place))
    session.commit()


def _known(model: Any, row: dict[str, Any]) -> dict[str, Any]:
    """The row as this version of Airflow has it: 3.1 lacks some columns, and its UUIDs are text."""
    columns = model.__table__.columns
    return {
        name: str(value) if isinstance(columns[name].type, String) and isinstance(value, UUID) else value
        for name, value in row.items()
        if name in columns
    }


def wipe(session: Session) -> None:
    """Remove everything that was seeded."""
    for model in (XComModel, TaskInstance, DagRun, DagModel):
        session.execute(delete(model.__table__))
    session.commit()


def many(count: int, *, in_flight: int = 6, dags: int = 5, days: int = 30) -> list[Seed]:
    """A month of an installation's life: mostly delivered jobs, some with failures, the newest in flight."""
    names = ["nightly_report", "classify_tickets", "extract_invoices", "translate_catalogue", "score_leads"]
    draw = random.Random(7)
    seeds = []
    for number in range(count):
        dag_id = names[number % min(dags, len(names))]
        requests = draw.choice([200, 1_500, 12_000, 100_000, 240_000])
        trouble = draw.random() < 0.35
        errored = draw.choice([requests // 200, requests // 40]) if trouble else 0
        expired = draw.choice([0, 0, requests // 80]) if trouble else 0
        invalid = draw.choice([0, 0, requests // 150]) if trouble else 0
        failed = {"errored": errored, "expired": expired, "invalid": invalid}
        errors = {
            "invalid_request_error": errored // 3,
            "overloaded_error": errored - errored // 3,
            "expired": expired,
            "invalid": invalid,
        }
        stage = "delivered"
        if number < in_flight:
            stage = ["waiting", "waiting", "paused", "submitting", "waiting", "waiting"][number % 6]
        elif draw.random() < 0.03:
            stage = draw.choice(["refused", "lost"])
        age = datetime.timedelta(days=days) * (number / max(count, 1)) + datetime.timedelta(minutes=7)
        seeds.append(
            Seed(
                dag_id=dag_id, number=number, stage=stage, age=age, requests=requests,
                batches=max(1, -(-requests // 100_000)), failed=failed, errors=errors,
            )
        )  # fmt: skip
    return seeds


def _run(one: Seed, number: int, now: datetime.datetime) -> dict[str, Any]:
    state = {"delivered": "success", "refused": "failed", "lost": "failed"}.get(one.stage, "running")
    start = now - one.age
    return {
        "id": number, "dag_id": one.dag_id, "run_id": one.run_id, "state": state,
        "run_type": DagRunType.SCHEDULED, "logical_date": None, "run_after": start, "start_date": start,
        "queued_at": start, "end_date": None if state == "running" else start + datetime.timedelta(hours=1),
        "log_template_id": None, "clear_number": 0, "span_status": "not_started",
    }  # fmt: skip


MESSAGES = {
    "invalid_request_error": "messages.0.content.1.image: image exceeds 10 MB maximum",
    "overloaded_error": "Overloaded",
}
STATES = {
    "delivered": ("success", "success", "success"),
    "waiting": ("success", "deferred", None),
    "paused": ("deferred", None, None),
    "submitting": ("running", None, None),
    "refused": ("failed", "upstream_failed", "upstream_failed"),
    "lost": ("success", "failed", "upstream_failed"),
}


def _instances(one: Seed, now: datetime.datetime) -> Iterator[dict[str, Any]]:
    start = now - one.age
    for number, ((task_id, operator), state) in enumerate(zip(TASKS.items(), STATES[one.stage], strict=True)):
        later = datetime.timedelta(seconds=number)
        started = state in ("success", "failed", "running", "deferred")
        yield {
            "id": uuid7(), "dag_id": one.dag_id, "run_id": one.run_id, "task_id": task_id,
            "map_index": one.map_index, "state": state, "operator": operator, "try_number": int(started),
            "max_tries": 2, "pool": "default_pool", "pool_slots": 1, "queue": "default",
            "priority_weight": 1, "start_date": start + later if started else None, "end_date": None,
            "span_status": "not_started",
        }  # fmt: skip


def _xcoms(one: Seed, dag_run_id: int, now: datetime.datetime) -> Iterator[dict[str, Any]]:
    start = now - one.age

    def xcom(task_id: str, key: str, value: Any, at: datetime.datetime) -> dict[str, Any]:
        return {
            "dag_run_id": dag_run_id, "dag_id": one.dag_id, "run_id": one.run_id, "task_id": task_id,
            "map_index": one.map_index, "key": key, "value": msgspec.to_builtins(value), "timestamp": at,
        }  # fmt: skip

    announcement: dict[str, Any] = {
        "version": 1, "conn_id": "anthropic_default", "model": "claude-haiku-4-5", "batch_ids": [],
    }  # fmt: skip
    sent = one.stage in ("delivered", "waiting", "lost")
    if one.stage != "submitting" and one.stage != "refused":
        announcement |= {
            "job": one.job,
            "batch_ids": one.batch_ids if sent else [],
            "request_count": one.requests,
            "submitted_at": start if sent else None,
        }
    if one.stage == "paused":
        until = now + datetime.timedelta(minutes=9)
        announcement["pause"] = {"reason": "The processing queue is full", "until": until}
    yield xcom("submit", "claude_batch", announcement, start)
    cost = one.requests * 0.00042
    money = {"total_usd": cost, "standard_usd": cost * 2, "saved_usd": cost}
    if one.stage != "submitting" and one.stage != "refused":
        yield xcom("submit", "estimate", money, start)
    if sent:
        ended = one.batches if one.stage == "delivered" else one.batches // 2
        progress = {
            "batches": one.batches, "ended": ended, "canceling": 0, "waiting_since": start,
            "deadline": None if one.stage == "delivered" else start + datetime.timedelta(hours=24),
        }  # fmt: skip
        yield xcom("wait", "progress", progress, start)
    if one.stage == "delivered":
        minutes = 6 + one.number * 13 % 95
        end = start + datetime.timedelta(minutes=minutes)
        yield xcom("results", "summary", _summary(one, money, start, end), end)


def _summary(
    one: Seed, money: dict[str, float], start: datetime.datetime, end: datetime.datetime
) -> dict[str, Any]:
    counts = {"succeeded": 0, "errored": 0, "expired": 0, "canceled": 0, "invalid": 0, "missing": 0}
    counts |= one.failed or {}
    counts["succeeded"] = one.requests - sum(counts.values())
    output = f"s3://aws_default@company-data/{one.dag_id}/{one.run_id}"
    errors = {kind: number for kind, number in (one.errors or {}).items() if number}
    return {
        "version": 1, "job": one.job, "batch_ids": one.batch_ids,
        "counts": {"total": one.requests, **counts},
        "errors": errors,
        "error_samples": {
            kind: {"message": MESSAGES[kind], "request_id": "req_011CSeeded"}
            for kind in errors
            if kind in MESSAGES
        },
        "stop_reasons": {"end_turn": counts["succeeded"]},
        "warnings": list(one.warnings),
        "empty": one.empty,
        "usage": {
            "input_tokens": one.requests * 410, "output_tokens": one.requests * 120,
            "cache_creation_input_tokens": one.requests * 9, "cache_read_input_tokens": one.requests * 600,
        },
        "cost": money,
        "rounds": 1,
        "batches": [
            {"id": batch_id, "round": 0, "created_at": start, "ended_at": end - datetime.timedelta(minutes=1)}
            for batch_id in one.batch_ids
        ],
        "succeeded_path": f"{output}/succeeded", "errored_path": f"{output}/errored",
        "summary_path": f"{output}/summary.json",
    }  # fmt: skip
