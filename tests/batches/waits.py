"""Waiting in tests: batches to wait for, and a clock that hurries."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import anthropic

from airflow_claude_batch.batches.api.client import AsyncBatchesApi
from airflow_claude_batch.batches.waiting.poller import Poller
from airflow_claude_batch.batches.waiting.throttled_client import Clock
from airflow_claude_batch.batches.waiting.wait import Verdict, Wait
from airflow_claude_batch.emulator.testing import Emulator

PARAMS = {"model": "claude-haiku-4-5", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class FastClock(Clock):
    """A clock that runs so many times faster than the machine's."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._wall = datetime.datetime.now(datetime.UTC)
        self._start = time.monotonic()

    def now(self) -> datetime.datetime:
        return self._wall + datetime.timedelta(seconds=self.monotonic() - self._start)

    def monotonic(self) -> float:
        return self._start + (time.monotonic() - self._start) * self.speed

    def real(self, seconds: float) -> float:
        return seconds / self.speed


def create(emulator: Emulator, count: int = 1) -> list[str]:
    """Batches of one request each, oldest first."""
    body = json.dumps({"requests": [{"custom_id": "only", "params": PARAMS}]}).encode()
    return [json.loads(_post(f"{emulator.url}/v1/messages/batches", body))["id"] for _ in range(count)]


def _post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(url, body, {"x-api-key": "test-key", "content-type": "application/json"})
    with _direct.open(request, timeout=30) as response:
        answer: bytes = response.read()
    return answer


class Connection:
    """What an Airflow connection is to the poller; `key` may be rotated."""

    def __init__(self, emulator: Emulator, key: str = "test-key") -> None:
        self.url = emulator.url
        self.key = key
        self.clients: list[anthropic.AsyncAnthropic] = []

    async def connect(self) -> AsyncBatchesApi:
        client = anthropic.AsyncAnthropic(api_key=self.key, base_url=self.url)
        self.clients.append(client)
        return AsyncBatchesApi(client)


def wait_for(
    clock: Clock, ids: list[str], *, poll_interval: float | None = None, known: bool = True, **options: Any
) -> Wait:
    return Wait(batch_ids=ids, started_at=clock.now(), known=known, poll_interval=poll_interval, **options)


async def verdict_of(poller: Poller, wait: Wait, on_news: Callable[[], None] = lambda: None) -> Verdict:
    """Subscribe and stay until the wait is over."""
    with poller.subscribe(wait) as subscription:
        while (verdict := await subscription.notification()) is None:
            on_news()
    return verdict


def run(test: Coroutine[Any, Any, None], seconds: float = 30) -> None:
    """Run the test's coroutine on an event loop, bounded."""
    asyncio.run(asyncio.wait_for(test, seconds))


async def answered(emulator: Emulator, count: int, path: str | None = None, **options: Any) -> Any:
    """Wait, without stopping the loop, until the emulator has answered so many GETs."""
    return await asyncio.to_thread(emulator.wait_for, "GET", path, count=count, **options)


async def pass_time(clock: Clock, seconds: float) -> None:
    """Let so much of the clock's time go by."""
    await asyncio.sleep(clock.real(seconds))
