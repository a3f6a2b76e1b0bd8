"""What the page's API tells about jobs, from what their tasks left in the database."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.seeding import Seed, add_xcom, many, seed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

HOUR = datetime.timedelta(hours=1)


def names(page: dict[str, Any]) -> list[str]:
    return [job["run_id"].removeprefix("scheduled__seeded-") for job in page["jobs"]]


def test_an_installation_without_jobs_has_empty_lists_and_zero_totals(ask: Any, session: Session) -> None:
    for view in ("in_flight", "recent"):
        assert ask("jobs", view=view) == {"jobs": [], "total": 0}
    totals = ask("totals")
    assert (totals["all"]["jobs"], len(totals["days"]), totals["batch_seconds"]["median"]) == (0, 30, None)


@pytest.mark.parametrize(
    ("stage", "view", "state"),
    [
        ("submitting", "in_flight", "submitting"),
        ("paused", "in_flight", "paused"),
        ("waiting", "in_flight", "waiting"),
        ("delivered", "recent", "delivered"),
        ("refused", "recent", "failed"),
        ("lost", "recent", "failed"),
    ],
)
def test_each_stage_of_a_job_has_a_state_and_a_list(
    ask: Any, session: Session, stage: str, view: str, state: str
) -> None:
    seed(session, [Seed(stage=stage)])
    other = {"in_flight": "recent", "recent": "in_flight"}[view]
    [job] = ask("jobs", view=view)["jobs"]
    assert job["state"] == state
    assert ask("jobs", view=other)["total"] == 0


def test_a_job_in_flight_shows_progress_deadline_estimate_and_its_tasks(ask: Any, session: Session) -> None:
    seed(session, [Seed(stage="waiting", batches=3, requests=240_000, age=2 * HOUR)])
    [job] = ask("jobs", view="in_flight")["jobs"]
    assert (job["batches_ended"], job["batches"], job["requests"]) == (1, 3, 240_000)
    submitted, deadline = map(datetime.datetime.fromisoformat, (job["submitted_at"], job["deadline"]))
    assert deadline - submitted == 24 * HOUR
    assert job["estimate"]["total_usd"] == pytest.approx(100.8)
    assert [(task["task_id"], task["state"]) for task in job["tasks"]] == [
        ("submit", "success"),
        ("wait", "deferred"),
        ("results", None),
    ]


def test_details_say_why_requests_failed_and_where_everything_is(ask: Any, session: Session) -> None:
    one = Seed(failed={"errored": 5, "expired": 2}, errors={"overloaded_error": 5, "expired": 2}, batches=2)
    seed(session, [one])
    job = ask("job", dag_id=one.dag_id, run_id=one.run_id, task_id="submit")
    assert job["state"] == "partial"
    assert job["counts"]["succeeded"] == 193
    assert [(error["type"], error["count"]) for error in job["errors"]] == [
        ("overloaded_error", 5),
        ("expired", 2),
    ]
    assert job["errors"][0]["sample"]["message"] == "Overloaded"
    assert [batch["id"] for batch in job["batch_list"]] == one.batch_ids
    assert job["batch_list"][0]["console_url"].endswith(f"/batches/{one.batch_ids[0]}")
    assert job["paths"][0]["url"].startswith(
        "https://s3.console.aws.amazon.com/s3/buckets/company-data?prefix="
    )
    assert job["cache_hit_rate"] == pytest.approx(600 / 1019)
    assert job["cost"]["saved_usd"] == pytest.approx(job["cost"]["standard_usd"] - job["cost"]["total_usd"])


def test_lists_page_newest_first_and_filters_narrow_them(ask: Any, session: Session) -> None:
    seeds = [
        Seed(number=1, age=HOUR),
        Seed(
            number=2, age=30 * HOUR, dag_id="score_leads", failed={"errored": 200}, errors={"api_error": 200}
        ),
        Seed(number=3, age=50 * HOUR, failed={"invalid": 1}),
        Seed(number=4, age=70 * HOUR, stage="lost"),
    ]
    seed(session, seeds)
    assert names(ask("jobs", view="recent")) == ["00001", "00002", "00003", "00004"]
    page = ask("jobs", view="recent", limit=2, offset=2)
    assert (names(page), page["total"]) == (["00003", "00004"], 4)
    assert names(ask("jobs", view="recent", dag_id="score_leads")) == ["00002"]
    assert names(ask("jobs", view="recent", result="delivered")) == ["00001"]
    assert names(ask("jobs", view="recent", result="partial")) == ["00003"]
    assert names(ask("jobs", view="recent", result="failed")) == ["00002", "00004"]
    since = (datetime.datetime.now(datetime.UTC) - 60 * HOUR).isoformat()
    assert names(ask("jobs", view="recent", since=since)) == ["00001", "00002", "00003"]
    assert names(ask("jobs", view="recent", q=seeds[2].batch_ids[0])) == ["00003"]
    assert names(ask("jobs", view="recent", q="SEEDED-00004")) == ["00004"]


def test_a_job_of_no_requests_has_not_failed(ask: Any, session: Session) -> None:
    seed(session, [Seed(requests=0)])
    assert ask("jobs", view="recent")["jobs"][0]["state"] == "delivered"
    assert ask("jobs", view="recent", result="delivered")["total"] == 1
    assert ask("jobs", view="recent", result="failed")["total"] == 0


def test_mapped_tasks_have_a_job_each(ask: Any, session: Session) -> None:
    seeds = [
        Seed(number=number, run=7, map_index=number, stage="waiting" if number == 2 else "delivered")
        for number in range(3)
    ]
    seed(session, seeds[:2])
    seed(session, [Seed(number=9, run=8, map_index=2, stage="waiting")])
    recent = ask("jobs", view="recent")["jobs"]
    assert sorted((job["map_index"], job["state"]) for job in recent) == [(0, "delivered"), (1, "delivered")]
    assert all({task["map_index"] for task in job["tasks"]} == {job["map_index"]} for job in recent)
    in_run = ask("run", dag_id="nightly_report", run_id=seeds[0].run_id)["jobs"]
    assert len(in_run) == 2
    [one] = ask("run", dag_id="nightly_report", run_id=seeds[0].run_id, task_id="results", map_index=1)[
        "jobs"
    ]
    assert one["batch_list"][0]["id"] == seeds[1].batch_ids[0]


def test_a_task_that_has_nothing_to_do_with_claude_has_no_job(ask: Any, session: Session) -> None:
    seed(session, [Seed()])
    assert ask("run", dag_id="nightly_report", run_id=Seed().run_id, task_id="extract")["jobs"] == []


def test_what_does_not_look_like_ours_is_left_out(ask: Any, session: Session) -> None:
    """Anybody may push an XCom called ``summary``."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    seed(session, [Seed(number=1), Seed(number=2)])
    first, second = session.scalars(
        select(XComModel).where(XComModel.key == "summary").order_by(XComModel.run_id)
    )
    first.value = "all went well"
    second.value = {**second.value, "cost": "free"}
    session.commit()
    jobs = {job["run_id"][-1]: job for job in ask("jobs", view="recent")["jobs"]}
    assert (jobs["1"]["state"], jobs["2"]["state"]) == ("unattended", "unreadable")
    assert jobs["2"]["unreadable"] == ["summary"]
    totals = ask("totals")["all"]
    assert (totals["jobs"], totals["unreadable"], totals["delivered"]) == (2, 1, 0)


