"""One poll loop for all waits of a connection, in one process and event loop.

Each wait keeps its own cadence (`wait.Wait.next_look`). Waits that are due at about the same time are
looked at together, and a page of the list serves every wait whose batch is on it, due or not, so waits
that began at random moments soon share their looks. Waits come and go at any time; the loop starts with
the first and ends with the last, and closes its client then.

Who waits for what is `subscription`'s; here is when to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import logging
import random
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from airflow_claude_batch.batches.api.cancel import Cancellation, read_answer
from airflow_claude_batch.batches.api.client import AsyncBatchesApi, Batch
from airflow_claude_batch.batches.api.retry import retrying_async
from airflow_claude_batch.batches.waiting.status_fetcher import StatusFetcher, Wanted
from airflow_claude_batch.batches.waiting.subscription import Subscription, Subscriptions
from airflow_claude_batch.batches.waiting.throttled_client import (
    Clock,
    Connect,
    Metrics,
    NoMetrics,
    ThrottledClient,
)
from airflow_claude_batch.batches.waiting.wait import SHORTEST_SECONDS, Wait

log = logging.getLogger(__name__)

EARLY = 0.25
"""A wait is looked at together with others up to this fraction of its interval before it is due."""
SHORTEST_TICK = 0.05
LONGEST_SLEEP = 60.0
NOTIFIED_AT_ONCE = 50
"""Waits that are notified before the event loop gets its turn again."""
NOTIFY_SECONDS = 600.0
"""A wait without news is told at least this often that it goes on, looks permitting."""
CANCEL_RETRIES, CANCEL_SHORTEST, CANCEL_LONGEST = 2, 2.0, 10.0
"""Who cancels has half a minute, see `triggers.killing`."""
NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


class Poller:
    """Looks at the batches of all waits that have subscribed.

    Args:
        connect: Makes a client, see `throttled_client.ThrottledClient`.
        clock: Tests let it run faster.
        metrics: Where numbers go; None for nowhere.
        on_end: Called when the last wait has left.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock or Clock()
        self._metrics = metrics or NoMetrics()
        self._on_end = on_end
        self._client = ThrottledClient(connect, clock=self._clock, metrics=self._metrics)
        self._fetcher = StatusFetcher(client=self._client, found=self._found, failed=self._failed)
        self._subscriptions = Subscriptions(added=self._begin, removed=self._end_if_alone)
        self._kept_open = 0
        self._looks: set[asyncio.Task[None]] = set()
        self._listing = asyncio.Lock()
        self._listed = (float("-inf"), NEVER, list[Batch]())
        self._next_tick = float("inf")
        self._wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """The loop; None before the first wait."""

    def subscribe(self, wait: Wait, *, quiet_seconds: float = 0.0) -> Subscription:
        """Have a wait looked after for the time of a ``with`` block.

        Args:
            wait: Its batches are looked at until it is over.
            quiet_seconds: No first look before.
        """
        subscription = Subscription(wait, self._subscriptions)
        subscription.interval = wait.next_look(self._clock.now())
        # Jitter, so that waits which begin together (a restart) do not call together.
        first = max(min(subscription.interval, SHORTEST_SECONDS) * random.uniform(0.7, 1.0), quiet_seconds)
        subscription.notified_at = self._clock.monotonic()
        subscription.due = subscription.notified_at + first
        return subscription

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the loop and its client for the time of the block, without a wait."""
        self._kept_open += 1
        self._ensure_running()
        try:
            yield
        finally:
            self._kept_open -= 1
            self._end_if_alone()

    async def cancel(self, batch_ids: list[str]) -> list[Cancellation]:
        """Ask for batches to be cancelled, each up to three times."""
        with self.kept_open():
            return await asyncio.gather(*(self._cancel(batch_id) for batch_id in batch_ids))

    async def list_since(self, start: datetime.datetime, max_age: float) -> list[Batch]:
        """Batches of the workspace created after ``start``, newest first.

        Args:
            start: Where the list ends.
            max_age: Seconds that another's listing may be old, to be shared.
        """
        async with self._listing:
            listed_at, listed_from, batches = self._listed
            if self._clock.monotonic() - listed_at > max_age or listed_from > start:
                listed_at, batches = self._clock.monotonic(), await self._fetcher.list_since(start)
                self._listed = listed_at, start, batches
        return [batch for batch in batches if batch.created_at >= start]

    async def _cancel(self, batch_id: str) -> Cancellation:
        async def request(api: AsyncBatchesApi) -> Batch:
            return await api.cancel(batch_id)

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(self._clock.real(seconds))

        retry = retrying_async(
            CANCEL_RETRIES, sleep=sleep, known=True, shortest=CANCEL_SHORTEST, longest=CANCEL_LONGEST
        )
        try:
            return read_answer(batch_id, await retry(self._client.call, request))
        except Exception as error:  # noqa: BLE001  # each batch for itself
            return read_answer(batch_id, error)

    # The loop, from the first subscription to the last

    def _begin(self, subscription: Subscription) -> None:
        self._ensure_running()
        if subscription.due < self._next_tick:
            self._wake.set()

    def _ensure_running(self) -> None:
        if self.task is None:
            # A context of its own: what the loop logs is not the first wait's.
            self.task = asyncio.create_task(
                self._run(), name="claude-batch-poller", context=contextvars.Context()
            )

    def _end_if_alone(self) -> None:
        if not self._is_wanted:
            self._on_end()
            self._wake.set()

    @property
    def _is_wanted(self) -> bool:
        return bool(self._subscriptions) or self._kept_open > 0

    async def _run(self) -> None:
        try:
            while self._is_wanted:
                try:
                    self._tick()
                except Exception:
                    log.exception("The poller has met an error of its own; waiting goes on")
                    self._next_tick = self._clock.monotonic() + SHORTEST_SECONDS
                await self._sleep()
        finally:
            for look in self._looks:
                look.cancel()
            await self._client.close()

    async def _sleep(self) -> None:
        seconds = min(max(self._next_tick - self._clock.monotonic(), SHORTEST_TICK), LONGEST_SLEEP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._clock.real(seconds)):
                await self._wake.wait()
        self._wake.clear()

    # When to look

    def _tick(self) -> None:
        """Begin a look where one is due, and set the time of the next tick."""
        now = self._clock.monotonic()
        self._report()
        resting = [one for one in self._subscriptions if one.resting]
        if any(one.due <= now for one in resting):
            due = [one for one in resting if one.due - EARLY * one.interval <= now]
            if self._client.pause:
                self._postpone(due)
            else:
                self._begin_look(due)
        self._next_tick = min((one.due for one in resting if one.resting), default=float("inf"))

    def _postpone(self, subscriptions: list[Subscription]) -> None:
        """The API wants to be left alone: only the clock can end a wait now."""
        moment, now = self._clock.monotonic(), self._clock.now()
        for one in subscriptions:
            one.verdict = one.wait.verdict(now)
            if one.verdict:
                one.notify(moment)
            one.due = moment + self._client.pause
            if one.wait.timeout_at:
                left = (one.wait.timeout_at - now).total_seconds()
                one.due = min(one.due, moment + max(left, SHORTEST_TICK))

    def _begin_look(self, subscriptions: list[Subscription]) -> None:
        for one in subscriptions:
            one.looking = True
        look = asyncio.create_task(self._look(subscriptions), name="claude-batch-look")
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _look(self, subscriptions: list[Subscription]) -> None:
        try:
            await self._fetcher.fetch(_wanted(subscriptions), self._clock.now().timestamp())
        except Exception:
            log.exception("A look has met an error of our own; waiting goes on")
        # Never later than the interval; one factor for all, so that they stay together.
        jitter = random.uniform(0.9, 1.0)
        for index, one in enumerate([*subscriptions, *self._subscriptions.take_served()], 1):
            self._after_look(one, jitter)
            if index % NOTIFIED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._wake.set()

    def _after_look(self, one: Subscription, jitter: float) -> None:
        """Say what the look has shown, and set the time of the next one."""
        if one.verdict is None:
            moment, now = self._clock.monotonic(), self._clock.now()
            one.verdict = one.wait.verdict(now)
            if one.looking or len(one.wait.batch_ids) == 1:
                one.interval = one.wait.next_look(now) * jitter
                one.due = moment + one.interval
            if one.verdict or one.has_news or moment - one.notified_at >= NOTIFY_SECONDS:
                one.notify(moment)
        one.looking = False

    # What a look finds

    def _found(self, batch: Batch) -> None:
        if self._subscriptions.found(batch) and batch.ended_at:
            self._metrics.timing("batch_duration", (batch.ended_at - batch.created_at).total_seconds())

    def _failed(self, error: Exception, batch_ids: list[str], by_id: bool) -> None:
        self._subscriptions.failed(error, batch_ids, by_id, self._clock.now())

    def _report(self) -> None:
        self._metrics.gauge("waits", len(self._subscriptions))
        if self._subscriptions:
            oldest = min(one.wait.started_at for one in self._subscriptions)
            self._metrics.gauge("oldest_wait_seconds", (self._clock.now() - oldest).total_seconds())


def _wanted(subscriptions: list[Subscription]) -> list[Wanted]:
    """What to look at for these waits, each batch once."""
    wanted: dict[str, Wanted] = {}
    for wait in (one.wait for one in subscriptions):
        for batch_id in wait.open_ids:
            batch = wait.batches.get(batch_id)
            wanted[batch_id] = Wanted(
                batch_id,
                (batch.created_at if batch else wait.started_at).timestamp(),
                seen=batch is not None,
                missing=batch is None and batch_id in wait.missing,
            )
    return list(wanted.values())


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


def shared_poller(
    conn_id: str, connect: Connect, *, metrics: Metrics | None = None, clock: Clock | None = None
) -> Poller:
    """The poller of this connection on the running event loop; a new one where there is none.

    Subscribe before the next ``await``: it is forgotten once its last wait has left.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in pollers:

        def forget() -> None:
            if pollers.get(conn_id) is poller:
                del pollers[conn_id]

        poller = pollers[conn_id] = Poller(connect, metrics=metrics, clock=clock, on_end=forget)
    return pollers[conn_id]
