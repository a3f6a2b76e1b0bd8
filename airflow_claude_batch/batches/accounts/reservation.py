"""A job's own way through the book: reserved before the first POST, settled when it is delivered."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from airflow_claude_batch.batches.accounts.admission import decide
from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.accounts.budgets import Use, Window, WindowBudget, window_at
from airflow_claude_batch.batches.accounts.entries import (
    ADMITTED,
    RELEASED,
    RESERVED,
    SENT,
    Line,
    account_of,
    booked_at,
    key_of,
    lines_of,
)
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import ClaudeBatchError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.answers import has_sent
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Booking, BookingState, Ledger
from airflow_claude_batch.batches.job.part import Way
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

WAYS: dict[Way, str] = {"batch": "batch", "direct": "direct", "reuse": "reused"}
"""What the lines of the book call the ways that parts are answered."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What a budget says to a job."""

    budget: WindowBudget
    window: Window
    use: Use
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """When it is, and what that means."""

    now: datetime.datetime
    """By the API's clock: those of workers differ."""
    zone: str
    """Name of the time zone whose days and months count."""
    expiry: datetime.timedelta
    """Age from which a reservation of a job that has sent nothing does not count any more."""

    @property
    def day(self) -> str:
        """Today."""
        return window_at("day", self.now, self.zone).name


def reserve(job: Job, budgets: Sequence[WindowBudget], calendar: Calendar) -> list[Ruling]:
    """Book what a job will cost by its estimate, unless a budget refuses.

    Args:
        job: Owned by this process, with an estimate.
        budgets: Those that it is subject to.
        calendar: When it is.

    Returns:
        What the budgets say; where the last one refuses, nothing is reserved. Empty where that was done.
    """
    ledger, old = job.ledger, job.ledger.booking
    fresh = Booking(
        day=calendar.day,
        at=calendar.now,
        pico=estimated_pico(ledger),
        budgets=[msgspec.to_builtins(budget) for budget in budgets],
    )
    if old is not None and _asks_nothing(ledger):  # it is settled, or will be, in its place
        _take_budgets(job, old, fresh)
        return []
    booking = _renewed(job, fresh, calendar)
    if booking.state is BookingState.ADMITTED:
        return []
    # What costs nothing fits into a budget that is used up.
    is_exempt = has_sent(job.folder, ledger) or booking.pico == 0
    rulings = admit(job, booking, budgets, calendar, is_exempt=is_exempt)
    if any(not ruling.passed for ruling in rulings):
        release(job)
    return rulings


def admit(
    job: Job,
    booking: Booking,
    budgets: Sequence[WindowBudget],
    calendar: Calendar,
    *,
    is_exempt: bool = False,
) -> list[Ruling]:
    """Write a reservation into the book, and have the budgets decide about it.

    Args:
        job: Owned by this process.
        booking: Its booking, or an addition to that; in the ledger already.
        budgets: Those that it is subject to.
        calendar: When it is.
        is_exempt: Whether none of them is asked.

    Returns:
        What they say; where the last one refuses, the caller has to take it back.
    """
    ledger, book, first = job.ledger, Book(job.root), job.ledger.booking
    assert first is not None
    key = key_of(ledger, first, None if booking is first else booking)
    account = account_of(ledger, budgets=sorted(budget.id for budget in budgets))
    book.reserve(booking.day, key, account, pico=booking.pico, job=ledger.job)
    # An addition is settled with the job, so it counts in the same days and months.
    rulings = [] if is_exempt else _ask(book, first.at, key, budgets, calendar, job.root)
    if any(not ruling.passed for ruling in rulings):
        return rulings
    if budgets:
        book.note(booking.day, key, ADMITTED)
    with job.change():
        booking.state = BookingState.ADMITTED
    return rulings


def _renewed(job: Job, fresh: Booking, calendar: Calendar) -> Booking:
    """The booking that a job has, or a new one where it has none that still holds."""
    old = job.ledger.booking
    if old is not None and old.state is not BookingState.RELEASED:
        same = (old.day, old.pico, old.budgets) == (fresh.day, fresh.pico, fresh.budgets)
        if has_sent(job.folder, job.ledger):
            _take_budgets(job, old, fresh)
            return old
        # Long before others take it for left behind.
        if same and calendar.now - old.at < calendar.expiry / 2:
            return old
    if old is not None:
        release(job)
        fresh.attempt = old.attempt + 1
    with job.change() as ledger:
        ledger.booking = fresh
    return fresh


def _take_budgets(job: Job, old: Booking, fresh: Booking) -> None:
    """One that was raised since holds for later rounds."""
    if old.budgets != fresh.budgets:
        with job.change():
            old.budgets = fresh.budgets


def _asks_nothing(ledger: Ledger) -> bool:
    """Whether all of a job is reused, delivered or given up."""
    return all(part.way == "reuse" or part.delivery or part.given_up for part in ledger.live_parts)


def estimated_pico(ledger: Ledger) -> int | None:
    """A job's estimate, at the price of the way that it goes; None where a price is not known."""
    as_batches = ledger.batch_parts or ledger.without_batches
    usd = ledger.estimate.get("total_usd" if as_batches else "standard_usd")
    return None if usd is None or ledger.estimate.get("unpriced_requests") else round(usd * PICO)


