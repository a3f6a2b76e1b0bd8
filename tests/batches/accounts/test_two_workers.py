"""Of two workers on a task, one is frozen at each instant of its bookings and wakes when all is done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from airflow_claude_batch.batches.accounts.additions import add, forecast, is_decided
from airflow_claude_batch.batches.accounts.budgets import WindowBudget
from airflow_claude_batch.batches.accounts.reservation import reserve, settle
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.storage import Folder
from tests.batches.accounts.jobs import (
    ask,
    calendar,
    deliver,
    identity,
    job_of,
    mark_sent,
    passed,
    usd,
    use,
)
from tests.batches.crashing import freeze_at, start_child, trapped, wake
from tests.batches.helpers import age_the_lease

Work = Callable[[Job], object]


def budget_of(dag_id: str, most: float = 3) -> WindowBudget:
    return WindowBudget(max_usd=most, per="day", scope=f"dag:{dag_id}")


def frozen_at_each_instant(
    root: Folder, prepare: Callable[[str], object], work: Callable[[str, Job], object]
) -> Iterator[tuple[str, int]]:
    """Each time with a fresh DAG: the process that is frozen in ``work``."""
    for instant in range(300):
        dag_id = f"d{instant}"
        prepare(dag_id)

        def once(where: Folder, dag_id: str = dag_id, instant: int = instant) -> None:
            with job_of(where, dag_id=dag_id) as job:
                where.fs._snap = freeze_at(instant)
                where.fs.instants = 0
                work(dag_id, job)

        pid = start_child(lambda once=once: once(trapped(root, lambda _: None)))
        status = os.waitpid(pid, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            assert instant > 4
            return
        age_the_lease(root, identity(0, dag_id))
        yield dag_id, pid
    raise AssertionError("it never comes to its end")


def check_nothing_is_left(root: Folder, dag_id: str, paid: float) -> None:
    found = use(root, budget_of(dag_id))
    assert (usd(found.settled), found.reserved, found.undecided) == (paid, 0, {}), dag_id


def finish(root: Folder, dag_id: str, cost: float) -> None:
    with job_of(root, dag_id=dag_id) as job:
        deliver(job, cost)
        settle(job, calendar())


def test_a_reservation_is_booked_once(root: Folder) -> None:
    def work(dag_id: str, job: Job) -> None:
        reserve(job, [budget_of(dag_id)], calendar())

    for dag_id, pid in frozen_at_each_instant(root, lambda _: None, work):
        budget = budget_of(dag_id)
        assert ask(root, 0, budget, dag_id=dag_id)
        wake(pid)
        found = use(root, budget)
        assert (usd(found.reserved), found.undecided) == (1, {}), dag_id
        with job_of(root, dag_id=dag_id) as job:
            mark_sent(job)
        finish(root, dag_id, 0.5)
        check_nothing_is_left(root, dag_id, 0.5)


def test_who_is_woken_does_not_take_what_another_job_was_promised_meanwhile(root: Folder) -> None:
    def work(dag_id: str, job: Job) -> None:
        reserve(job, [budget_of(dag_id, 1)], calendar())

    for dag_id, pid in frozen_at_each_instant(root, lambda _: None, work):
        budget = budget_of(dag_id, 1)
        other = ask(root, 1, budget, dag_id=dag_id)
        own = ask(root, 0, budget, dag_id=dag_id)
        assert own != other, dag_id
        wake(pid)
        found = use(root, budget)
        assert (usd(found.reserved), found.undecided, len(found.admitted)) == (1, {}, 1), dag_id


def test_an_addition_is_booked_once_and_nothing_of_it_stays(root: Folder) -> None:
    def prepare(dag_id: str) -> None:
        assert ask(root, 0, budget_of(dag_id), dag_id=dag_id)
        with job_of(root, dag_id=dag_id) as job:
            mark_sent(job)

    def work(dag_id: str, job: Job) -> bool:
        decided = is_decided(job, "round 1")
        return decided or passed(add(job, "round 1", PICO, [budget_of(dag_id)], calendar()))

    for dag_id, pid in frozen_at_each_instant(root, prepare, work):
        with job_of(root, dag_id=dag_id) as job:
            assert work(dag_id, job)
            assert usd(forecast(job, {}).held) == 2
        if int(dag_id[1:]) % 2:
            wake(pid)
            found = use(root, budget_of(dag_id))
            assert (usd(found.reserved), found.undecided) == (2, {}), dag_id
            finish(root, dag_id, 1.5)
        else:
            finish(root, dag_id, 1.5)
            wake(pid)
        check_nothing_is_left(root, dag_id, 1.5)


def test_what_is_settled_is_what_the_last_owner_says(root: Folder) -> None:
    def prepare(dag_id: str) -> None:
        assert ask(root, 0, budget_of(dag_id), dag_id=dag_id)
        with job_of(root, dag_id=dag_id) as job:
            mark_sent(job)
            assert passed(add(job, "round 1", PICO, [budget_of(dag_id)], calendar()))
            deliver(job, 0.25)

    for dag_id, pid in frozen_at_each_instant(root, prepare, lambda _, job: settle(job, calendar())):
        finish(root, dag_id, 0.75)
        cost = usd(use(root, budget_of(dag_id)).settled)
        wake(pid)
        check_nothing_is_left(root, dag_id, cost)
