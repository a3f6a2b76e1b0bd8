"""Budgets over a day or a month: which costs one counts, and how much of it is used."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec
import pendulum

from airflow_claude_batch.batches.accounts.book import Day
from airflow_claude_batch.batches.accounts.entries import Account
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.ledger import short_hash


class WindowBudget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What may be spent in a day or a month, by whom."""

    max_usd: float
    per: str
    """``day`` or ``month``."""
    scope: str
    """Whose costs count; names its value (``tag:team=growth``), see :func:`scope_of`."""
    on_exceeded: str = "fail"
    """What a job does that does not fit: ``fail``, or ``wait`` for the next window."""
    warn_at: float = 0.8
    """Share of it that is worth an alert."""
    configured: bool = False
    """Whether it is no task's own: then the one that is configured now holds for what a job adds later."""

    @property
    def id(self) -> str:
        """Names what is counted and up to where; who counts the same decides together."""
        return short_hash(f"{self.per} {self.scope} {self.max_usd}")

    @property
    def pico(self) -> int:
        """The limit in picodollars."""
        return round(self.max_usd * PICO)

    def counts(self, account: Account) -> bool:
        """Whether an account's costs are within its scope."""
        kind = self.scope.partition("=")[0] if self.scope.startswith("tag:") else self.scope.partition(":")[0]
        return self.scope == scope_of(kind, account)

    def __str__(self) -> str:
        return f"the budget of ${self.max_usd:g} a {self.per} for {self.scope}"


def scope_of(scope: str, account: Account) -> str | None:
    """A scope with the value that it has for an account; None where the account is outside of it."""
    kind, _, name = scope.partition(":")
    if kind == "tag":
        tag, chosen, value = name.partition("=")
        own = account.tags.get(tag, "")  # those without the tag have one budget together
        return f"tag:{tag}={own}" if not chosen or value == own else None
    own = {"dag": account.dag_id, "connection": account.conn_id}.get(kind, "")
    if kind == "all":
        return "all"
    return f"{kind}:{own}" if name in ("", own) else None


@dataclass(frozen=True, kw_only=True)
class Window:
    """The day or month that a budget is about."""

    name: str
    """``2026-11-28`` or ``2026-11``."""
    first: str
    last: str
    begin: datetime.datetime
    end: datetime.datetime
    """The moment when the next one begins."""


def window_at(per: str, at: datetime.datetime, zone: str) -> Window:
    """The window of a moment.

    Args:
        per: ``day`` or ``month``.
        at: The moment.
        zone: Name of the time zone whose days count; they have 23 and 25 hours, too.
    """
    day = pendulum.instance(at).in_timezone(zone).date()
    first = day if per == "day" else day.replace(day=1)
    after = first.add(days=1) if per == "day" else first.add(months=1)
    return Window(
        name=first.isoformat() if per == "day" else first.strftime("%Y-%m"),
        first=first.isoformat(),
        last=after.subtract(days=1).isoformat(),
        begin=_midnight(first, zone),
        end=_midnight(after, zone),
    )


def _midnight(day: datetime.date, zone: str) -> datetime.datetime:
    """When a day begins: with the first of two midnights, or an hour later where clocks skip it."""
    first, second = (pendulum.datetime(day.year, day.month, day.day, tz=zone, fold=fold) for fold in (0, 1))
    return first if first.date() == day else second


@dataclass(kw_only=True)
class Use:
    """How much of a budget is used in a window, in picodollars."""

    settled: int = 0
    """What was paid."""
    reserved: int = 0
    """Estimates of what is under way."""
    unpriced: int = 0
    """Requests whose price is not known, nor was estimated."""
    undecided: dict[str, int | None] = field(default_factory=dict)
    """Reservations, by key, about which this very budget has not decided yet, as far as the book knows."""
    elsewhere: set[str] = field(default_factory=set)
    """Those of them that another budget may refuse once this one has let them pass."""
    admitted: set[str] = field(default_factory=set)
    """Those of its reservations that have passed all their budgets."""

    @property
    def pico(self) -> int:
        """All that counts."""
        return self.settled + self.reserved


def use_of(budget: WindowBudget, days: Iterable[Day]) -> Use:
    """How much of a budget the days of a window use.

    Args:
        budget: Which.
        days: The window's.
    """
    use = Use()
    for day in days:
        for account, line in day.settled():
            if budget.counts(account):
                use.settled += line.pico
                use.unpriced += line.unpriced
        for key, reservation in day.open.items():
            account = day.accounts[reservation.label]
            if not budget.counts(account):
                continue
            if budget.id in account.budgets and not reservation.admitted:
                use.undecided[key] = reservation.pico
                if any(other > budget.id for other in account.budgets):  # they are asked in this order
                    use.elsewhere.add(key)
                continue
            use.admitted.add(key)
            use.reserved += reservation.pico or 0
            use.unpriced += reservation.pico is None
    return use