def _ask(
    book: Book,
    at: datetime.datetime,
    key: str,
    budgets: Sequence[WindowBudget],
    calendar: Calendar,
    root: Folder,
) -> list[Ruling]:
    rulings: list[Ruling] = []
    for budget in sorted(budgets, key=lambda budget: budget.id):
        window = window_at(budget.per, at, calendar.zone)

        def clear(window: Window = window) -> None:
            sweep(root, window, calendar)

        passed, use = decide(book, budget, window, key, sweep=clear)
        rulings.append(Ruling(budget=budget, window=window, use=use, passed=passed))
        if not passed:
            break
    return rulings


def release(job: Job) -> None:
    """Take back what a job has reserved, where it has sent nothing. The same again changes nothing."""
    booking = job.ledger.booking
    if booking is None or has_sent(job.folder, job.ledger):
        return
    if all(part.delivery for part in job.ledger.live_parts):  # all was reused: it is settled in its place
        return
    if booking.state is not BookingState.RELEASED:
        with job.change():
            booking.state = BookingState.RELEASED
    Book(job.root).note(booking.day, key_of(job.ledger, booking), RELEASED)
    _release_additions(job, booking)


def _release_additions(job: Job, booking: Booking) -> None:
    if any(addition.state is not BookingState.RELEASED for addition in booking.additions):
        with job.change():
            for addition in booking.additions:
                addition.state = BookingState.RELEASED
    for addition in booking.additions:
        if addition.pico:
            Book(job.root).note(addition.day, key_of(job.ledger, booking, addition), RELEASED)


def settle(job: Job, calendar: Calendar) -> list[Line]:
    """Book what a job has cost, in place of what it had reserved. The same again changes nothing.

    Args:
        job: All of whose parts are delivered.
        calendar: When it is, for jobs that nothing was reserved for.

    Returns:
        What it has cost, by model and way.
    """
    ledger = job.ledger
    if ledger.booking is None or ledger.booking.state is BookingState.RELEASED:
        attempt = 1 if ledger.booking is None else ledger.booking.attempt + 1
        with job.change():
            ledger.booking = Booking(day=calendar.day, at=calendar.now, attempt=attempt)
    booking = ledger.booking
    lines = _lines(ledger)
    account = account_of(ledger, lines=[line.kind for line in lines])
    Book(job.root).settle(booking.day, key_of(ledger, booking), account, lines, version=ledger.number)
    _release_additions(job, booking)
    return lines


def _lines(ledger: Ledger) -> list[Line]:
    """What the parts of a job came to; the estimate stands for answers without a known price."""
    lines = lines_of(
        (WAYS[part.way], spending)
        for part in ledger.parts
        if part.delivery is not None
        for spending in part.delivery.tally.spending
    )
    guess = estimated_pico(ledger)
    unpriced = [line for line in lines if line.unpriced]
    if unpriced and guess is not None:
        rest = max(guess - sum(line.pico for line in lines), 0)
        for line in unpriced:
            line.pico += rest // len(unpriced)
            line.standard_pico += rest // len(unpriced)
            line.uncached_pico += rest // len(unpriced)
            line.unpriced = 0
    return [*lines, *_reused(ledger)]


def _reused(ledger: Ledger) -> list[Line]:
    """What earlier jobs had paid for: nothing now, and what it would have cost."""
    tallies = [part.delivery.tally for part in ledger.parts if part.way == "reuse" and part.delivery]
    requests = sum(tally.delivered for tally in tallies)
    saved = sum(tally.saved_pico or 0 for tally in tallies)
    return [Line(way=WAYS["reuse"], requests=requests, standard_pico=saved)] if requests else []


def sweep(root: Folder, window: Window, calendar: Calendar) -> None:
    """Release what was reserved for jobs that have sent nothing for too long: their processes are dead.

    A reservation whose job has sent something stays until it is settled; so does one whose job was purged.

    Args:
        root: ``storage_path``.
        window: Where to look.
        calendar: When it is.
    """
    book = Book(root)
    for day, found in book.days(window.first, window.last).items():
        for key, reservation in found.open.items():
            if reservation.sent or calendar.now - booked_at(key) < calendar.expiry:
                continue
            step = SENT if _is_wanted(root, book, day, key) else RELEASED
            book.note(day, key, step)
            log.info("The reservation %s of %s is old: %s", key, day, step)


def _is_wanted(root: Folder, book: Book, day: str, key: str) -> bool:
    entry = book.entry(day, key, RESERVED)
    if entry is None:
        return False
    try:
        folder = root_relative(root, entry["job"])
        ledger = ledgers.load(folder)
    except ClaudeBatchError as error:  # damaged, or written under another name of this storage_path
        log.warning("It is not known whether %s has sent anything, so it counts: %s", entry["job"], error)
        return True
    if ledger is None:
        return True
    booking = ledger.booking
    if booking is None or not has_sent(folder, ledger):
        return False
    admitted = [one for one in booking.additions if one.state is BookingState.ADMITTED]
    return key in [key_of(ledger, booking), *(key_of(ledger, booking, one) for one in admitted)]
