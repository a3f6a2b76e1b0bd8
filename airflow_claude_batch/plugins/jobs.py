"""Jobs as the page shows them: announcements joined with what their runs' other tasks said and are doing.

Tasks are joined to a job by its URL. What names no job (a task that has not looked at its batches yet)
belongs to the only job of its run and map index, if it is a task of this package, and to none where there are
several. A summary always names its job.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from airflow_claude_batch.batches.api.client import BATCH_LIFETIME
from airflow_claude_batch.common import xcoms
from airflow_claude_batch.links.urls import console_url, folder_url
from airflow_claude_batch.plugins import shapes
from airflow_claude_batch.plugins.queries import details
from airflow_claude_batch.plugins.queries.rows import AnnouncedJob, JobValue, TaskKey, TaskState

FIRST_BATCHES = 20
"""Batches that come with a job's details; the others are asked for by page."""

_ACTIVE = frozenset({"queued", "running", "restarting"})
_FAILED = frozenset({"failed", "upstream_failed"})
_ENDED_BADLY = _FAILED | {"skipped", "removed"}
_OURS = ("ClaudeBatch", "@task.claude_batch")


@dataclass(kw_only=True)
class Job:
    """One job, and all that is known about it."""

    row: AnnouncedJob
    announcement: shapes.Announcement
    tasks: list[TaskState] = field(default_factory=list)
    summary: shapes.Summary | None = None
    delivered_at: datetime.datetime | None = None
    progress: shapes.Progress | None = None
    going_direct: shapes.GoingDirect | None = None
    estimate: shapes.Money | None = None
    cancellation: shapes.Cancellation | None = None
    resubmitted: list[str] = field(default_factory=list)
    """Batches that a later task has added to those announced."""
    unreadable: list[str] = field(default_factory=list)
    """Keys of XComs of this job that have another form than ours."""

    @property
    def batch_ids(self) -> list[str]:
        """All batches of the job that are known."""
        delivered = self.summary.batch_ids if self.summary else []
        return list(dict.fromkeys([*self.announcement.batch_ids, *self.resubmitted, *delivered]))

    @property
    def in_flight(self) -> bool:
        """Whether its run is still at it; the same rule as the queries'."""
        submitting = next((task.state for task in self.tasks if task.key == self.row.key), None)
        over = self.summary is not None or xcoms.SUMMARY in self.unreadable
        return self.row.run_state in _ACTIVE and submitting not in _ENDED_BADLY and not over

    @property
    def deadline(self) -> datetime.datetime | None:
        """When the API gives up; None before anything was sent."""
        submitted = self.announcement.submitted_at
        known = self.progress.deadline if self.progress else None
        return known or (submitted + BATCH_LIFETIME if submitted else None)

    @property
    def due(self) -> datetime.datetime | None:
        """When its author wants the results; None where that was not said."""
        said = [one.deadline for one in (self.summary, self.announcement) if one is not None]
        return next((due for one in said if (due := shapes.moment(one)) is not None), None)

    def is_late(self, now: datetime.datetime) -> bool:
        """Whether the results came, or are still to come, after that."""
        if self.summary is not None and isinstance(self.summary.on_time, bool):
            return not self.summary.on_time
        ended = self.delivered_at or (now if self.in_flight else None)
        return self.due is not None and ended is not None and ended > self.due

    @property
    def state(self) -> str:
        """In one word, where the job stands."""
        if self.unreadable:
            return "unreadable"
        if self.summary is not None:
            counts = self.summary.counts
            if counts.succeeded == counts.total:
                return "delivered"
            return "partial" if counts.succeeded else "failed"
        if any(task.state in _FAILED for task in self.tasks):
            return "failed"
        if not self.in_flight:
            return "failed" if self.row.run_state == "failed" else "unattended"
        return self._state_in_flight()

    def _state_in_flight(self) -> str:
        states = {task.key.task_id: task.state for task in self.tasks}
        if not self.batch_ids or self.announcement.pause is not None:
            paused = self.announcement.pause is not None and states.get(self.row.key.task_id) == "deferred"
            return "paused" if paused else "submitting"
        if self.batches_ended >= len(self.batch_ids):
            return "delivering"
        return "canceling" if self.cancellation or (self.progress and self.progress.canceling) else "waiting"

    @property
    def batches_ended(self) -> int:
        """Batches that were seen to end."""
        if self.summary is not None:
            return len(self.batch_ids)
        if self.progress is None:
            return 0
        # The last wait is for some of the batches only, once a round has followed another.
        return max(len(self.batch_ids) - (self.progress.batches - self.progress.ended), 0)

    @property
    def can_cancel(self) -> bool:
        """Whether there may be something left to cancel."""
        return self.summary is None and self.batches_ended < len(self.batch_ids)


