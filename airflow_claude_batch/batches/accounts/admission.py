"""Which reservations a budget lets pass, decided in one order although hundreds ask at the same moment.

Each budget and window has a sequence of numbered decisions, each of which one process only can create. Who
finds its reservation undecided reads the newest decision, then the book, and tries to create the next one:
about all reservations that it sees undecided, in the order of their keys, as far as they fit. Whoever created
it has decided for the others, too; who comes second reads it and tries again. So no two take the last
dollar, whatever the machines' clocks say, and two hundred need a few decisions only.

A reservation that would fit if another budget refused one that has passed here is not decided about for some
seconds: what the other gives back would be lost on it.

A decision holds what the book does not show yet: verdicts whose ``admitted`` or ``released`` is not written.
A kill in between leaves them there, until the retry writes it or the reservation is too old.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec

from airflow_claude_batch.batches.accounts.book import Book, create_next, newest
from airflow_claude_batch.batches.accounts.budgets import Use, Window, WindowBudget, use_of
from airflow_claude_batch.batches.errors import BookError

TRIES = 100
LONGEST_PAUSE = 0.4
"""Seconds between two tries, at the most."""
PATIENCE_SECONDS = 10.0
"""How long a reservation waits for what other budgets say about those that are in its way."""

Decision = dict[str, bool]
"""By key: whether the reservation has passed."""
_decode = msgspec.json.Decoder(Decision).decode


def decide(
    book: Book,
    budget: WindowBudget,
    window: Window,
    key: str,
    *,
    sweep: Callable[[], None] = lambda: None,
) -> tuple[bool, Use]:
    """Whether a reservation passes a budget.

    Args:
        book: Where it is written.
        budget: Which decides.
        window: The budget's, that the reservation is in.
        key: Of the reservation, which is in the book already.
        sweep: Called before one is refused: clears the book of what the dead have left.

    Returns:
        The verdict, and how much of the budget was used, this reservation included.

    Raises:
        BookError: When others always were first; a retry tries again.
    """
    folder = book.folder.child("budgets", budget.id, window.name)
    swept, began = False, time.monotonic()
    for attempt in range(TRIES):
        # In this order: a verdict that has left the newest decision is in the book.
        number, data = newest(folder)
        known: Decision = _decode(data) if data else {}
        use = use_of(budget, book.days(window.first, window.last).values())
        if key in use.admitted:
            return True, use
        if key not in use.undecided:  # another worker has taken the job over, and released it
            return False, use
        urgent = key if time.monotonic() - began > PATIENCE_SECONDS else ""
        decision = next_decision(budget, use, known, urgent)
        fresh = [passed for other, passed in decision.items() if other not in known]
        if not swept and not (key in decision and all(fresh)):
            swept = True
            sweep()
            continue
        if key not in decision:
            time.sleep(random.uniform(0, LONGEST_PAUSE))
            continue
        if key in known or create_next(folder, number + 1, msgspec.json.encode(decision)):
            return decision[key], use
        time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.02 * (attempt + 1))))
    raise BookError(f"Other jobs kept deciding about {budget} in {folder.url}. Nothing was sent.")


def next_decision(budget: WindowBudget, use: Use, known: Decision, urgent: str = "") -> Decision:
    """Verdicts about those that are undecided; ``use`` then holds those that pass as reserved.

    Args:
        budget: Which decides.
        use: Of it, so far.
        known: The newest decision.
        urgent: Key of one that gets its verdict even if that depends on other budgets.
    """
    decision = {key: passed for key, passed in known.items() if key in use.undecided}
    open_elsewhere = 0
    for key in sorted(use.undecided, key=lambda key: (key not in decision, key)):
        pico = use.undecided[key]
        if key not in decision:
            is_priced, room = pico is not None and not use.unpriced, budget.pico - use.pico
            if is_priced and room < (pico or 0) <= room + open_elsewhere and key != urgent:
                continue
            decision[key] = is_priced and (pico or 0) <= room
        if decision[key]:
            use.reserved += pico or 0
            open_elsewhere += (pico or 0) if key in use.elsewhere else 0
    return decision
