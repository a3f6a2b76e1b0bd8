"""The poller's client of the API: few calls at a time, a pause when the API asks for one.

A refused key (401, 403) leads to a new client, made from the connection as it is then, so that a
rotated key is picked up without a restart.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from airflow_claude_batch.batches.api.client import AsyncBatchesApi
from airflow_claude_batch.batches.api.retry import BUSY
from airflow_claude_batch.batches.api.unlogged import unlogged
from airflow_claude_batch.batches.waiting.wait import retry_after

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 8
REBUILD_SECONDS = 30.0
"""Least time between two clients made for the same connection."""
BUSY_SECONDS = 15.0
"""Pause after 429 and 529 where the API names none."""

T = TypeVar("T")
Connect = Callable[[], Awaitable[AsyncBatchesApi]]


class Clock:
    """Time as the poller sees it; tests let it run faster than the machine's."""

    def now(self) -> datetime.datetime:
        """The wall clock."""
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def real(self, seconds: float) -> float:
        """How long the machine has to sleep for so many seconds."""
        return seconds


class Metrics(Protocol):
    """Where numbers go; names are relative to this package."""

    def incr(self, name: str, count: int = 1) -> None:
        """Count something."""

    def gauge(self, name: str, value: float) -> None:
        """Report how much there is of something now."""

    def timing(self, name: str, seconds: float) -> None:
        """Report how long something took."""


class NoMetrics:
    """Numbers that nobody wants."""

    def incr(self, name: str, count: int = 1) -> None:
        """Nothing."""

    def gauge(self, name: str, value: float) -> None:
        """Nothing."""

    def timing(self, name: str, seconds: float) -> None:
        """Nothing."""


class ThrottledClient:
    """Calls to the API for one connection, on one event loop.

    Args:
        connect: Makes a client from the connection as it is now. It raises ``WaitAccessError`` when
            the connection cannot be used at all, and must not block the event loop.
        clock: Time as the poller sees it.
        metrics: Where numbers go.
    """

    def __init__(self, connect: Connect, *, clock: Clock, metrics: Metrics) -> None:
        self._connect = connect
        self._clock = clock
        self._metrics = metrics
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._building = asyncio.Lock()
        self._api: AsyncBatchesApi | None = None
        self._built_at = float("-inf")
        self._refusal: Exception | None = None
        """Why there is no usable client; the same again until it is time to make a new one."""
        self._stale = False
        self._busy: Exception | None = None
        self._busy_until = float("-inf")

    @property
    def pause(self) -> float:
        """Seconds until the API may be called again; 0 for now."""
        return max(self._busy_until - self._clock.monotonic(), 0.0)

    async def call(self, request: Callable[[AsyncBatchesApi], Awaitable[T]]) -> T:
        """Make one call; while the API wants to be left alone, fail as the call did that it said so to."""
        async with self._slots:
            if self.pause and self._busy is not None:
                raise self._busy
            api = await self._client()
            self._metrics.incr("polls")
            try:
                with unlogged():  # what is new is logged, not each look
                    return await request(api)
            except Exception as error:
                self._note(error, api)
                raise

    async def close(self) -> None:
        """Release the connections."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    def _note(self, error: Exception, api: AsyncBatchesApi) -> None:
        status = getattr(error, "status_code", None)
        if status != 404:
            self._metrics.incr("poll_errors")
        if status in BUSY:
            pause = retry_after(error) or BUSY_SECONDS
            self._busy = error
            self._busy_until = max(self._busy_until, self._clock.monotonic() + pause)
        elif api is self._api and status in (401, 403):
            self._stale = True
            # A 403 may be about one batch; a 401 is about the key, and more calls cannot succeed.
            self._refusal = error if status == 401 else None

    async def _client(self) -> AsyncBatchesApi:
        async with self._building:
            due = self._clock.monotonic() - self._built_at >= REBUILD_SECONDS
            if not due and self._refusal is not None:
                raise self._refusal
            if self._api is None or (self._stale and due):
                await self._rebuild()
            assert self._api is not None
            return self._api

    async def _rebuild(self) -> None:
        self._built_at = self._clock.monotonic()
        if self._api is not None:
            log.info("The API refused the key; reading the connection again")
        await self.close()
        try:
            self._api = await self._connect()
        except Exception as error:
            self._refusal = error
            raise
        self._stale, self._refusal = False, None
