"""Budgets: what fits is sent, exactly, however many ask at once and whoever dies meanwhile."""

from __future__ import annotations

import datetime
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_claude_batch.batches.accounts import reservation
from airflow_claude_batch.batches.accounts.additions import add, forecast, is_decided
from airflow_claude_batch.batches.accounts.budgets import WindowBudget, scope_of, window_at
from airflow_claude_batch.batches.accounts.entries import Account
from airflow_claude_batch.batches.accounts.reservation import release, reserve, settle
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.storage import Folder
from tests.batches.accounts.jobs import (
    DAILY,
    NOON,
    ask,
    calendar,
    deliver,
    job_of,
    mark_sent,
    passed,
    usd,
    use,
)
from tests.batches.crashing import in_child, kill_at, start_child, trapped

HOUR = datetime.timedelta(hours=1)


def test_two_hundred_at_once_against_a_budget_for_150_send_exactly_150(root: Folder) -> None:
    def some(first: int) -> None:
        with ThreadPoolExecutor(25) as pool:
            sent = sum(pool.map(lambda number: ask(root, number, DAILY), range(first, first + 50)))
        os._exit(sent)

    children = [start_child(lambda first=first: some(first)) for first in range(0, 200, 50)]
    assert sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children) == 150
    after = use(root)
    assert (usd(after.reserved), after.undecided) == (150, {})


def test_two_hundred_at_once_under_budgets_of_two_tags_lose_no_room_to_those_that_the_other_refuses(
    root: Folder,
) -> None:
    team = WindowBudget(max_usd=150, per="day", scope="tag:team=growth")
    features = {
        name: WindowBudget(max_usd=most, per="month", scope=f"tag:feature={name}")
        for name, most in (("digest", 60), ("mail", 200))
    }

    def one(number: int) -> bool:
        name = "digest" if number % 2 else "mail"
        return ask(root, number, team, features[name], tags={"team": "growth", "feature": name})

    def some(first: int) -> None:
        with ThreadPoolExecutor(25) as pool:
            os._exit(sum(pool.map(one, range(first, first + 50))))

    children = [start_child(lambda first=first: some(first)) for first in range(0, 200, 50)]
    assert sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children) == 150
    digest, mail = (usd(use(root, budget).reserved) for budget in features.values())
    assert (digest <= 60, digest + mail, usd(use(root, team).reserved)) == (True, 150, 150)


