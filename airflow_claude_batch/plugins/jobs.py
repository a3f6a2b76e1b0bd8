"""Jobs as the page shows them: announcements joined with what their runs' other tasks said and are doing.

Tasks are joined to a job by its URL. What names no job (a task that has not looked at its batches yet)
belongs to the only job of its run and map index, and to none where there are several.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy.orm import Session

from airflow_claude_batch.links.urls import console_url, folder_url
from airflow_claude_batch.plugins import queries, shapes
from airflow_claude_batch.plugins.queries import AnnouncedJob, JobValue, TaskKey, TaskState

LIFETIME = datetime.timedelta(hours=24)
"""The API ends a batch after so long."""

_ACTIVE = frozenset({"queued", "running", "restarting"})
_FAILED = frozenset({"failed", "upstream_failed"})
_ENDED_BADLY = _FAILED | {"skipped", "removed"}


@dataclass(kw_only=True)
class Job:
    """One job, and all that is known about it."""

    row: AnnouncedJob
    announcement: shapes.Announcement
    tasks: list[TaskState] = field(default_factory=list)
    summary: shapes.Summary | None = None
    delivered_at: datetime.datetime | None = None
    progress: shapes.Progress | None = None
    estimate: shapes.Money | None = None
    cancellation: shapes.Cancellation | None = None
    resubmitted: list[str] = field(default_factory=list)
    """Batches that a later task has added to those announced."""

    @property
    def batch_ids(self) -> list[str]:
        """All batches of the job that are known."""
        delivered = self.summary.batch_ids if self.summary else []
        return list(dict.fromkeys([*self.announcement.batch_ids, *self.resubmitted, *delivered]))

    @property
    def in_flight(self) -> bool:
        """Whether its run is still at it; the same rule as the queries'."""
        submitting = next((task.state for task in self.tasks if task.key == self.row.key), None)
        return self.row.run_state in _ACTIVE and submitting not in _ENDED_BADLY and self.summary is None

    @property
    def state(self) -> str:
        """In one word, where the job stands."""
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
    values = queries.job_values(session, rows)
    states = queries.task_states(
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
    announcement = shapes.read(shapes.Announcement, row.value) or shapes.Announcement()
    job = Job(row=row, announcement=announcement)
    alone = sum(value.name == shapes.ANNOUNCEMENT for value in values) == 1
    owners: dict[str, bool] = {row.key.task_id: True}
    for value in sorted(values, key=lambda value: value.timestamp):
        owner = _owner(value)
        mine = value.key == row.key or (alone if owner is None else owner == announcement.job)
        owners[value.key.task_id] = owners.get(value.key.task_id, False) or mine
        if mine and value.name != shapes.ANNOUNCEMENT:
            _take(job, value)
    job.tasks = sorted(
        (state for state in states if owners.get(state.key.task_id, alone)),
        key=lambda task: (
            task.key != row.key,
            task.start_date is None,
            str(task.start_date),
            task.key.task_id,
        ),
    )
    return job


def _owner(value: JobValue) -> str | None:
    handle = shapes.read(shapes.Handle, value.value)
    return handle.job if handle else None


def _take(job: Job, value: JobValue) -> None:
    if value.name == shapes.SUMMARY and (summary := shapes.read(shapes.Summary, value.value)):
        job.summary, job.delivered_at = summary, value.timestamp
    elif value.name == shapes.PROGRESS:
        job.progress = shapes.read(shapes.Progress, value.value)
    elif value.name == shapes.HANDLE and (handle := shapes.read(shapes.Handle, value.value)):
        job.resubmitted = handle.batch_ids
    elif value.name == shapes.ESTIMATE:
        job.estimate = shapes.read(shapes.Money, value.value)
    elif value.name == shapes.CANCELED:
        job.cancellation = shapes.read(shapes.Cancellation, value.value)


def as_row(job: Job) -> dict[str, Any]:
    """A job in a list."""
    announcement, summary, progress = job.announcement, job.summary, job.progress
    submitted = announcement.submitted_at
    deadline = progress.deadline if progress else None
    view: dict[str, Any] = {
        **job.row.key._asdict(),
        "state": job.state,
        "in_flight": job.in_flight,
        "model": announcement.model,
        "requests": announcement.request_count if summary is None else summary.counts.total,
        "batches": len(job.batch_ids),
        "batches_ended": job.batches_ended,
        "announced_at": job.row.announced_at,
        "submitted_at": submitted,
        "deadline": deadline or (submitted + LIFETIME if submitted else None),
        "delivered_at": job.delivered_at,
        "pause": announcement.pause,
        "cancellation": job.cancellation,
        "estimate": job.estimate,
        "tasks": [
            {**task.key._asdict(), "state": task.state, "operator": task.operator} for task in job.tasks
        ],
    }
    if summary is not None:
        view |= {
            "counts": summary.counts,
            "usage": summary.usage,
            "cache_hit_rate": cache_hit_rate(summary.usage),
            "cost": summary.cost,
            "main_error": _main_error(summary),
        }
    return plain(view)


def _main_error(summary: shapes.Summary) -> dict[str, Any] | None:
    """What most requests without success met."""
    kind = max(summary.errors, key=lambda kind: summary.errors[kind], default=None)
    return None if kind is None else {"type": kind, "count": summary.errors[kind]}


def as_details(job: Job) -> dict[str, Any]:
    """A job by itself."""
    announcement, summary = job.announcement, job.summary
    known = {batch.id: batch for batch in summary.batches} if summary else {}
    view = as_row(job) | {
        "job": announcement.job,
        "conn_id": announcement.conn_id,
        "can_cancel": job.can_cancel,
        "batch_list": [
            {
                **msgspec.structs.asdict(known.get(batch_id) or shapes.Batch(id=batch_id)),
                "console_url": console_url(batch_id),
            }
            for batch_id in job.batch_ids
        ],
    }
    if summary is not None:
        view |= {
            "rounds": summary.rounds,
            "errors": [
                {"type": kind, "count": count, "sample": summary.error_samples.get(kind)}
                for kind, count in sorted(summary.errors.items(), key=lambda item: -item[1])
            ],
            "stop_reasons": summary.stop_reasons,
            "paths": [
                {"name": name, "path": path, "url": folder_url(path.removesuffix("/summary.json"))}
                for name, path in (
                    ("Succeeded", summary.succeeded_path),
                    ("Errored", summary.errored_path),
                    ("Summary", summary.summary_path),
                )
                if path
            ],
        }
    return plain(view)


def cache_hit_rate(usage: shapes.Usage) -> float | None:
    """Share of the input that was read from the prompt cache; None where nothing was sent."""
    sent = usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    return usage.cache_read_input_tokens / sent if sent else None


def plain(view: dict[str, Any]) -> dict[str, Any]:
    """As JSON knows it: times as ISO 8601, structs as objects."""
    value: dict[str, Any] = msgspec.to_builtins(view)
    return value
