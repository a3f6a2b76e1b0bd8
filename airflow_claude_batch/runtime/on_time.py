"""From what the author wrote about the deadline to a moment, and to what the ledger keeps."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pendulum

from airflow_claude_batch.batches.direct.call import beta_of_batches
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.on_time import OnTime

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.options import Budget

Deadline = datetime.time | datetime.timedelta | datetime.datetime


def moment_of(deadline: Deadline, context: Context) -> datetime.datetime:
    """When a job is needed.

    Args:
        deadline: A time of day, the first one after the run's start by the DAG's time zone (where a clock is
            put back, the first of the two hours); a span from the run's start; or a moment, in the DAG's time
            zone where it names none.
        context: Airflow's.

    Raises:
        ConfigurationError: Where that is beyond all dates.
    """
    try:
        return _moment_of(deadline, context)
    except (OverflowError, ValueError):  # of a year before 1, or after 9999
        raise ConfigurationError(
            f"deadline is {deadline}, which no date can hold. Nothing was sent; name one that comes."
        ) from None


def _moment_of(deadline: Deadline, context: Context) -> datetime.datetime:
    zone: Any = getattr(context.get("dag"), "timezone", None) or pendulum.UTC
    start = getattr(context.get("dag_run"), "start_date", None) or datetime.datetime.now(datetime.UTC)
    if isinstance(deadline, datetime.timedelta):
        return _utc(start) + deadline
    if isinstance(deadline, datetime.datetime):
        return _utc(deadline if deadline.tzinfo else _in_zone(deadline, zone))
    return _utc(_next(deadline, pendulum.instance(start).in_timezone(zone)))


def _next(time: datetime.time, start: pendulum.DateTime) -> pendulum.DateTime:
    """The first such time of day after a moment. One that a clock skips comes as much later as it skips."""
    zone = start.timezone or pendulum.UTC
    for days in range(3):
        day = start.date().add(days=days)
        at = (day.year, day.month, day.day, time.hour, time.minute, time.second)
        found = [pendulum.datetime(*at, tz=zone, fold=fold) for fold in (0, 1)]
        shown = [moment for moment in found if (moment.hour, moment.minute) == (time.hour, time.minute)]
        for moment in shown or found[1:]:
            if _utc(moment) > _utc(start):  # within one zone Python compares what clocks show
                return moment
    raise AssertionError("a time of day comes every day")


def _in_zone(moment: datetime.datetime, zone: Any) -> datetime.datetime:
    """When clocks show that there, the first time. One that a clock skips comes as much later as it skips."""
    # Not pendulum.instance: what a clock skips it takes as much too early.
    shown = datetime.datetime.combine(moment.date(), moment.time())
    return shown.replace(tzinfo=zone, fold=moment.fold)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    # Not astimezone: a sum of pendulum's forgets a zone that is none of its own.
    return datetime.datetime.fromtimestamp(moment.timestamp(), datetime.UTC)


def note_deadline(
    job: Job,
    context: Context,
    *,
    deadline: Deadline | None,
    then: str,
    minutes: float | None,
    budget: Budget,
) -> None:
    """Write the deadline into the ledger, where sensor and results step find it.

    A retry has the same one; after a clear it counts from the new start. What has begun goes on. One that was
    missed before a clear, and is no other after it, holds no more.
    """
    known, past = job.ledger.on_time, job.ledger.past_deadline
    if known is not None and known.began_at is not None:
        return
    wanted = None
    at = None if deadline is None else moment_of(deadline, context)
    if at is not None and (past is None or at > past):
        wanted = OnTime(
            at=at,
            then=then,  # type: ignore[arg-type]  # one of three words, as the arguments' check says
            minutes=minutes,
            max_usd=_dollars(budget.max_usd) if budget.per == "job" else None,
            direct_max_usd=_dollars(budget.direct_max_usd),
        )
    if wanted != known:
        with job.change() as ledger:
            ledger.on_time = wanted


def _dollars(value: Any) -> float | None:
    return None if value is None else float(value)


def check_direct(
    betas: list[str], *, direct_below: int, trial: bool, deadline: Deadline | None, then: str
) -> None:
    """Refuse single calls for requests that only batches take.

    Raises:
        ConfigurationError: Where they would be made.
    """
    only_batches = beta_of_batches(betas)
    ways_out = {
        "direct_below": "leave it out" if direct_below else "",
        "trial": "set Trial(direct=False)" if trial else "",
        "deadline": "set on_deadline to 'deliver' or 'fail'" if deadline and then == "direct" else "",
    }
    for asked, way_out in ways_out.items():
        if only_batches and way_out:
            raise ConfigurationError(
                f"Nothing was sent: {asked} asks for single calls, and the beta {only_batches} exists in "
                f"batches only; {way_out}."
            )