def test_totals_sum_days_of_the_time_zone_by_dag(ask: Any, session: Session) -> None:
    seed(session, many(60, in_flight=1))
    totals = ask("totals", tz="Pacific/Auckland")
    assert sum(row["jobs"] for row in totals["by_day"]) == totals["all"]["jobs"] > 50
    assert {row["day"] for row in totals["by_day"]} <= set(totals["days"])
    real = totals["all"]["cost_usd"] - totals["all"]["estimated_usd"]
    assert totals["all"]["saved_usd"] == pytest.approx(real)
    assert 0 < totals["last_24_hours"]["jobs"] < totals["all"]["jobs"]
    assert sum(totals["outcomes"].values()) <= totals["all"]["requests"]
    assert totals["batch_seconds"]["median"] <= totals["batch_seconds"]["p95"]
    assert ask("totals", tz="Not/AZone")["all"]["jobs"] > 50  # days of UTC then
    only = ask("totals", dag_id="score_leads")
    assert {row["dag_id"] for row in only["by_day"]} == {"score_leads"}


def test_a_run_of_very_many_jobs_shows_the_newest_and_says_how_many_are_left_out(
    ask: Any, session: Session
) -> None:
    seed(session, [Seed(number=number, run=1, map_index=number) for number in range(103)])
    shown = ask("run", dag_id="nightly_report", run_id=Seed(run=1).run_id)
    assert (len(shown["jobs"]), shown["left_out"]) == (100, 3)
    one = ask("run", dag_id="nightly_report", run_id=Seed(run=1).run_id, task_id="wait", map_index=7)
    assert (len(one["jobs"]), one["left_out"]) == (1, 0)


