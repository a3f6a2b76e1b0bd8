"""What the book is made of: accounts, lines, and the names of pending entries.

A step of a job (``reserved``, ``admitted``, ``sent``, ``released``, ``settled-1`` …) is written once, as
``entries/{key}.{step}.json``, for people and for good. Beside it lies an empty file in ``pending/`` whose
name has all the numbers, so that one list call reads a thousand of them. A roll-up takes them in.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from airflow_claude_batch.batches.cost.spending import Spending
from airflow_claude_batch.batches.job.ledger import Booking, Ledger, short_hash

RESERVED, ADMITTED, SENT, RELEASED, SETTLED = "reserved", "admitted", "sent", "released", "settled"
LONGEST_NAME = 230
"""Of a pending entry; local disks take 255 bytes."""
NOTHING = "+"
"""In a name, in place of what there is none of: some stores take no name that ends with a dot."""
OTHERS = "others"
"""The model of what a name has no room for."""
_EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whose money it is, and what the numbers of an entry are about."""

    dag_id: str = ""
    task_id: str = ""
    conn_id: str = ""
    tags: dict[str, str] = {}
    lines: list[tuple[str, str]] = []
    """Of a settled entry: a model and a way (``batch``, ``direct``, ``reused``) for each line of numbers."""
    budgets: list[str] = []
    """Of a reservation: the budgets that decide about it."""

    @property
    def label(self) -> str:
        """Names it in file names."""
        return short_hash(msgspec.json.encode(self, order="sorted").decode())[:16]


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Costs of one model that came one way, in picodollars."""

    model: str = ""
    way: str = "batch"
    requests: int = 0
    pico: int = 0
    standard_pico: int = 0
    """What the same answers would have cost outside a batch."""
    uncached_pico: int = 0
    """What they would have cost this way without the prompt cache."""
    unpriced: int = 0
    """Requests without a known price, which no estimate stands for either."""

    @property
    def numbers(self) -> list[int]:
        """In the order of their names in a file name."""
        return [getattr(self, name) for name in NUMBERS]

    @property
    def kind(self) -> tuple[str, str]:
        """Model and way."""
        return self.model, self.way


NUMBERS = ("requests", "pico", "standard_pico", "uncached_pico", "unpriced")


@dataclass(frozen=True, kw_only=True)
class Pending:
    """An entry, read from its name."""

    key: str
    step: str
    label: str = ""
    numbers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Of its file."""
        numbers = "_".join(map(to_base36, self.numbers))
        return ".".join([self.key, self.step, self.label or NOTHING, numbers or NOTHING])

    @classmethod
    def of(cls, name: str) -> Pending | None:
        """None for a file that is none of ours."""
        fields = name.split(".")
        if len(fields) != 4:
            return None
        key, step, label, numbers = (field.removeprefix(NOTHING) for field in fields)
        try:
            return cls(
                key=key,
                step=step,
                label=label,
                numbers=tuple(int(number, 36) for number in numbers.split("_") if number),
            )
        except ValueError:
            return None


def to_base36(number: int) -> str:
    """A whole number in few characters."""
    sign, rest, digits = "-" if number < 0 else "", abs(number), ""
    while rest:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return sign + (digits or "0")


def key_of(ledger: Ledger, booking: Booking, addition: Booking | None = None) -> str:
    """Names the reservation of a job: the same for its retries, clears and workers.

    It begins with the minute of the reservation, so that keys sort by age.

    Args:
        ledger: Of the job.
        booking: The job's.
        addition: To name what was reserved beyond that.
    """
    minutes = int(((addition or booking).at - _EPOCH).total_seconds() // 60)
    key = f"{to_base36(minutes).rjust(6, '0')}-{short_hash(ledger.job)}-{booking.attempt}"
    return key if addition is None else f"{key}-{addition.attempt}"


def booked_at(key: str) -> datetime.datetime:
    """When a reservation was made, to the minute."""
    return _EPOCH + datetime.timedelta(minutes=int(key.partition("-")[0], 36))


def account_of(ledger: Ledger, **about: list[tuple[str, str]] | list[str]) -> Account:
    """Whose money a job spends."""
    base = Account(
        dag_id=ledger.dag_id, task_id=ledger.task_id, conn_id=ledger.conn_id, tags=dict(ledger.tags)
    )
    return msgspec.structs.replace(base, **about)


def lines_of(spendings: Iterable[tuple[str, Spending]]) -> list[Line]:
    """Lines by model and way from what parts came to.

    Args:
        spendings: Each with the way that its answers came.
    """
    found: dict[tuple[str, str], Line] = {}
    for way, spending in spendings:
        line = found.setdefault((spending.model, way), Line(model=spending.model, way=way))
        line.requests += spending.requests
        if spending.paid_pico is None:
            line.unpriced += spending.requests
            continue
        line.pico += spending.paid_pico
        line.standard_pico += spending.standard_pico or 0
        line.uncached_pico += spending.uncached_pico or 0
    return [found[kind] for kind in sorted(found)]


def difference(lines: Sequence[Line], before: Sequence[Line]) -> list[Line]:
    """What has to be added to ``before`` to make it ``lines``."""
    sums = {line.kind: Line(model=line.model, way=line.way) for line in (*lines, *before)}
    for sign, some in ((1, lines), (-1, before)):
        for line in some:
            add(sums[line.kind], line, sign)
    return [sums[kind] for kind in sorted(sums) if any(sums[kind].numbers)]


def add(line: Line, other: Line, sign: int = 1) -> None:
    """Add the numbers of another line."""
    for name in NUMBERS:
        setattr(line, name, getattr(line, name) + sign * getattr(other, name))


def shortened(lines: Sequence[Line], room: int) -> list[Line]:
    """The same sums in a name of so many characters: the least of the lines become one."""
    kept, other = sorted(lines, key=lambda line: abs(line.pico), reverse=True), dict[str, Line]()
    while sum(len("_".join(map(to_base36, line.numbers))) + 1 for line in (*kept, *other.values())) > room:
        if len(kept) <= 1:
            break
        least = kept.pop()
        add(other.setdefault(least.way, Line(model=OTHERS, way=least.way)), least)
    return sorted([*kept, *other.values()], key=lambda line: line.kind)