def test_a_job_that_was_killed_between_two_budgets_holds_another_up_for_some_seconds_only(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_claude_batch.batches.accounts.admission.PATIENCE_SECONDS", 0.2)
    for instant in range(0, 100, 3):
        dag_id = f"d{instant}"
        tags = {"tags": {"team": dag_id}, "dag_id": dag_id}
        both = [
            WindowBudget(max_usd=1, per="day", scope=scope)
            for scope in (f"dag:{dag_id}", f"tag:team={dag_id}")
        ]
        where = trapped(root, kill_at(instant))
        status = in_child(lambda where=where, both=both, tags=tags: ask(where, 0, *both, **tags))
        second = [ask(root, 1, one, **tags) for one in both]
        first = ask(root, 0, *both, **tags)
        assert [usd(use(root, one).reserved) <= 1 for one in both] == [True, True], instant
        assert first or any(second), instant
        if status == 0:
            break
    assert instant > 10


def test_jobs_of_unequal_cost_fill_the_budget_in_the_order_of_their_keys(root: Folder) -> None:
    costs = [100.0, 60.0, 40.0, 20.0, 10.0]
    with ThreadPoolExecutor(5) as pool:
        sent = list(pool.map(lambda n: ask(root, n, DAILY, usd=costs[n]), range(5)))
    spent = sum(cost for cost, is_sent in zip(costs, sent, strict=True) if is_sent)
    assert spent <= 150
    assert all(spent + cost > 150 for cost, is_sent in zip(costs, sent, strict=True) if not is_sent)


@pytest.mark.parametrize("minutes", [-3 * 60, -5, 5, 3 * 60])
def test_workers_whose_clocks_differ_do_not_both_take_the_last_dollar(root: Folder, minutes: int) -> None:
    skewed = NOON + datetime.timedelta(minutes=minutes)
    with ThreadPoolExecutor(8) as pool:
        sent = list(pool.map(lambda n: ask(root, n, DAILY, usd=100, now=skewed if n % 2 else NOON), range(8)))
    assert sum(sent) == 1


def test_what_is_booked_counts_and_what_is_settled_takes_its_place(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=100)
    assert not ask(root, 1, DAILY, usd=51)
    with job_of(root, 0) as job:
        mark_sent(job)
        deliver(job, 20)
        settle(job, calendar())
    assert ask(root, 1, DAILY, usd=51)
    assert (usd(use(root).settled), usd(use(root).reserved)) == (20, 51)


def test_a_job_that_costs_three_times_its_estimate_counts_whole_and_stops_the_next(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=60)
    with job_of(root, 0) as job:
        mark_sent(job)
        deliver(job, 180)
        settle(job, calendar())
    assert usd(use(root).settled) == 180
    assert not ask(root, 1, DAILY, usd=0.01)


# Kills


def test_a_kill_at_any_instant_of_a_reservation_is_made_good_by_the_retry(root: Folder) -> None:
    for instant in range(200):
        budget = WindowBudget(max_usd=1, per="day", scope=f"dag:d{instant}")

        def reserve_once(where: Folder, budget: WindowBudget = budget, instant: int = instant) -> bool:
            with job_of(where, dag_id=f"d{instant}") as job:
                where.fs._snap = kill_at(instant)
                where.fs.instants = 0
                return passed(reserve(job, [budget], calendar()))

        status = in_child(lambda once=reserve_once: once(trapped(root, lambda _: None)))
        assert ask(root, 0, budget, dag_id=f"d{instant}"), instant
        found = use(root, budget)
        assert (usd(found.reserved), found.undecided) == (1, {}), instant
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert instant > 10


def test_a_kill_at_any_instant_of_an_addition_is_made_good_by_the_retry(root: Folder) -> None:
    for instant in range(200):
        dag_id = f"d{instant}"
        budget = WindowBudget(max_usd=3, per="day", scope=f"dag:{dag_id}")
        assert ask(root, 0, budget, dag_id=dag_id)

        def add_once(
            where: Folder, budget: WindowBudget = budget, instant: int = instant, dag_id: str = dag_id
        ) -> None:
            with job_of(where, dag_id=dag_id) as job:
                if not job.ledger.parts[0].batch_id:
                    mark_sent(job)
                where.fs._snap = kill_at(instant)
                where.fs.instants = 0
                if not is_decided(job, "round 1"):
                    assert passed(add(job, "round 1", PICO, [budget], calendar()))

        status = in_child(lambda once=add_once: once(trapped(root, lambda _: None)))
        assert in_child(lambda once=add_once: once(trapped(root, lambda _: None))) in (0, -signal.SIGKILL)
        for _ in range(2):
            with job_of(root, dag_id=dag_id) as job:
                if not is_decided(job, "round 1"):
                    assert passed(add(job, "round 1", PICO, [budget], calendar()))
        found = use(root, budget)
        assert (usd(found.reserved), found.undecided) == (2, {}), instant
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert instant > 5


def test_what_a_job_costs_beyond_its_reservation_is_refused_where_there_is_no_room(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=100)
    assert ask(root, 1, DAILY, usd=20)
    with job_of(root, 0, usd=100) as job:
        mark_sent(job)
        assert passed(add(job, "round 1", 30 * PICO, [DAILY], calendar()))
        assert is_decided(job, "round 1")
        assert not passed(add(job, "round 2", PICO, [DAILY], calendar(NOON + HOUR)))
        assert passed(add(job, "round 3", 0, [DAILY], calendar())), "what adds nothing asks nobody"
        assert (usd(use(root).reserved), use(root).undecided) == (150, {})
        assert usd(forecast(job, {}).held) == 130
        deliver(job, 110)
        settle(job, calendar())
        assert (usd(use(root).settled), usd(use(root).reserved)) == (110, 20)
        assert (usd(forecast(job, {}).held), is_decided(job, "round 1")) == (110, False)


def test_an_addition_counts_on_the_day_that_the_job_is_booked_on(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=100)
    tomorrow = NOON + 24 * HOUR
    with job_of(root, 0, usd=100) as job:
        mark_sent(job)
        assert passed(add(job, "round 1", 50 * PICO, [DAILY], calendar(tomorrow)))
    assert (usd(use(root).reserved), usd(use(root, now=tomorrow).reserved)) == (150, 0)


def test_an_addition_that_nobody_has_decided_about_expires_and_an_admitted_one_stays(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=50)

    def begin_and_die() -> None:
        with job_of(root, 0, usd=50) as job:
            mark_sent(job)
            assert passed(add(job, "round 1", 40 * PICO, [DAILY], calendar()))
            snap = kill_at(4)  # behind the entry in the book, before the decision
            job.root, job.folder = trapped(job.root, snap), trapped(job.folder, lambda _: None)
            add(job, "round 2", 60 * PICO, [DAILY], calendar())

    assert in_child(begin_and_die) == -signal.SIGKILL
    assert set(use(root).undecided.values()) == {60 * PICO}
    for hours, fits in ((1, False), (3, True)):
        with job_of(root, 1, usd=60) as job:
            assert passed(reserve(job, [DAILY], calendar(NOON + hours * HOUR, hours=2))) == fits
    assert (usd(use(root).reserved), use(root).undecided) == (150, {})


def leave_behind(root: Folder, number: int, *, sent: bool = False) -> None:
    """A job that has reserved and is killed, before its POST or after it."""

    def work() -> None:
        with job_of(root, number, usd=100) as job:
            reserve(job, [DAILY], calendar())
            if sent:
                mark_sent(job)
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(work) == -signal.SIGKILL


def test_what_a_kill_before_the_first_post_has_reserved_expires(root: Folder) -> None:
    leave_behind(root, 0)
    assert not ask(root, 1, DAILY, usd=100, now=NOON + HOUR)
    with job_of(root, 2, usd=100) as job:
        assert passed(reserve(job, [DAILY], calendar(NOON + 3 * HOUR, hours=2)))
    assert usd(use(root).reserved) == 100


def test_what_was_reserved_for_a_job_that_has_sent_something_stays(root: Folder) -> None:
    leave_behind(root, 0, sent=True)
    for number in (1, 2):
        with job_of(root, number, usd=100) as job:
            assert not passed(reserve(job, [DAILY], calendar(NOON + 3 * HOUR, hours=2)))
    assert usd(use(root).reserved) == 100


def test_a_refused_job_that_was_killed_before_it_took_back_its_reservation_blocks_nobody(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused_and_killed() -> None:
        monkeypatch.setattr(reservation, "release", lambda job: os.kill(os.getpid(), signal.SIGKILL))
        ask(root, 0, DAILY, usd=151)

    assert in_child(refused_and_killed) == -signal.SIGKILL
    assert ask(root, 1, DAILY, usd=150)


# Clear, retry, two workers


def test_retries_and_clears_of_a_job_are_booked_once(root: Folder) -> None:
    for _ in range(3):
        assert ask(root, 0, DAILY, usd=80)
    assert usd(use(root).reserved) == 80
    with job_of(root, 0) as job:
        mark_sent(job)
        deliver(job, 70)
        for _ in range(2):
            settle(job, calendar(NOON + 30 * HOUR))
    assert (usd(use(root).settled), usd(use(root).reserved)) == (70, 0)


def test_a_job_that_waited_is_booked_on_the_day_that_it_is_sent(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=150)
    assert not ask(root, 1, DAILY, usd=10)
    tomorrow = NOON + 24 * HOUR
    assert ask(root, 1, DAILY, usd=10, now=tomorrow)
    assert (usd(use(root).reserved), usd(use(root, now=tomorrow).reserved)) == (150, 10)


def test_a_job_that_fails_before_it_has_sent_anything_gives_back_what_it_reserved(root: Folder) -> None:
    assert ask(root, 0, DAILY, usd=150)
    with job_of(root, 0) as job:
        release(job)
        release(job)
    assert ask(root, 1, DAILY, usd=150)


def test_a_delivery_that_costs_more_after_a_clear_is_corrected_and_not_added(root: Folder) -> None:
    ask(root, 0, DAILY)
    with job_of(root, 0) as job:
        mark_sent(job)
        for cost in (5, 5, 7, 6, 7, 7):
            deliver(job, cost)
            settle(job, calendar())
            assert usd(use(root).settled) == cost


# Which costs count


def test_several_budgets_must_all_let_a_job_pass(root: Folder) -> None:
    team = WindowBudget(max_usd=10, per="month", scope="tag:team=growth")
    about = {"tags": {"team": "growth"}}
    assert ask(root, 0, DAILY, team, usd=9, **about)
    assert not ask(root, 1, DAILY, team, usd=9, **about)
    assert ask(root, 2, DAILY, usd=9)
    assert (usd(use(root).reserved), usd(use(root, team).reserved)) == (18, 9)


def test_costs_of_unknown_price_count_as_over(root: Folder) -> None:
    assert not ask(root, 0, DAILY, usd=None)
    assert ask(root, 1, usd=None), "no budget is asked"
    assert not ask(root, 2, DAILY, usd=1)


ACCOUNT = Account(dag_id="nightly", conn_id="anthropic_default", tags={"team": "growth"})


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("all", "all"),
        ("dag", "dag:nightly"),
        ("dag:nightly", "dag:nightly"),
        ("dag:other", None),
        ("connection", "connection:anthropic_default"),
        ("tag:team", "tag:team=growth"),
        ("tag:team=growth", "tag:team=growth"),
        ("tag:team=sales", None),
        ("tag:feature", "tag:feature="),
    ],
)
def test_a_scope_is_about_the_jobs_own_value_or_the_one_that_it_names(scope: str, found: str | None) -> None:
    assert scope_of(scope, ACCOUNT) == found
    if found is not None:
        assert WindowBudget(max_usd=1, per="day", scope=found).counts(ACCOUNT)


