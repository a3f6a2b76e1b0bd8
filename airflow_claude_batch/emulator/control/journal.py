"""The journal of API requests, so that tests count and wait instead of guessing."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter, deque
from typing import Literal

import msgspec

KEPT_ENTRIES = 50_000


class Entry(msgspec.Struct):
    """One API request; ``status`` is ``null`` while it waits for its answer."""

    n: int
    time: float
    """Seconds since the epoch, wall clock."""
    method: str
    path: str
    query: str
    key: str
    """Last four characters of the key."""
    status: int | Literal["dropped"] | None = None
    batch_id: str | None = None
    requests: int | None = None
    bytes: int = 0
    """Size of the request's body."""
    seconds: float | None = None
    """Time to the end of the answer."""


class Journal:
    """Keeps the last entries and, for ever, counters by method, path and status."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=KEPT_ENTRIES)
        self.counters: Counter[str] = Counter()
        self.received = 0
        self._changed = asyncio.Event()

    def open(self, method: str, path: str, query: str, key: str) -> Entry:
        """Record that a request has arrived."""
        self.received += 1
        entry = Entry(self.received, time.time(), method, path, query, key[-4:])
        self._entries.append(entry)
        self._wake()
        return entry

    def close(self, entry: Entry, status: int | Literal["dropped"]) -> None:
        """Record how it was answered; only the first call counts."""
        if entry.status is not None:
            return
        entry.status = status
        entry.seconds = time.time() - entry.time
        route = re.sub(r"(/(?:batches|models)/)[^/]+", r"\1{id}", entry.path)
        self.counters[f"{entry.method} {route} {status}"] += 1
        self._wake()

    def clear(self) -> None:
        """Forget everything, also what waits for its answer, and count from 1 again."""
        for entry in self._entries:
            entry.status = entry.status or "dropped"
        self._entries.clear()
        self.counters.clear()
        self.received = 0

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def since(
        self, n: int, method: str | None = None, path: str | None = None, *, waiting: bool = True
    ) -> list[Entry]:
        """Kept entries after number ``n`` that match; ``waiting=False`` leaves out those not yet answered."""
        pattern = re.compile(path or "")
        newer = itertools.takewhile(lambda entry: entry.n > n, reversed(self._entries))
        found = [
            entry
            for entry in newer
            if method in (None, entry.method)
            and pattern.search(entry.path)
            and (waiting or entry.status is not None)
        ]
        return found[::-1]

    async def wait(
        self, count: int, timeout: float, n: int, method: str | None, path: str | None, waiting: bool
    ) -> list[Entry]:
        """Like :meth:`since`, but returns when there are ``count`` of them, or the timeout (s) has passed."""
        deadline = time.monotonic() + timeout
        while True:
            changed = self._changed
            found = self.since(n, method, path, waiting=waiting)
            left = deadline - time.monotonic()
            if len(found) >= count or left <= 0:
                return found
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                continue
