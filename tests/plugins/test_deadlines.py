"""Deadlines, tags, ways of answering, days and next runs, as the page's API tells them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.seeding import Seed, add_xcom, seed
from tests.plugins.test_totals import COST, HOUR, change, kinds

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAY = 24 * HOUR


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def rows(ask: Any, view: str, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask("jobs", view=view, **query)["jobs"]
    return found


def test_what_is_due_soonest_comes_first(ask: Any, session: Session) -> None:
    seeds = [Seed(number=number, stage="waiting", age=number * HOUR) for number in (1, 2, 3)]
    seed(session, seeds)
    change(session, seeds[0], "claude_batch", deadline=(now() + HOUR).isoformat())
    found = rows(ask, "in_flight")
    assert [job["run_id"][-1] for job in found] == ["1", "3", "2"]
    assert [job["due"] is None for job in found] == [False, True, True]


def test_who_is_late_is_marked_counted_and_needs_attention(ask: Any, session: Session) -> None:
    flying, came_late, in_time = (
        Seed(number=1, stage="waiting", age=3 * HOUR),
        Seed(number=2, age=5 * HOUR),
        Seed(number=3, age=5 * HOUR),
    )
    seed(session, [flying, came_late, in_time])
    change(session, flying, "claude_batch", deadline=(now() - HOUR).isoformat())
    change(session, came_late, "summary", deadline=(now() - 4 * HOUR).isoformat(), on_time=False)
    change(session, in_time, "summary", deadline=(now() - 4 * HOUR).isoformat(), on_time=True)
    assert [job["late"] for job in rows(ask, "in_flight")] == [True]
    late = {job["run_id"][-1]: job["late"] for job in rows(ask, "recent")}
    assert late == {"2": True, "3": False}
    assert kinds(ask) == ["late"]
    [job] = ask("attention")["jobs"]
    assert "were wanted 1 h 0 min ago" in job["reason"]["text"]
    assert job["reason"]["values"]["span"]["seconds"] == pytest.approx(3600, abs=60)
    assert ask("totals")["all"]["late"] == 2


@pytest.mark.parametrize(
    "odd", ["soon", 17, None, "9999-12-31T23:59:59Z", ["x"], {"a": 1}, "0001-01-01T00:00:00"]
)
def test_a_deadline_of_another_form_is_none(ask: Any, session: Session, odd: Any) -> None:
    one, other = Seed(number=1, stage="waiting"), Seed(number=2)
    seed(session, [one, other])
    change(session, one, "claude_batch", deadline=odd, tags=odd)
    change(session, other, "summary", deadline=odd, tags=odd, reused=odd, ways=odd, on_time=odd)
    for job in rows(ask, "in_flight") + rows(ask, "recent"):
        assert (job["due"], job["late"], job["state"] != "unreadable") == (None, False, True)
    assert ask("totals")["all"]["late"] == 0


def test_tags_and_ways_are_told_where_they_are_known(ask: Any, session: Session) -> None:
    one, plain = Seed(number=1), Seed(number=2)
    seed(session, [one, plain])
    change(
        session,
        one,
        "summary",
        tags={"team": "growth", "odd": 5},
        ways={"batch": {"requests": 90, "cost_usd": 0.1}, "direct": {"requests": 10, "cost_usd": 0.2}},
        direct_extra_usd=0.1,
        reused=100,
        saved_by_reuse_usd=0.5,
    )
    found = {job["run_id"][-1]: job for job in rows(ask, "recent")}
    assert found["1"]["tags"] == {"team": "growth"}
    assert (found["1"]["direct"], found["1"]["direct_extra_usd"], found["1"]["reused"]) == (10, 0.1, 100)
    assert (found["2"]["tags"], found["2"]["direct"], found["2"]["reused"]) == ({}, None, None)
    totals = ask("totals")["all"]
    assert (totals["reused"], totals["saved_by_reuse_usd"]) == (100, 0.5)


def test_a_late_job_that_is_asked_by_single_calls_says_so_until_it_is_delivered(
    ask: Any, session: Session
) -> None:
    begun, counted, over = Seed(number=1, stage="waiting"), Seed(number=2, stage="waiting"), Seed(number=3)
    seed(session, [begun, counted, over, Seed(number=4, stage="waiting")])
    for one, told in (
        (begun, {"answered": 0, "requests": None}),
        (counted, {"answered": 40, "requests": 100}),
        (over, {"answered": 90, "requests": 100}),
    ):
        add_xcom(session, one, "results", "going_direct", {"job": one.job, **told})
    shown = {job["run_id"][-1]: job["going_direct"] for job in rows(ask, "in_flight") + rows(ask, "recent")}
    assert shown == {
        "1": {"answered": 0, "requests": None},
        "2": {"answered": 40, "requests": 100},
        "3": None,
        "4": None,
    }


def test_what_to_do_about_a_late_job_is_another_thing_once_it_goes_direct(ask: Any, session: Session) -> None:
    begun, still = (Seed(number=number, stage="waiting", age=3 * HOUR) for number in (1, 2))
    seed(session, [begun, still])
    for one in (begun, still):
        change(session, one, "claude_batch", deadline=(now() - HOUR).isoformat())
    add_xcom(session, begun, "wait", "going_direct", {"job": begun.job, "answered": 4, "requests": 100})
    advice = {job["run_id"][-1]: job["reason"]["advice"] for job in ask("attention")["jobs"]}
    assert advice["1"].startswith("It goes on by single calls")
    assert advice["2"].startswith("See how far its batches are")


def test_jobs_of_a_day_of_the_users_zone(ask: Any, session: Session) -> None:
    seed(session, [Seed(number=number, age=number * HOUR) for number in range(1, 60)])
    totals = ask("totals", tz="Asia/Tokyo")
    for row in totals["by_day"]:
        page = ask("jobs", view="recent", day=row["day"], tz="Asia/Tokyo", limit=1)
        assert page["total"] == row["jobs"]
    assert ask("jobs", view="recent", day="9999-12-31")["total"] == 0


def schedule(session: Session, dag_id: str, at: datetime.datetime | None, **changes: Any) -> None:
    from airflow.models.dag import DagModel

    dag = session.get(DagModel, dag_id)
    assert dag is not None
    dag.next_dagrun_create_after = at
    for name, value in changes.items():
        setattr(dag, name, value)
    session.commit()


def test_the_next_runs_cost_what_such_runs_usually_cost(ask: Any, session: Session) -> None:
    names = ("nightly", "hourly", "paused", "by_asset", "next_week", "unpriced")
    seeds = [
        Seed(dag_id=dag_id, number=10 * place + n, age=n * (HOUR if dag_id == "hourly" else DAY))
        for place, dag_id in enumerate(names)
        for n in range(1, 8)
    ]
    seed(session, [*seeds, Seed(dag_id="nightly", number=90, run=3, map_index=1, age=3 * DAY)])
    for one in seeds[-7:]:
        change(session, one, "summary", cost=None)
    for dag_id in names:
        schedule(session, dag_id, now() + HOUR / 2)
    schedule(session, "paused", now() + HOUR, is_paused=True)
    schedule(session, "by_asset", None)
    schedule(session, "next_week", now() + 7 * DAY)
    found = ask("schedule")
    assert [(row["dag_id"], row["runs"]) for row in found["rows"]] == [
        ("hourly", 24),
        ("nightly", 1),
        ("unpriced", 1),
    ]
    assert [row["usd"] for row in found["rows"][:2]] == [pytest.approx(24 * COST), pytest.approx(COST)]
    assert (found["rows"][2]["usd"], found["unknown"], found["runs"]) == (None, 1, 26)
    assert found["usd"] == pytest.approx(25 * COST)
    assert ask("schedule", dag_id="nightly")["rows"][0]["dag_id"] == "nightly"
