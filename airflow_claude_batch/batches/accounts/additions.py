"""What a job costs beyond its first reservation: later rounds, and single calls at a deadline.

An addition is a reservation of its own, decided like the first one, and released when the job is settled.
Each purpose is decided once: a retry goes on with what was begun. Its amount is what the job will have cost
by then, less what is reserved for it; failures are not paid for, so that to send them again often adds
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.accounts.budgets import WindowBudget
from airflow_claude_batch.batches.accounts.entries import RELEASED, key_of
from airflow_claude_batch.batches.accounts.reservation import Calendar, Ruling, admit
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.answers import answer_files
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Booking, BookingState
from airflow_claude_batch.batches.job.part import Part, PartState


def unsent_parts(job: Job) -> list[Part]:
    """Parts of which nothing was asked yet."""
    return [part for number, part in enumerate(job.ledger.parts) if _is_unsent(job, number, part)]


def _is_unsent(job: Job, number: int, part: Part) -> bool:
    if part.split or part.rejected or part.delivery is not None:
        return False
    if part.way == "direct":
        begun = part.answered or part.given_up or answer_files(job.folder, number)
        return not begun
    return part.state is PartState.TO_SEND


def is_decided(job: Job, about: str) -> bool:
    """Whether the budgets have let an addition pass, and the job is not settled since."""
    booking = job.ledger.booking
    return booking is not None and any(one.about == about for one in _admitted(booking))


def is_settled(job: Job) -> bool:
    """Whether its costs are booked, and nothing was added since."""
    return _settled_pico(job) is not None


class Forecast(NamedTuple):
    """What a job comes to."""

    expected: int | None
    """What it will have cost when all of its parts are answered, in picodollars; None for not known."""
    held: int
    """What is reserved for it, or was paid for it before."""


def forecast(job: Job, estimate: Mapping[str, Any], direct: Collection[Part] = ()) -> Forecast:
    """What a job will have cost, and how much of that is reserved.

    Args:
        job: With a booking.
        estimate: Of what it sends.
        direct: Parts that are to be answered by single calls, though they may be in a batch now.
    """
    settled = _settled_pico(job)
    return Forecast(_expected_pico(job, estimate, direct, settled), _held_pico(job, settled))


def _expected_pico(
    job: Job, estimate: Mapping[str, Any], direct: Collection[Part], settled: int | None
) -> int | None:
    total = 0
    if settled is not None:  # what was delivered may be delivered again just now, and is not counted then
        parts, total = unsent_parts(job), settled
    else:
        parts = [part for part in job.ledger.live_parts if not part.given_up and part.way != "reuse"]
    for part in parts:
        price = _price_of(estimate, "direct" if part in direct else part.way)
        if price is None:
            return None
        if part.delivery is None:
            total += price * (part.request_count - part.moved)
            continue
        for spending in part.delivery.tally.spending:
            paid = spending.paid_pico
            total += price * spending.requests if paid is None else paid
    return total


def _held_pico(job: Job, settled: int | None) -> int:
    booking = job.ledger.booking
    assert booking is not None
    first = (booking.pico or 0) if settled is None else settled
    return first + sum(one.pico or 0 for one in _admitted(booking))


def add(job: Job, about: str, pico: int, budgets: Sequence[WindowBudget], calendar: Calendar) -> list[Ruling]:
    """Reserve what a job costs beyond what is reserved for it, unless a budget refuses.

    Args:
        job: Owned by this process, with a booking.
        about: What it is for; see :func:`is_decided`.
        pico: What it adds; where that is nothing, no budget is asked.
        budgets: Those that the job is subject to.
        calendar: When it is.

    Returns:
        What the budgets say; where the last one refuses, nothing is added.
    """
    booking = job.ledger.booking
    assert booking is not None
    fresh = Booking(
        day=booking.day,
        at=calendar.now,
        attempt=len(booking.additions) + 1,
        pico=max(pico, 0),
        budgets=[msgspec.to_builtins(budget) for budget in budgets],
        about=about,
        state=BookingState.RESERVED if pico > 0 else BookingState.ADMITTED,
    )
    addition = _renewed(job, booking, fresh, calendar)
    if addition.state is BookingState.ADMITTED:
        return []
    rulings = admit(job, addition, budgets, calendar)
    if any(not ruling.passed for ruling in rulings):
        _take_back(job, booking, addition)
    return rulings


def _renewed(job: Job, booking: Booking, fresh: Booking, calendar: Calendar) -> Booking:
    """The addition that a killed worker has begun, or else the new one."""
    for old in booking.additions:
        if old.state is not BookingState.RESERVED:
            continue
        same = (old.about, old.pico, old.budgets) == (fresh.about, fresh.pico, fresh.budgets)
        # Long before others take it for left behind.
        if same and calendar.now - old.at < calendar.expiry / 2:
            return old
        _take_back(job, booking, old)
    with job.change():
        booking.additions.append(fresh)
    return fresh


def _take_back(job: Job, booking: Booking, addition: Booking) -> None:
    with job.change():
        addition.state = BookingState.RELEASED
    Book(job.root).note(addition.day, key_of(job.ledger, booking, addition), RELEASED)


def _admitted(booking: Booking) -> list[Booking]:
    return [one for one in booking.additions if one.state is BookingState.ADMITTED]


def _settled_pico(job: Job) -> int | None:
    """What was paid in all; None where the job is not settled, or something was added since."""
    booking = job.ledger.booking
    if booking is None or _admitted(booking):
        return None
    return Book(job.root).settled_pico(booking.day, key_of(job.ledger, booking))


def _price_of(estimate: Mapping[str, Any], way: str) -> int | None:
    """What one request costs by the estimate, in picodollars."""
    usd: float | None = estimate.get("standard_usd" if way == "direct" else "total_usd")
    requests: int = estimate.get("requests", 0)
    if usd is None or estimate.get("unpriced_requests") or not requests:
        return None
    return round(usd * PICO / requests)
