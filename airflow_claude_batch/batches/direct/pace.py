"""How many calls are under way, and when the next one may begin: what the API's answers say of its limits.

The width bounds the calls at one time. A refusal (429, 529) halves it, answers let it grow again. A quota
bounds the calls of a minute: the API tells with each answer what is left, and fills it again all the time; in
between it is counted here. All of it is told in numbers and seconds, so no two clocks are compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from airflow_claude_batch.batches.api.retry import BUSY, asked_seconds

KINDS = ("requests", "input-tokens", "output-tokens")
"""The API's limits, as its headers name them (source: its documentation of rate limits)."""
MINUTE = 60.0
CAUTION = 0.985
"""This share of a quota is used: a call too early costs more than one a little late."""
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds after a refusal that names none; doubled with each further one until a call is answered."""
MEMORY = 0.2
"""Weight of the newest answer in the average of what a call takes."""


@dataclass(kw_only=True)
class Quota:
    """What one limit still allows."""

    limit: float
    """A minute."""
    left: float
    at: float
    """When that was so, in seconds of `time.monotonic`."""
    cost: float = 1.0
    """What a call takes, on average."""

    def seconds(self, now: float) -> float:
        """How long until the next call may begin."""
        self.left = min(self.left + (now - self.at) * self._refill, self.limit)
        self.at = now
        return max(min(self.cost, self.limit) - self.left, 0.0) / self._refill

    def told(self, limit: float, remaining: float, unseen: int, now: float) -> None:
        """Take note of what the API says, which knows nothing of the ``unseen`` latest calls."""
        self.seconds(now)
        self.limit = limit
        self.left = min(self.left, remaining - unseen * self.cost)

    @property
    def _refill(self) -> float:
        """A second."""
        return max(self.limit, 1.0) * CAUTION / MINUTE


@dataclass(kw_only=True)
class Pace:
    """The pace of all calls of a process."""

    most: int
    """Calls at one time at the most."""
    quotas: dict[str, Quota] = field(default_factory=dict)
    _width: float = 0.0
    _calling: int = 0
    _begun: int = 0
    _last_cut: int = 0
    """The last call that had begun when the width was cut: what fails of those before is no news."""
    _refusals: int = 0
    """In a row."""
    _paused_until: float = 0.0
    _gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._width = float(self.most)

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncIterator[int]:
        """Wait until a call may begin; it is under way for the time of the block.

        Yields:
            The number of the call, by which its outcome is told.
        """
        async with self._gate:
            while (seconds := self._seconds()) > 0 or self._calling >= int(self._width):
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds or None):
                        await self._changed.wait()
            self._calling += 1
            self._begun += 1
            for quota in self.quotas.values():
                quota.left -= quota.cost
            number = self._begun
        try:
            yield number
        finally:
            self._calling -= 1
            self._changed.set()

    def answered(self, number: int, headers: Mapping[str, str], tokens: Mapping[str, float]) -> None:
        """A call was answered.

        Args:
            number: Of the call.
            headers: Of the answer.
            tokens: What it took of the limits, by their names.
        """
        self._refusals = 0
        self._width = min(self._width + 1 / self._width, self.most)
        self._listen(number, headers, tokens)

    def refused(self, number: int, error: Exception) -> None:
        """A call failed; the API may be busy."""
        response = getattr(error, "response", None)
        if response is not None:
            self._listen(number, response.headers, {})
        if getattr(error, "status_code", None) not in BUSY:
            return
        if number > self._last_cut:
            self._last_cut = self._begun
            self._refusals += 1
            self._width = max(self._width / 2, 1.0)
        self._paused_until = max(self._paused_until, time.monotonic() + self._pause(error))

    def _pause(self, error: Exception) -> float:
        asked = asked_seconds(error)
        if asked is not None:
            return asked
        return min(SHORTEST_PAUSE * 2.0 ** (self._refusals - 1), LONGEST_PAUSE) * random.uniform(0.75, 1.0)

    def _seconds(self) -> float:
        now = time.monotonic()
        waits = [quota.seconds(now) for quota in self.quotas.values()]
        return max([self._paused_until - now, *waits, 0.0])

    def _listen(self, number: int, headers: Mapping[str, str], tokens: Mapping[str, float]) -> None:
        now = time.monotonic()
        for kind in KINDS:
            limit = _number(headers.get(f"anthropic-ratelimit-{kind}-limit"))
            remaining = _number(headers.get(f"anthropic-ratelimit-{kind}-remaining"))
            if not limit or remaining is None:
                continue
            quota = self.quotas.get(kind)
            if quota is None:
                quota = self.quotas[kind] = Quota(limit=limit, left=remaining, at=now)
                quota.cost = tokens.get(kind, quota.cost)
            elif kind in tokens:
                quota.cost += MEMORY * (tokens[kind] - quota.cost)
            quota.told(limit, remaining, self._begun - number, now)


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