def test_totals_of_too_many_jobs_are_those_of_the_newest_and_say_so(
    ask: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = [datetime.timedelta(days=days) for days in (20, 3, 9, 6)]
    seed(session, [Seed(number=number, age=age) for number, age in enumerate(ages)])
    everything = ask("totals")
    assert (everything["all"]["jobs"], everything["truncated"]) == (4, False)
    monkeypatch.setattr("airflow_claude_batch.plugins.queries.bulk.HISTORY_LIMIT", 3)
    monkeypatch.setattr("airflow_claude_batch.plugins.totals._answers", {})
    newest = ask("totals")
    assert (newest["all"]["jobs"], newest["truncated"]) == (3, True)
    assert newest["by_day"] == everything["by_day"][1:]


def test_batches_that_a_later_task_submits_again_belong_to_the_job(ask: Any, session: Session) -> None:
    one = Seed(stage="waiting")
    seed(session, [one])
    value = {"job": one.job, "batch_ids": [*one.batch_ids, "msgbatch_again"], "request_count": 200}
    add_xcom(session, one, "results", "handle", value)
    add_xcom(session, one, "results", "progress", {"batches": 1, "ended": 0})
    job = ask("job", dag_id=one.dag_id, run_id=one.run_id, task_id="submit")
    assert [batch["id"] for batch in job["batch_list"]] == [*one.batch_ids, "msgbatch_again"]
    assert (job["batches_ended"], job["batches"], job["state"]) == (1, 2, "waiting")
    assert job["can_cancel"]
    for batch_id in (one.batch_ids[0], "msgbatch_again"):
        [found] = ask("jobs", view="in_flight", q=batch_id)["jobs"]
        assert found["run_id"] == one.run_id
    assert ask("jobs", view="in_flight", q="msgbatch_another")["total"] == 0


def test_two_jobs_of_one_run_keep_their_own_tasks_and_results(ask: Any, session: Session) -> None:
    """What names its job is its job's; a task that names none is nobody's where there are two."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import insert, select

    seed(session, [Seed()])
    for model in (TaskInstance, XComModel):
        for row in session.execute(select(model.__table__)).mappings().all():
            copy = dict(row) | {"task_id": f"other_{row['task_id']}"}
            if "id" in copy:
                from uuid6 import uuid7

                copy["id"] = type(copy["id"])(str(uuid7()))  # text in Airflow 3.1
            if isinstance(copy.get("value"), dict) and copy["value"].get("job"):
                copy["value"] = {**copy["value"], "job": copy["value"]["job"] + "/other"}
            session.execute(insert(model.__table__).values(copy))
    session.commit()
    jobs = {job["task_id"]: job for job in ask("jobs", view="recent")["jobs"]}
    assert set(jobs) == {"submit", "other_submit"}
    assert [task["task_id"] for task in jobs["submit"]["tasks"]] == ["submit", "results"]
    assert [task["task_id"] for task in jobs["other_submit"]["tasks"]] == ["other_submit", "other_results"]
    assert all(job["state"] == "delivered" for job in jobs.values())


def test_what_a_delivery_warned_of_is_told(ask: Any, session: Session) -> None:
    text = "20 of 200 answers (10%): the answer is empty (empty)"
    one = Seed(warnings=(text,), empty=20)
    seed(session, [one, Seed(number=2)])
    assert sorted(job["warnings"] for job in ask("jobs", view="recent")["jobs"]) == [0, 1]
    details = ask("job", dag_id=one.dag_id, run_id=one.run_id, task_id="submit")
    assert (details["warning_texts"], details["empty"]) == ([text], 20)


def test_sums_follow_what_is_delivered_and_what_is_announced_again(ask: Any, session: Session) -> None:
    """Sums are kept between requests; what changes is seen at once."""
    one = Seed(stage="waiting")
    seed(session, [one])
    assert (ask("totals")["all"]["delivered"], ask("totals")["in_flight"]["jobs"]) == (0, 1)
    summary = {"job": one.job, "counts": {"total": 200, "succeeded": 200}, "cost": {"total_usd": 1.5}}
    add_xcom(session, one, "results", "summary", summary)
    totals = ask("totals")
    assert (totals["all"]["delivered"], totals["in_flight"]["jobs"]) == (1, 0)
    assert totals["all"]["cost_usd"] == pytest.approx(1.5)
    seed(session, [Seed(number=2, dag_id="score_leads", stage="lost")])
    assert ask("totals")["all"]["failed"] == 1
    assert ask("totals", dag_id=one.dag_id)["all"]["failed"] == 0
