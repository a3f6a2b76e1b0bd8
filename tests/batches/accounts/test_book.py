"""The book: written once by many, and summed with few calls."""

from __future__ import annotations

import datetime
import os
import signal
import time
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.accounts import book as books
from airflow_claude_batch.batches.accounts.book import Book, Day
from airflow_claude_batch.batches.accounts.entries import (
    LONGEST_NAME,
    RELEASED,
    Account,
    Line,
    Pending,
    booked_at,
    shortened,
)
from airflow_claude_batch.batches.accounts.report import costs
from airflow_claude_batch.batches.accounts.reservation import reserve, settle
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.ledger import short_hash
from airflow_claude_batch.batches.job.purge import purge
from airflow_claude_batch.batches.storage import Folder
from tests.batches.accounts.jobs import NOON, calendar, deliver, job_of, mark_sent
from tests.batches.crashing import in_child, kill_at, start_child, trapped
from tests.batches.s3 import S3

DAY = "2026-11-28"
TEAMS = ("growth", "sales", "support")


def account(number: int, **about: Any) -> Account:
    tags = {"team": TEAMS[number % 3]}
    return Account(dag_id=f"dag-{number % 4}", task_id="ask", conn_id="anthropic_default", tags=tags, **about)


def line(**numbers: Any) -> Line:
    return Line(model="claude-haiku-4-5", **numbers)


def key_of(number: int) -> str:
    return f"00a1b2-{short_hash(str(number))}-1"


SPENT = line(requests=10, pico=PICO, standard_pico=2 * PICO, uncached_pico=PICO)


def book_job(book: Book, number: int, *, settled: bool = True) -> None:
    key = key_of(number)
    book.reserve(DAY, key, account(number), pico=2 * PICO, job=f"file:///jobs/{number}")
    if settled:
        book.settle(DAY, key, account(number, lines=[SPENT.kind]), [SPENT])


def totals(root: Folder, by: str = "dag", **period: str) -> dict[str, float]:
    rows = costs(root, by=by, since=DAY, **period)
    return {row[by.removeprefix("tag:")]: row["total_usd"] for row in rows}


@pytest.fixture(autouse=True)
def early_roll_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "ROLL_UP_FROM", 40)


