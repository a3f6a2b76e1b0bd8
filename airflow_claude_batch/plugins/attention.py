"""What a person on call should look at first, why, and what to do about it."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from airflow_claude_batch.plugins import history, jobs, shapes
from airflow_claude_batch.plugins.jobs import Job
from airflow_claude_batch.plugins.queries import bulk, lists
from airflow_claude_batch.plugins.queries.lists import JobFilter

IN_FLIGHT_LIMIT = 300
"""Jobs in flight that are looked at, those due soonest first."""
FAILED_LIMIT = 200
"""Jobs of the last day that went badly, the newest first."""
NEWEST_LIMIT = 50
SHOWN = 100
USUAL_DAYS = 30
TONIGHT = datetime.timedelta(hours=24)
STUCK = datetime.timedelta(minutes=30)
"""Storing and sending requests takes less."""
PAUSED = datetime.timedelta(hours=1)
MOSTLY_FAILED = 0.1


class Reason(NamedTuple):
    """Why a job needs attention; the first of :data:`KINDS` that applies."""

    kind: str
    says: str
    """A text, in which ``{name}`` stands for a value: the page has it in other languages, too."""
    advice: str
    values: Mapping[str, datetime.timedelta | int | str] = {}

    def view(self) -> dict[str, Any]:
        """As JSON: times as seconds, with the text in English."""
        texts = {name: _text(value) for name, value in self.values.items()}
        return {
            "kind": self.kind,
            "text": self.says.format(**texts),
            "says": self.says,
            "values": {name: _plain(value) for name, value in self.values.items()},
            "advice": self.advice,
        }


def _text(value: datetime.timedelta | int | str) -> str:
    if isinstance(value, datetime.timedelta):
        minutes = max(round(value.total_seconds() / 60), 0)
        return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
    return f"{value:,}" if isinstance(value, int) else value


def _plain(value: datetime.timedelta | int | str) -> dict[str, float | str]:
    if isinstance(value, datetime.timedelta):
        return {"seconds": max(value.total_seconds(), 0)}
    return {"count": value} if isinstance(value, int) else {"text": value}


KINDS = ("late", "overdue", "failed", "refused", "unreadable", "slow", "submitting", "paused", "partial")


def attention(session: Session, dag_ids: Collection[str], now: datetime.datetime) -> dict[str, Any]:
    """Jobs that need attention, the worst first, then the oldest."""
    waiting = JobFilter(dag_ids=dag_ids, in_flight=True, by_deadline=True)
    rows, in_flight = lists.list_jobs(session, waiting, limit=IN_FLIGHT_LIMIT)
    looked_at_all = in_flight <= IN_FLIGHT_LIMIT
    since = now - datetime.timedelta(days=USUAL_DAYS)
    usual = history.usual_seconds(bulk.deliveries(session, {row.key.dag_id for row in rows}, since))
    tonight = history.past_jobs(session, history.mark(session, dag_ids, now - TONIGHT))
    over = [past for past in reversed(tonight) if not past.in_flight]
    bad = [past.row for past in over if past.failed or past.unreadable or _mostly_failed(past.outcome)]
    # What else of a job cannot be read is seen among the newest.
    looked_at = dict.fromkeys(bad[:FAILED_LIMIT] + [past.row for past in over[:NEWEST_LIMIT]])
    rows += lists.announced_jobs(session, list(looked_at))
    looked_at_all &= len(bad) <= FAILED_LIMIT
    found = [
        (job, reason)
        for job in jobs.load(session, rows)
        if (reason := _reason(job, usual.get(job.row.key.dag_id), now)) is not None
    ]
    found.sort(key=lambda pair: (KINDS.index(pair[1].kind), pair[0].row.announced_at))
    return {
        "jobs": [jobs.as_row(job) | {"reason": reason.view()} for job, reason in found[:SHOWN]],
        "total": len(found),
        "looked_at_all": looked_at_all,
        "as_of": now.isoformat(),
    }


def _reason(job: Job, usual: tuple[float, float] | None, now: datetime.datetime) -> Reason | None:
    if job.unreadable:
        return Reason(
            "unreadable",
            "Its XCom {names} does not have the form that this package writes.",
            "Look at the XCom.",
            {"names": ", ".join(job.unreadable)},
        )
    return next(_in_flight(job, usual, now) if job.in_flight else _over(job), None)


def _in_flight(job: Job, usual: tuple[float, float] | None, now: datetime.datetime) -> Iterator[Reason]:
    since = job.announcement.submitted_at or job.row.announced_at
    age = now - since
    known = now - job.row.announced_at
    if job.due is not None and now > job.due:
        going_direct = "It goes on by single calls: nothing to do, unless their number stands still."
        look = "See how far its batches are; the log of the waiting task says what it does at the deadline."
        yield Reason(
            "late",
            "Its results were wanted {span} ago.",
            going_direct if job.going_direct else look,
            {"span": now - job.due},
        )
    if job.batch_ids and job.deadline is not None and now > job.deadline:
        yield Reason(
            "overdue",
            "Its deadline was {span} ago.",
            "See whether the triggerer runs, and what the log of the waiting task says.",
            {"span": now - job.deadline},
        )
    if job.state == "submitting" and job.going_direct is None and known > STUCK:
        yield Reason(
            "submitting",
            "It has been submitting for {span}.",
            "See the log of the task that submits.",
            {"span": known},
        )
    if job.state == "paused" and known > PAUSED:
        why = job.announcement.pause.reason if job.announcement.pause else ""
        yield Reason(
            "paused",
            "Submission has waited for {span}: {why}." if why else "Submission has waited for {span}.",
            "It goes on by itself; other jobs may fill the queue.",
            {"span": known, "why": why},
        )
    if usual is not None and job.batch_ids and age.total_seconds() > usual[1]:
        median, p95 = (datetime.timedelta(seconds=one) for one in usual)
        yield Reason(
            "slow",
            "It has waited {span}; {usual} is usual, and 95% take {most} at most.",
            "Claude may take up to 24 hours; its status page tells of trouble.",
            {"span": age, "usual": median, "most": p95},
        )


def _over(job: Job) -> Iterator[Reason]:
    summary = job.summary
    if job.state == "failed":
        if summary is not None:
            says = "None of {total} requests succeeded"
            yield _by_errors(job, "failed", says, {"total": summary.counts.total})
        elif not job.batch_ids:
            yield Reason(
                "refused",
                "It failed before anything was sent; nothing was paid.",
                "The log of the task says why: a budget, a limit, or its input.",
            )
        else:
            yield Reason(
                "failed",
                "A task failed, and no results were delivered; what was sent is paid.",
                "Clear the failed task: batches that are paid are taken up, not sent again.",
            )
    elif job.state == "unattended":
        yield Reason("failed", "The run ended without fetching results.", "Clear the task that fetches them.")
    elif summary is not None and _mostly_failed(summary):
        bad = summary.counts.total - summary.counts.succeeded
        says = "{bad} of {total} requests did not succeed"
        yield _by_errors(job, "partial", says, {"bad": bad, "total": summary.counts.total})


def _mostly_failed(outcome: shapes.Summary | shapes.Outline | None) -> bool:
    if outcome is None:
        return False
    counts = outcome.counts
    return counts.total - counts.succeeded > MOSTLY_FAILED * counts.total


def _by_errors(job: Job, kind: str, says: str, values: dict[str, int]) -> Reason:
    """A reason that ends with what most of the requests met."""
    errors = job.summary.errors if job.summary else {}
    worst = max(errors, key=lambda name: errors[name], default="")
    advice = {
        "invalid_request_error": "Mend the requests: sent again as they are, they fail again.",
        "invalid": "Look at the output schema, max_tokens and refusals.",
        "expired": "Claude had no capacity in time: clear the task, or send smaller jobs.",
        "canceled": "Somebody cancelled its batches.",
    }.get(worst, "Clear the task: what failed for a passing reason is sent again.")
    if not worst:
        return Reason(kind, f"{says}.", advice, values)
    sample = job.summary.error_samples.get(worst) if job.summary else None
    error = worst + (f", {sample.message[:200]!r}" if sample and sample.message else "")
    return Reason(kind, f"{says}: {{error}}.", advice, {**values, "error": error})
