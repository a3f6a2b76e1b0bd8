"""The book of costs under ``storage_path/costs``: small files that are written once, and sums over them.

::

    costs/accounts/{label}.json               whose money: DAG, task, connection, tags
    costs/2026-11-28/entries/{key}.{step}.json  each step of each job, for good
    costs/2026-11-28/pending/{key}.{step}.…     the same in a name, until a roll-up has taken it in
    costs/2026-11-28/sums/000017.json           the roll-up: sums, and what is still open

A day's sum is its newest roll-up and the names that are pending since: two list calls and one read, however
many jobs there are. Whoever finds many pending makes the next roll-up, which one process only can create;
it knows which steps it holds, so that none counts twice, and only then are their names deleted. The day of
a job is that of its reservation, whenever it is settled.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from airflow_claude_batch.batches.accounts.entries import (
    ADMITTED,
    LONGEST_NAME,
    NUMBERS,
    RELEASED,
    RESERVED,
    SENT,
    SETTLED,
    Account,
    Line,
    Pending,
    difference,
    shortened,
)
from airflow_claude_batch.batches.errors import BookError
from airflow_claude_batch.batches.job.stored import side_by_side
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

ROLL_UP_FROM = 200
"""Pending entries that make a roll-up worth while."""
LOOKS_OF_WRITERS = 64
"""One of so many writers looks whether a roll-up is due, so that there is one where nobody reads."""
KEPT = 3
"""Roll-ups that are kept; the newest holds all that is in the others."""
AT_ONCE = 8
"""Days, or accounts, that are read at the same time."""

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBERED = re.compile(r"(\d{6,})\.json")
_T = TypeVar("_T")
_Result = TypeVar("_Result")


class Open(msgspec.Struct, omit_defaults=True):
    """A reservation that is neither settled nor released."""

    label: str
    pico: int | None = None
    """The estimate; None where it is not known."""
    admitted: bool = False
    """Whether the budgets that decide about it have let it pass."""
    sent: bool = False
    """Whether its job is known to have sent something."""


class Day(msgspec.Struct, omit_defaults=True):
    """What a day comes to."""

    accounts: dict[str, Account] = {}
    """By label."""
    sums: dict[str, list[int]] = {}
    """Settled numbers by label, in the order of its lines."""
    open: dict[str, Open] = {}
    """Reservations by key."""
    steps: dict[str, list[str]] = {}
    """The steps that are counted, by key."""

    def take(self, entry: Pending) -> None:
        """Count an entry, once."""
        steps = self.steps.setdefault(entry.key, [])
        if entry.step in steps:
            return
        steps.append(entry.step)
        reservation = self.open.get(entry.key)
        if entry.step == RESERVED:
            if not any(step == RELEASED or step.startswith(SETTLED) for step in steps):
                self.open[entry.key] = Open(
                    label=entry.label, pico=entry.numbers[0] if entry.numbers else None
                )
        elif entry.step == RELEASED:
            self.open.pop(entry.key, None)
        elif entry.step.startswith(SETTLED):
            self.open.pop(entry.key, None)
            sums = self.sums.setdefault(entry.label, [0] * len(entry.numbers))
            self.sums[entry.label] = [one + more for one, more in zip(sums, entry.numbers, strict=True)]
        elif reservation is not None:
            reservation.admitted = True
            reservation.sent = reservation.sent or entry.step == SENT

    def settled(self) -> Iterable[tuple[Account, Line]]:
        """All lines with the account that they are on."""
        width = len(NUMBERS)
        for label, sums in self.sums.items():
            account = self.accounts[label]
            for position, (model, way) in enumerate(account.lines):
                numbers = sums[position * width : (position + 1) * width]
                yield account, Line(model=model, way=way, **dict(zip(NUMBERS, numbers, strict=True)))


class Settlement(msgspec.Struct):
    """Content of a settled entry."""

    account: Account
    lines: list[Line]
    version: int = 0
    """Of the ledger that it was made from: what an older one says is over."""


_decode_settlement = msgspec.json.Decoder(Settlement).decode
_decode_day = msgspec.json.Decoder(Day).decode
_decode_account = msgspec.json.Decoder(Account).decode


class Book:
    """The book of one ``storage_path``.

    Args:
        root: ``storage_path``.
    """

    def __init__(self, root: Folder) -> None:
        self.folder = root.child("costs")
        self._accounts: dict[str, Account] = {}

    # Writing

    def reserve(self, day: str, key: str, account: Account, *, pico: int | None, job: str) -> None:
        """Write down what a job will cost at the most by its estimate, before it is sent.

        Args:
            day: Of the reservation.
            key: Of the reservation.
            account: Whose money it is.
            pico: The estimate; None where a price is not known.
            job: URL of the job.
        """
        content = {"account": account, "pico": pico, "job": job}
        numbers = () if pico is None else (pico,)
        self._write(
            day, Pending(key=key, step=RESERVED, label=account.label, numbers=numbers), content, account
        )

    def note(self, day: str, key: str, step: str) -> None:
        """Write down a step without numbers: that a reservation was admitted, sent or released."""
        assert step in (ADMITTED, SENT, RELEASED)
        self._write(day, Pending(key=key, step=step), {"step": step})

    def settle(
        self, day: str, key: str, account: Account, lines: Sequence[Line], *, version: int = 0
    ) -> None:
        """Write down what a job has cost; the same again changes nothing, and other numbers correct it.

        Args:
            day: Of the reservation.
            key: Of the reservation.
            account: Whose money it is.
            lines: By model and way.
            version: Of the ledger that says so; a worker that was frozen comes with an old one.
        """
        mine = Settlement(account, list(lines), version)
        number, last, before = 1, None, list[Line]()
        while True:
            found = self._settlement(day, key, number)
            if found is None:
                if last is not None and (last.version > version or last.lines == mine.lines):
                    return
                if not self._entries(day).create(f"{key}.{SETTLED}-{number}.json", _encode(mine)):
                    continue  # by another worker, meanwhile
                found = mine
            # Of others, too: a writer may have been killed before it came to this.
            self._point_at(day, key, number, found, before)
            number, last, before = number + 1, found, found.lines
            if last is mine:
                return

    def settled_pico(self, day: str, key: str) -> int | None:
        """What a job was last settled at, in picodollars; None where it is not."""
        number, last = 1, None
        while (found := self._settlement(day, key, number)) is not None:
            number, last = number + 1, found
        return None if last is None else sum(line.pico for line in last.lines)

    def _settlement(self, day: str, key: str, number: int) -> Settlement | None:
        try:
            return _decode_settlement(self._entries(day).read(f"{key}.{SETTLED}-{number}.json"))
        except FileNotFoundError:
            return None

    def _point_at(
        self, day: str, key: str, number: int, settlement: Settlement, before: Sequence[Line]
    ) -> None:
        step, account = f"{SETTLED}-{number}", settlement.account
        room = LONGEST_NAME - len(f"{key}.{step}.{account.label}.")
        short = shortened(difference(settlement.lines, before), room)
        labelled = msgspec.structs.replace(account, lines=[line.kind for line in short])
        numbers = tuple(number for line in short for number in line.numbers)
        self._list(day, Pending(key=key, step=step, label=labelled.label, numbers=numbers), labelled)

    def _write(
        self, day: str, entry: Pending, content: Mapping[str, Any], account: Account | None = None
    ) -> None:
        self._entries(day).create(f"{entry.key}.{entry.step}.json", _encode(content))
        self._list(day, entry, account)

    def _list(self, day: str, entry: Pending, account: Account | None) -> None:
        if account is not None:
            self._keep(account)
        self._pending(day).write(entry.name, b"", durable=False)
        if hash_of(entry) % LOOKS_OF_WRITERS == 0:
            self.day(day)

    def _keep(self, account: Account) -> None:
        if account.label not in self._accounts:
            self.folder.child("accounts").create(f"{account.label}.json", _encode(account))
            self._accounts[account.label] = account

    def entry(self, day: str, key: str, step: str) -> dict[str, Any] | None:
        """What was written down; None where nothing was."""
        try:
            content: dict[str, Any] = msgspec.json.decode(self._entries(day).read(f"{key}.{step}.json"))
        except FileNotFoundError:
            return None
        return content

    # Reading

    def days(self, first: str, last: str) -> dict[str, Day]:
        """The days of a period that have entries.

        Args:
            first: ``yyyy-mm-dd``.
            last: Likewise, the period's last.
        """
        names = [n for n in self.folder.names() if _DAY.fullmatch(n) and first <= n <= last]
        return dict(zip(names, _at_once(self.day, names), strict=True))

    def day(self, day: str) -> Day:
        """What a day comes to; rolls it up where that is due.

        Raises:
            BookError: Where it changes faster than it can be read.
        """
        for _ in range(10):
            # In this order: what vanishes from the first list is in the roll-ups of the second.
            names = self._pending(day).names()
            numbers = _versions(self._sums(day))
            try:
                found = self._rolled_up(day, numbers)
            except FileNotFoundError:  # a newer one exists by now
                continue
            entries = [entry for name in names if (entry := Pending.of(name)) is not None]
            self._look_up({entry.label for entry in entries if entry.label} - found.accounts.keys(), found)
            for entry in sorted(entries, key=lambda entry: entry.step != RESERVED):
                found.take(entry)
            if len(entries) >= ROLL_UP_FROM:
                self._roll_up(day, found, numbers[-1] + 1 if numbers else 1, names)
            return found
        raise BookError(f"The costs in {self.folder.url}/{day} change faster than they can be read.")

    def _rolled_up(self, day: str, numbers: list[int]) -> Day:
        if not numbers:
            return Day()
        return _decode_day(self._sums(day).read(_file_name(numbers[-1])))

    def _look_up(self, labels: set[str], found: Day) -> None:
        folder = self.folder.child("accounts")

        def read(label: str) -> Account:
            return _decode_account(folder.read(f"{label}.json"))

        unknown = sorted(labels - self._accounts.keys())
        self._accounts |= dict(zip(unknown, _at_once(read, unknown), strict=True))
        found.accounts |= {label: self._accounts[label] for label in labels}

    def _roll_up(self, day: str, found: Day, number: int, names: list[str]) -> None:
        """Keep what was read as the day's next roll-up, if nobody else has made one meanwhile."""
        if not create_next(self._sums(day), number, msgspec.json.encode(found)):
            return
        self._pending(day).remove_files(names)
        log.debug("Rolled up %s entries of %s", len(names), day)

    def _entries(self, day: str) -> Folder:
        return self.folder.child(day, "entries")

    def _pending(self, day: str) -> Folder:
        return self.folder.child(day, "pending")

    def _sums(self, day: str) -> Folder:
        return self.folder.child(day, "sums")