def load(session: Session, rows: Iterable[AnnouncedJob]) -> list[Job]:
    """Complete a page of jobs: two more queries, however many there are."""
    rows = list(rows)
    if not rows:
        return []
    values = details.job_values(session, rows)
    states = details.task_states(
        session, rows, {row.key.task_id for row in rows} | {v.key.task_id for v in values}
    )
    values_of: dict[tuple[str, str, int], list[JobValue]] = defaultdict(list)
    states_of: dict[tuple[str, str, int], list[TaskState]] = defaultdict(list)
    for value in values:
        values_of[_place(value.key)].append(value)
    for state in states:
        states_of[_place(state.key)].append(state)
    return [_join(row, values_of[_place(row.key)], states_of[_place(row.key)]) for row in rows]


def _place(key: TaskKey) -> tuple[str, str, int]:
    return key.dag_id, key.run_id, key.map_index


def _join(row: AnnouncedJob, values: list[JobValue], states: list[TaskState]) -> Job:
    announcement = shapes.read(shapes.Announcement, row.value)
    job = Job(row=row, announcement=announcement or shapes.Announcement())
    if announcement is None:
        job.unreadable.append(xcoms.XCOM_KEY)
    alone = sum(value.name == xcoms.XCOM_KEY for value in values) == 1
    ours = {state.key for state in states if state.operator.startswith(_OURS)} | {row.key}
    owners: dict[str, bool] = {row.key.task_id: True}
    for value in sorted(values, key=lambda value: value.timestamp):
        owner = shapes.owner(value.value)
        if not owner and value.key not in ours:
            continue
        # A summary always names its job.
        nameless = alone and (owner == shapes.UNKNOWN or value.name != xcoms.SUMMARY)
        mine = value.key == row.key or (owner == job.announcement.job if owner else nameless)
        owners[value.key.task_id] = owners.get(value.key.task_id, False) or mine
        if mine and value.name != xcoms.XCOM_KEY:
            _take(job, value)
    job.tasks = sorted(
        (state for state in states if owners.get(state.key.task_id, alone and state.key in ours)),
        key=lambda task: (
            task.key != row.key,
            task.start_date is None,
            str(task.start_date),
            task.key.task_id,
        ),
    )
    return job


_SHAPES: dict[str, tuple[str, type[msgspec.Struct]]] = {
    xcoms.SUMMARY: ("summary", shapes.Summary),
    xcoms.PROGRESS: ("progress", shapes.Progress),
    xcoms.HANDLE_KEY: ("resubmitted", shapes.Handle),
    xcoms.GOING_DIRECT: ("going_direct", shapes.GoingDirect),
    xcoms.ESTIMATE: ("estimate", shapes.Money),
    xcoms.CANCELED: ("cancellation", shapes.Cancellation),
}


def _take(job: Job, value: JobValue) -> None:
    name, shape = _SHAPES[value.name]
    found = shapes.read(shape, value.value)
    if found is None:
        job.unreadable.append(value.name)
        return
    setattr(job, name, found.batch_ids if isinstance(found, shapes.Handle) else found)
    if value.name == xcoms.SUMMARY:
        job.delivered_at = value.timestamp


def as_row(job: Job) -> dict[str, Any]:
    """A job in a list."""
    announcement, summary = job.announcement, job.summary
    view: dict[str, Any] = {
        **job.row.key._asdict(),
        "state": job.state,
        "in_flight": job.in_flight,
        "model": announcement.model,
        "requests": announcement.request_count if summary is None else summary.counts.total,
        "batches": len(job.batch_ids),
        "batches_ended": job.batches_ended,
        "announced_at": job.row.announced_at,
        "submitted_at": announcement.submitted_at,
        "deadline": job.deadline,
        "due": job.due,
        "late": job.is_late(datetime.datetime.now(datetime.UTC)),
        "going_direct": _going_direct(job),
        "tags": shapes.tags(summary.tags if summary else None) or shapes.tags(announcement.tags),
        "delivered_at": job.delivered_at,
        "pause": announcement.pause,
        "paid_before": announcement.paid_before,
        "unreadable": job.unreadable,
        "cancellation": job.cancellation,
        "estimate": job.estimate,
        "tasks": [
            {
                **task.key._asdict(),
                "state": task.state,
                "operator": task.operator,
                "try_number": task.try_number,
                "started_at": task.start_date,
                "ended_at": task.end_date,
            }
            for task in job.tasks
        ],
    }
    if summary is not None:
        view |= {
            "counts": summary.counts,
            "usage": summary.usage,
            "cache_hit_rate": cache_hit_rate(summary.usage),
            "cost": summary.cost,
            "main_error": _main_error(summary),
            "warnings": len(summary.warnings),
            **_ways(summary),
        }
    return plain(view)


