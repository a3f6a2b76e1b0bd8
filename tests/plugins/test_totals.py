"""What is summed up: every job that was paid for, whatever became of it."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.seeding import Seed, seed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

HOUR = datetime.timedelta(hours=1)
COST = 200 * 0.00042
"""Of a seeded job."""


def change(session: Session, one: Seed, key: str, **fields: Any) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    xcom = session.scalars(
        select(XComModel).where(XComModel.key == key, XComModel.run_id == one.run_id)
    ).one()
    xcom.value = {**xcom.value, **fields}
    session.commit()


def test_a_bad_night_is_no_hundred_percent(ask: Any, session: Session) -> None:
    seed(session, [Seed(number=1), *(Seed(number=number, stage="lost") for number in range(2, 12))])
    everything = ask("totals")["all"]
    assert (everything["jobs"], everything["failed"], everything["delivered"]) == (11, 10, 1)
    assert (everything["succeeded"], everything["requests"]) == (200, 2_200)
    assert everything["cost_usd"] == pytest.approx(11 * COST)
    assert everything["estimated_usd"] == pytest.approx(10 * COST)


def test_what_was_never_sent_cost_nothing(ask: Any, session: Session) -> None:
    seed(session, [Seed(stage="refused")])
    everything = ask("totals")["all"]
    assert (everything["jobs"], everything["failed"]) == (1, 1)
    assert (everything["cost_usd"], everything["unpriced_jobs"]) == (0, 0)


def test_money_for_jobs_that_a_clear_has_replaced_counts(ask: Any, session: Session) -> None:
    one = Seed()
    seed(session, [one])
    change(session, one, "claude_batch", paid_before={"jobs": 2, "usd": 0.049, "estimated_usd": 0.01})
    totals = ask("totals")
    assert totals["all"]["cost_usd"] == pytest.approx(COST + 0.049)
    assert totals["all"]["estimated_usd"] == pytest.approx(0.01)
    assert ask("jobs", view="recent")["jobs"][0]["paid_before"]["usd"] == pytest.approx(0.049)


def test_what_is_in_flight_is_summed_up_by_its_estimate(ask: Any, session: Session) -> None:
    seed(session, [Seed(number=1, stage="waiting"), Seed(number=2, stage="submitting"), Seed(number=3)])
    in_flight = ask("totals")["in_flight"]
    assert (in_flight["jobs"], in_flight["cost_usd"]) == (2, pytest.approx(COST))


def test_one_definition_of_a_day_for_tile_and_filter(ask: Any, session: Session) -> None:
    """A job belongs to the time of its submission, wherever times are asked for."""
    seed(session, [Seed(number=1, age=25 * HOUR), Seed(number=2, age=23 * HOUR)])
    since = (datetime.datetime.now(datetime.UTC) - 24 * HOUR).isoformat()
    assert ask("totals")["last_24_hours"]["jobs"] == ask("jobs", view="recent", since=since)["total"] == 1


def test_another_dags_summary_moves_no_job(ask: Any, session: Session) -> None:
    mine, other = Seed(number=1, stage="waiting"), Seed(number=2, dag_id="score_leads")
    seed(session, [mine, other])
    change(session, other, "summary", job=mine.job)
    assert [job["run_id"] for job in ask("jobs", view="in_flight")["jobs"]] == [mine.run_id]
    assert ask("jobs", view="in_flight")["jobs"][0]["state"] == "waiting"
    assert ask("jobs", view="recent", result="delivered")["total"] == 0
    assert ask("totals")["all"]["delivered"] == 0


def test_groups_add_up(ask: Any, session: Session) -> None:
    seed(session, [Seed(number=1), Seed(number=2, dag_id="score_leads", stage="lost")])
    totals = ask("totals")
    for groups in (totals["by_day"], totals["by_model"], totals["by_connection"]):
        assert sum(row["cost_usd"] for row in groups) == pytest.approx(totals["all"]["cost_usd"])
    assert [row["name"] for row in totals["by_model"]] == ["claude-haiku-4-5"]


def test_errors_of_seven_days_by_type_dag_and_model(ask: Any, session: Session) -> None:
    seeds = [
        Seed(number=1, failed={"errored": 5}, errors={"overloaded_error": 5}),
        Seed(number=2, failed={"errored": 7}, errors={"overloaded_error": 7}),
        Seed(number=3, failed={"errored": 1}, errors={"api_error": 1}, age=200 * HOUR),
    ]
    seed(session, seeds)
    change(session, seeds[0], "summary", stop_reasons={"refusal": 3, "end_turn": 190})
    assert [(row["type"], row["requests"], row["jobs"]) for row in ask("totals")["errors"]] == [
        ("overloaded_error", 12, 2),
        ("refusal", 3, 1),
    ]


def kinds(ask: Any) -> list[str]:
    return [job["reason"]["kind"] for job in ask("attention")["jobs"]]


def test_what_needs_attention_is_named_worst_first(ask: Any, session: Session) -> None:
    seed(
        session,
        [
            Seed(number=1),
            Seed(number=2, stage="waiting", age=26 * HOUR),
            Seed(number=3, stage="lost"),
            Seed(number=4, stage="refused"),
            Seed(number=5, stage="submitting", age=2 * HOUR),
            Seed(number=6, stage="paused", age=2 * HOUR),
            Seed(number=7, failed={"errored": 50}, errors={"invalid_request_error": 50}),
            Seed(number=8, stage="lost", age=30 * HOUR),
            Seed(number=9, stage="waiting"),
        ],
    )
    found = ask("attention")
    assert [(job["run_id"][-1], job["reason"]["kind"]) for job in found["jobs"]] == [
        ("2", "overdue"), ("3", "failed"), ("4", "refused"), ("5", "submitting"), ("6", "paused"),
        ("7", "partial"),
    ]  # fmt: skip
    assert (found["total"], found["looked_at_all"]) == (6, True)
    assert "image exceeds 10 MB" in found["jobs"][5]["reason"]["text"]
    assert all(job["reason"]["advice"] for job in found["jobs"])


def test_a_job_slower_than_its_dag_usually_is_needs_attention(ask: Any, session: Session) -> None:
    usual = [Seed(number=number, age=number * 24 * HOUR) for number in range(1, 8)]  # up to 97 minutes
    seed(session, [*usual, Seed(number=20, stage="waiting", age=4 * HOUR), Seed(number=21, stage="waiting")])
    assert kinds(ask) == ["slow"]


def test_batches_are_paged_and_filtered_by_state(ask: Any, session: Session) -> None:
    one = Seed(stage="waiting", batches=1_000)
    seed(session, [one])
    place = {"dag_id": one.dag_id, "run_id": one.run_id, "task_id": "submit"}
    assert len(ask("job", **place)["batch_list"]) == 20
    page = ask("batches", **place, offset=990, limit=50)
    assert (len(page["batches"]), page["total"], page["batches"][-1]["id"]) == (10, 1_000, one.batch_ids[-1])
    assert ask("batches", **place, state="ended")["total"] == 0
    assert ask("batches", **place, state="open")["total"] == 1_000


def test_sums_of_many_jobs_are_given_out_once_more_while_they_are_made_anew(
    ask: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_claude_batch.plugins.totals.MANY", 0)
    monkeypatch.setattr("airflow_claude_batch.plugins.totals.CHECKED", datetime.timedelta(seconds=0.3))
    seed(session, [Seed(number=1)])
    assert (ask("totals")["all"]["jobs"], ask("totals")["renewing"]) == (1, False)
    seed(session, [Seed(number=2)])
    time.sleep(0.4)
    old = ask("totals")
    assert (old["all"]["jobs"], old["renewing"]) == (1, True)
    for _ in range(50):
        new = ask("totals")
        if not new["renewing"]:
            break
        time.sleep(0.05)
    assert (new["all"]["jobs"], new["renewing"]) == (2, False)


@pytest.mark.parametrize("ranges", [0, 40])
def test_only_jobs_near_one_that_has_changed_are_read_again(
    ask: Any, session: Session, monkeypatch: pytest.MonkeyPatch, ranges: int
) -> None:
    from airflow.models.xcom import XComModel

    from airflow_claude_batch.plugins.queries import bulk

    read: list[int] = []

    def noted(session: Session, wanted: Any, since: datetime.datetime) -> Any:
        read.append(sum(block.announced.number for block in wanted))
        return block_values(session, wanted, since)

    block_values = bulk.block_values
    monkeypatch.setattr(bulk, "block_values", noted)
    monkeypatch.setattr(bulk, "MOST_RANGES", ranges)
    seeds = [Seed(number=number) for number in range(3 * bulk.RUNS)]
    seed(session, seeds)
    assert ask("totals")["all"]["delivered"] == sum(read) == 3 * bulk.RUNS
    edited = seeds[bulk.RUNS + 7]
    value = {"job": edited.job, "counts": {"total": 200, "succeeded": 0, "errored": 200}}
    place = {"dag_id": edited.dag_id, "run_id": edited.run_id, "task_id": "results", "map_index": -1}
    XComModel.set(key="summary", value=value, **place, session=session)  # as Airflow's own API does
    session.commit()
    everything = ask("totals")["all"]
    assert (everything["jobs"], everything["failed"]) == (3 * bulk.RUNS, 1)
    assert read[1:] == [bulk.RUNS]


def test_jobs_are_read_in_portions_and_a_timeout_loses_none_that_was_read(
    client_of: Any, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_claude_batch.plugins import history
    from airflow_claude_batch.plugins.queries import bulk
    from airflow_claude_batch.plugins.statements import TooSlowError

    read: list[int] = []

    def slow_once(session: Session, wanted: Any, since: datetime.datetime) -> Any:
        read.append(sum(block.announced.number for block in wanted))
        if len(read) == 2:
            raise TooSlowError
        return block_values(session, wanted, since)

    block_values = bulk.block_values
    monkeypatch.setattr(bulk, "block_values", slow_once)
    monkeypatch.setattr(history, "PORTION", bulk.RUNS)
    seed(session, [Seed(number=number) for number in range(2 * bulk.RUNS)])
    client = client_of("admin", "admin")
    assert client.get("/claude-batches/api/totals").status_code == 503
    assert client.get("/claude-batches/api/totals").json()["all"]["delivered"] == 2 * bulk.RUNS
    # Runs begin anywhere within a block.
    assert read[0] >= bulk.RUNS
    assert read[0] + sum(read[2:]) == 2 * bulk.RUNS


def test_a_job_that_is_announced_again_in_an_old_run_counts_on_the_new_day(
    ask: Any, session: Session
) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import update

    old, new = Seed(number=1, age=40 * 24 * HOUR), Seed(number=2)
    seed(session, [old, new])
    assert ask("totals")["all"]["jobs"] == 1
    now = datetime.datetime.now(datetime.UTC)
    session.execute(update(XComModel).where(XComModel.run_id == old.run_id).values(timestamp=now))
    session.commit()
    totals = ask("totals")
    assert (totals["all"]["jobs"], totals["last_24_hours"]["jobs"]) == (2, 2)