def create_next(folder: Folder, number: int, data: bytes) -> bool:
    """Create the next of numbered files, of which the highest counts.

    Returns:
        Whether it is this process's, and the highest. The oldest are deleted then.
    """
    created = folder.create(_file_name(number), data)
    numbers = _versions(folder)
    # Where the number was taken, deleted by its owner and is free again, a higher one exists.
    if not created or numbers[-1:] != [number]:
        if created and number in numbers:
            folder.remove_file(_file_name(number))
        return False
    for old in numbers[:-KEPT]:
        folder.remove_file(_file_name(old))
    return True


def newest(folder: Folder) -> tuple[int, bytes | None]:
    """The highest of numbered files, and its content; 0 and None where there is none."""
    for _ in range(10):
        numbers = _versions(folder)
        if not numbers:
            return 0, None
        with contextlib.suppress(FileNotFoundError):
            return numbers[-1], folder.read(_file_name(numbers[-1]))
    raise BookError(f"{folder.url} changes faster than it can be read.")


def _versions(folder: Folder) -> list[int]:
    return sorted(int(match[1]) for name in folder.names() if (match := _NUMBERED.fullmatch(name)))


def _file_name(number: int) -> str:
    return f"{number:06d}.json"


def _encode(content: Any) -> bytes:
    return msgspec.json.encode(content, order="sorted") + b"\n"


def hash_of(entry: Pending) -> int:
    """The same in every process."""
    return int(entry.key.split("-")[1][:6], 16)


def _at_once(work: Callable[[str], _Result], names: Sequence[str]) -> list[_Result]:
    return list(side_by_side(work, names, min(AT_ONCE, len(names))))