def _going_direct(job: Job) -> dict[str, int | None] | None:
    """How far the single calls of a late job are; None where there are none, or where they are over."""
    told = job.going_direct
    if told is None or not job.in_flight:
        return None
    return {"answered": told.answered, "requests": told.requests}


def _ways(summary: shapes.Summary) -> dict[str, Any]:
    """How requests were answered, where another way than a batch is known of."""
    return {
        "direct": shapes.answered_by(summary.ways, "direct"),
        "direct_extra_usd": shapes.dollars(summary.direct_extra_usd),
        "reused": shapes.natural(summary.reused),
        "saved_by_reuse_usd": shapes.dollars(summary.saved_by_reuse_usd),
    }


def _main_error(summary: shapes.Summary) -> dict[str, Any] | None:
    """What most requests without success met."""
    kind = max(summary.errors, key=lambda kind: summary.errors[kind], default=None)
    return None if kind is None else {"type": kind, "count": summary.errors[kind]}


def as_details(job: Job) -> dict[str, Any]:
    """A job by itself."""
    announcement, summary = job.announcement, job.summary
    view = as_row(job) | {
        "job": announcement.job,
        "conn_id": announcement.conn_id,
        "can_cancel": job.can_cancel,
        "batch_list": batch_page(job, state=None, limit=FIRST_BATCHES, offset=0)["batches"],
    }
    if summary is not None:
        view |= {
            "rounds": summary.rounds,
            "errors": [
                {"type": kind, "count": count, "sample": summary.error_samples.get(kind)}
                for kind, count in sorted(summary.errors.items(), key=lambda item: -item[1])
            ],
            "stop_reasons": summary.stop_reasons,
            "empty": summary.empty,
            "warning_texts": summary.warnings,
            "paths": [
                {"name": name, "path": path, "url": _folder_url(path)}
                for name, path in (
                    ("Succeeded", summary.succeeded_path),
                    ("Errored", summary.errored_path),
                    ("Summary", summary.summary_path),
                )
                if path
            ],
        }
    return plain(view)


def _folder_url(path: str) -> str | None:
    try:
        return folder_url(path.removesuffix("/summary.json"))
    except ValueError:  # no URL at all, such as "s3://[bad"
        return None


def batch_page(job: Job, *, state: str | None, limit: int, offset: int) -> dict[str, Any]:
    """Some of a job's batches, and how many there are.

    Args:
        job: Whose.
        state: ``ended``, ``open``, or None for all.
        limit: How many.
        offset: From which on.
    """
    known = {batch.id: batch for batch in job.summary.batches} if job.summary else {}
    found = [known.get(batch_id) or shapes.Batch(id=batch_id) for batch_id in job.batch_ids]
    ended = [batch for batch in found if batch.ended_at is not None]
    wanted = {"ended": ended, "open": [batch for batch in found if batch.ended_at is None]}.get(
        state or "", found
    )
    page = wanted[offset : offset + limit]
    return plain(
        {
            "batches": [
                {**msgspec.structs.asdict(batch), "console_url": console_url(batch.id)} for batch in page
            ],
            "total": len(wanted),
            "all": len(found),
            "ended": len(ended),
        }
    )


def cache_hit_rate(usage: shapes.Usage) -> float | None:
    """Share of the input that was read from the prompt cache; None where nothing was sent."""
    sent = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    return usage.cache_read_input_tokens / sent if sent else None


def plain(view: dict[str, Any]) -> dict[str, Any]:
    """As JSON knows it: times as ISO 8601, structs as objects."""
    value: dict[str, Any] = msgspec.to_builtins(view)
    return value