@pytest.mark.parametrize(
    ("per", "at", "zone", "name", "hours"),
    [
        ("day", "2026-11-28T23:30", "Europe/Berlin", "2026-11-29", 24),
        ("day", "2026-10-25T00:30", "Europe/Berlin", "2026-10-25", 25),
        ("day", "2026-03-29T00:30", "Europe/Berlin", "2026-03-29", 23),
        ("day", "2026-11-28T23:30", "America/New_York", "2026-11-28", 24),
        ("month", "2026-11-30T23:30", "Europe/Berlin", "2026-12", 31 * 24),
        # Where clocks skip midnight, or show it twice.
        ("day", "2026-04-24T12:00", "Africa/Cairo", "2026-04-24", 23),
        ("day", "2026-03-08T12:00", "America/Havana", "2026-03-08", 23),
        ("day", "2026-11-01T04:30", "America/Havana", "2026-11-01", 25),
        ("day", "2026-11-01T05:30", "America/Havana", "2026-11-01", 25),
        ("day", "2026-03-29T12:00", "Asia/Beirut", "2026-03-29", 23),
        ("month", "2026-03-29T12:00", "Asia/Beirut", "2026-03", 31 * 24 - 1),
    ],
)
def test_days_and_months_are_those_of_the_time_zone(
    per: str, at: str, zone: str, name: str, hours: int
) -> None:
    moment = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.UTC)
    window = window_at(per, moment, zone)
    assert window.name == name
    assert window.first.startswith(name)
    assert window.last.startswith(name)
    before = window_at(per, window.end - datetime.timedelta(hours=hours), zone)
    assert before.name == name
    assert window_at(per, window.end, zone).name != name
    assert window_at(per, window.end - datetime.timedelta(hours=hours, seconds=1), zone).name != name