def test_sums_are_the_same_before_and_after_roll_ups_by_many_writers_and_readers(root: Folder) -> None:
    jobs = 130

    def write(first: int) -> None:
        for number in range(first, jobs, 3):
            book_job(Book(root), number)
            book_job(Book(root), number)  # a retry

    children = [start_child(lambda first=first: write(first)) for first in range(3)]
    while children:
        Book(root).day(DAY)
        children = [pid for pid in children if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    day = Book(root).day(DAY)
    assert day.open == {}
    assert sum(spent.pico for _, spent in day.settled()) == jobs * PICO
    assert sum(spent.requests for _, spent in day.settled()) == jobs * 10
    assert len(root.child("costs", DAY, "entries").names()) == 2 * jobs
    assert 1 <= len(root.child("costs", DAY, "sums").names()) <= 3
    Book(root).day(DAY)
    assert len(root.child("costs", DAY, "pending").names()) < 40


def test_ten_thousand_jobs_a_day_sum_in_less_than_two_seconds_on_s3(s3: S3) -> None:
    root = s3.folder("ten-thousand")
    book, rolled_up = Book(root), Day()
    for number in range(9_900):  # as roll-ups leave them; the last hundred are pending
        for entry, about in entries_of(number):
            rolled_up.accounts[about.label] = about
            rolled_up.take(entry)
    assert books.create_next(root.child("costs", DAY, "sums"), 1, msgspec.json.encode(rolled_up))
    for number in range(9_900, 10_000):
        for entry, about in entries_of(number):
            book.folder.child("accounts").write(f"{about.label}.json", msgspec.json.encode(about))
            book.folder.child(DAY, "pending").write(entry.name, b"")
    calls: list[str] = []
    healthy = s3.fails
    s3.fails = lambda environ: bool(calls.append(environ["REQUEST_METHOD"])) or healthy(environ)
    began = time.perf_counter()
    by_team = totals(root, "tag:team")
    seconds = time.perf_counter() - began
    assert sum(by_team.values()) == 10_000
    assert set(by_team) == set(TEAMS)
    assert len(calls) <= 30
    assert seconds < 2


def entries_of(number: int) -> list[tuple[Pending, Account]]:
    """What two steps of a job write."""
    before, after = account(number), account(number, lines=[SPENT.kind])
    return [
        (Pending(key=key_of(number), step="reserved", label=before.label, numbers=(2 * PICO,)), before),
        (
            Pending(key=key_of(number), step="settled-1", label=after.label, numbers=tuple(SPENT.numbers)),
            after,
        ),
    ]


def test_a_kill_at_any_instant_of_a_roll_up_changes_no_sum(root: Folder) -> None:
    day, jobs = root.child("costs", DAY), 0
    for instant in range(50):
        while len(day.child("pending").names()) < 40:
            book_job(Book(root), jobs)
            jobs += 1
        status = in_child(lambda instant=instant: Book(trapped(root, kill_at(instant))).day(DAY))
        assert sum(totals(root).values()) == jobs, instant
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert instant >= 2


def test_a_step_that_comes_late_counts_once_and_one_that_comes_twice_too(root: Folder) -> None:
    book = Book(root)
    for number in range(40):
        book_job(book, number, settled=number > 0)
    assert book.day(DAY).open[key_of(0)].pico == 2 * PICO
    book_job(book, 0)
    book_job(book, 0)
    book_job(book, 1)
    assert sum(totals(root).values()) == 40
    assert book.day(DAY).open == {}


def test_what_is_released_is_not_open_again_by_a_late_reservation(root: Folder) -> None:
    book = Book(root)
    book_job(book, 0, settled=False)
    book.note(DAY, key_of(0), RELEASED)
    book_job(book, 0, settled=False)
    assert book.day(DAY).open == {}


def test_costs_are_known_by_dag_tag_model_connection_and_day(root: Folder) -> None:
    spent = [(1, "claude-haiku-4-5"), (2, "claude-opus-5-5"), (4, "claude-opus-5-5")]
    for number, (usd, model) in enumerate(spent):
        tags = {"team": "growth"} if number else {}
        with job_of(root, number, tags=tags) as job:
            moment = NOON + datetime.timedelta(days=number // 2)
            reserve(job, [], calendar(moment))
            mark_sent(job)
            deliver(job, usd, model=model)
            settle(job, calendar(moment))
    with job_of(root, 9, usd=0.5) as job:
        reserve(job, [], calendar())
    assert totals(root) == {"reports": 7}
    assert totals(root, "tag:team") == {"growth": 6, "(none)": 1}
    assert totals(root, "model") == {"claude-opus-5-5": 6, "claude-haiku-4-5": 1, "(none)": 0}
    assert totals(root, "day") == {DAY: 3, "2026-11-29": 4}
    assert totals(root, "day", until=DAY) == {DAY: 3}
    [row] = costs(root, by="connection", since=DAY)
    assert (row["requests"], row["saved_by_batch_usd"], row["reserved_usd"]) == (3, 7, 0.5)


def test_purging_the_jobs_keeps_the_book(root: Folder) -> None:
    with job_of(root) as job:
        reserve(job, [], calendar())
        mark_sent(job)
        deliver(job, 3)
        settle(job, calendar())
    assert purge(root, older_than=datetime.timedelta(seconds=-1)).jobs == 1
    assert totals(root) == {"reports": 3}


def test_what_was_reused_or_answered_directly_is_told_apart(root: Folder) -> None:
    lines = [
        line(way="batch", requests=1, pico=10**12, standard_pico=2 * 10**12, uncached_pico=10**12),
        line(way="direct", requests=2, pico=3 * 10**12, standard_pico=3 * 10**12, uncached_pico=4 * 10**12),
        line(way="reused", requests=4, standard_pico=5 * 10**12),
    ]
    about = Account(dag_id="d", lines=[one.kind for one in lines])
    Book(root).settle(DAY, key_of(1), about, lines)
    [row] = costs(root, by="dag", since=DAY)
    assert row == {
        "dag": "d",
        "requests": 7,
        "batch_usd": 1,
        "direct_usd": 3,
        "total_usd": 4,
        "saved_by_batch_usd": 1,
        "saved_by_cache_usd": 1,
        "saved_by_reuse_usd": 5,
        "reserved_usd": 0,
        "unpriced_requests": 0,
    }


def test_a_job_of_very_many_models_fits_into_a_name_and_its_sum_stays_exact(root: Folder) -> None:
    lines = [Line(model=f"model-{n}", requests=n, pico=n * 10**13 + n, standard_pico=n) for n in range(1, 60)]
    short = shortened(lines, 150)
    assert 1 < len(short) < 10
    assert sum(one.pico for one in short) == sum(one.pico for one in lines)
    Book(root).settle(DAY, key_of(1), Account(dag_id="d", lines=[one.kind for one in lines]), lines)
    [name] = root.child("costs", DAY, "pending").names()
    assert len(name) <= LONGEST_NAME
    assert totals(root) == {"d": sum(one.pico for one in lines) / PICO}


@pytest.mark.parametrize("numbers", [(), (0,), (1, -35, 36, -(10**15), 10**18)])
def test_a_name_holds_its_numbers(numbers: tuple[int, ...]) -> None:
    entry = Pending(key=key_of(3), step="settled-2", label="abc", numbers=numbers)
    assert Pending.of(entry.name) == entry


def test_a_key_says_when_it_was_booked(root: Folder) -> None:
    with job_of(root) as job:
        reserve(job, [], calendar(NOON))
    [key] = Book(root).day(DAY).open
    assert booked_at(key) == NOON
