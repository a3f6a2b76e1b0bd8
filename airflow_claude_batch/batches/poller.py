"""One poll loop for all waits of a connection, in one process and event loop.

Each wait keeps its own cadence (`polling.Wait.next_look`). Waits that are due at about the same time are
looked at together, and a page of the list serves every wait whose batch is on it, due or not, so waits
that began at random moments soon share their looks. Waits come and go at any time; the loop starts with
the first and ends with the last, and closes its client then.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Self
from weakref import WeakKeyDictionary

from airflow_claude_batch.batches.api import AsyncBatchesApi, Batch
from airflow_claude_batch.batches.errors import WaitAccessError
from airflow_claude_batch.batches.gateway import Clock, Gateway, Metrics, NoMetrics
from airflow_claude_batch.batches.polling import SHORTEST_SECONDS, Verdict, Wait
from airflow_claude_batch.batches.sweep import Sweeper, Wanted

log = logging.getLogger(__name__)

EARLY = 0.25
"""A wait is looked at together with others up to this fraction of its interval before it is due."""
SHORTEST_TICK = 0.05
LONGEST_SLEEP = 60.0
RESUMED_AT_ONCE = 50
"""Waits that are told news before the event loop gets its turn again."""
TELL_SECONDS = 600.0
"""A wait without news is told at least this often that it goes on, looks permitting."""
CANCEL_TRIES = 3
NEVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)

Connect = Callable[[], Awaitable[AsyncBatchesApi]]


class Seat:
    """One wait's place at the poller, for the time of a ``with`` block.

    There may be ten thousand, and each object that the garbage collector has to visit makes it stop the
    event loop for longer: so this is its own context manager, and :meth:`news` no coroutine.
    """

    __slots__ = (
        "_news",
        "_poller",
        "_rung",
        "due",
        "fresh",
        "interval",
        "looking",
        "told",
        "verdict",
        "wait",
    )

    def __init__(self, poller: Poller, wait: Wait, now: float, first: float, interval: float) -> None:
        self.wait = wait
        self.due = now + first
        self.interval = interval
        self.looking = False
        self.fresh = False
        """Something has changed that the wait was not told yet."""
        self.told = now
        self.verdict: Verdict | None = None
        self._poller = poller
        self._rung = False
        self._news: asyncio.Future[Verdict | None] | None = None

    def __enter__(self) -> Self:
        self._poller.admit(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._poller.leave(self)

    def news(self) -> asyncio.Future[Verdict | None]:
        """Done when there is something to tell; its result is how the wait has ended, if it has."""
        self._news = asyncio.get_running_loop().create_future()
        if self._rung:
            self._tell()
        return self._news

    def ring(self, now: float) -> None:
        """Wake who waits for :meth:`news`, now or the next time."""
        self.fresh, self.told, self._rung = False, now, True
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._rung = False
            self._news.set_result(self.verdict)


class Poller:
    """Looks at the batches of all waits that have joined.

    :param connect: see `gateway.Gateway`
    :param on_end: called when the last wait has left
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
        self._gateway = Gateway(connect, clock=self._clock, metrics=self._metrics)
        self._sweeper = Sweeper(gateway=self._gateway, found=self._found, failed=self._failed)
        self._seats: dict[Seat, None] = {}
        self._by_id: dict[str, list[Seat]] = {}
        self._touched: dict[Seat, None] = {}
        """Waits that a look has found news for, whether it was theirs or not."""
        self._sweeps: set[asyncio.Task[None]] = set()
        self._guests = 0
        self._listing = asyncio.Lock()
        self._listed = (float("-inf"), NEVER, list[Batch]())
        self._next_tick = float("inf")
        self._wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """The loop; None before the first wait."""

    def join(self, wait: Wait, *, quiet_seconds: float = 0.0) -> Seat:
        """Have a wait looked after for the time of a ``with`` block.

        :param quiet_seconds: no first look before
        """
        now = self._clock.now()
        interval = wait.next_look(now)
        # Jitter, so that waits which begin together (a restart) do not call together.
        first = max(min(interval, SHORTEST_SECONDS) * random.uniform(0.7, 1.0), quiet_seconds)
        return Seat(self, wait, self._clock.monotonic(), first, interval)

    async def cancel(self, batch_ids: list[str]) -> dict[str, Exception]:
        """Ask for batches to be cancelled, each up to three times; returns those for which it failed."""
        with self.stay():
            results = await asyncio.gather(*(self._cancel(batch_id) for batch_id in batch_ids))
        return {batch_id: error for batch_id, error in zip(batch_ids, results, strict=True) if error}

    async def list_since(self, start: datetime.datetime, max_age: float) -> list[Batch]:
        """Batches of the workspace created after ``start``, newest first.

        :param max_age: seconds that another's listing may be old, to be shared
        """
        async with self._listing:
            listed_at, listed_from, batches = self._listed
            if self._clock.monotonic() - listed_at > max_age or listed_from > start:
                listed_at, batches = self._clock.monotonic(), await self._sweeper.list_since(start)
                self._listed = listed_at, start, batches
        return [batch for batch in batches if batch.created_at >= start]

    # Membership

    def admit(self, seat: Seat) -> None:
        """Begin to look for a wait."""
        self._seats[seat] = None
        for batch_id in seat.wait.batch_ids:
            self._by_id.setdefault(batch_id, []).append(seat)
        self._awake(seat.due)

    def leave(self, seat: Seat) -> None:
        """Look no more for a wait; the last one ends the loop."""
        del self._seats[seat]
        self._touched.pop(seat, None)
        for batch_id in seat.wait.batch_ids:
            others = self._by_id[batch_id]
            others.remove(seat)
            if not others:
                del self._by_id[batch_id]
        self._end_if_alone()

    @contextlib.contextmanager
    def stay(self) -> Iterator[None]:
        """Keep the poller and its client for the time of the block, without a wait."""
        self._guests += 1
        self._awake(float("inf"))
        try:
            yield
        finally:
            self._guests -= 1
            self._end_if_alone()

    def _awake(self, due: float) -> None:
        if self.task is None:
            # A context of its own: what the loop logs is not the first wait's.
            self.task = asyncio.create_task(
                self._run(), name="claude-batch-poller", context=contextvars.Context()
            )
        if due < self._next_tick:
            self._wake.set()

    def _end_if_alone(self) -> None:
        if not self._seats and not self._guests:
            self._on_end()
            self._wake.set()

    # The loop

    async def _run(self) -> None:
        try:
            while self._seats or self._guests:
                try:
                    self._tick()
                except Exception:
                    log.exception("The poller stumbled; waiting goes on")
                    self._next_tick = self._clock.monotonic() + SHORTEST_SECONDS
                await self._sleep()
        finally:
            for sweep in self._sweeps:
                sweep.cancel()
            await self._gateway.close()

    async def _sleep(self) -> None:
        seconds = min(max(self._next_tick - self._clock.monotonic(), SHORTEST_TICK), LONGEST_SLEEP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._clock.real(seconds)):
                await self._wake.wait()
        self._wake.clear()

    def _tick(self) -> None:
        now = self._clock.monotonic()
        self._report()
        idle = [seat for seat in self._seats if not seat.looking and seat.verdict is None]
        if any(seat.due <= now for seat in idle):
            due = [seat for seat in idle if seat.due - EARLY * seat.interval <= now]
            if self._gateway.pause:
                self._hold_back(due)
            else:
                self._start(due)
        self._next_tick = min(
            (seat.due for seat in idle if not seat.looking and seat.verdict is None), default=float("inf")
        )

    def _hold_back(self, seats: list[Seat]) -> None:
        """The API wants to be left alone: only the clock can end a wait now."""
        moment, now = self._clock.monotonic(), self._clock.now()
        for seat in seats:
            seat.verdict = seat.wait.verdict(now)
            if seat.verdict:
                seat.ring(moment)
            seat.due = moment + self._gateway.pause
            if seat.wait.timeout_at:
                left = (seat.wait.timeout_at - now).total_seconds()
                seat.due = min(seat.due, moment + max(left, SHORTEST_TICK))

    def _start(self, seats: list[Seat]) -> None:
        for seat in seats:
            seat.looking = True
        sweep = asyncio.create_task(self._look(seats), name="claude-batch-look")
        self._sweeps.add(sweep)
        sweep.add_done_callback(self._sweeps.discard)

    async def _look(self, seats: list[Seat]) -> None:
        now = self._clock.now()
        try:
            await self._sweeper.look(self._wanted(seats), now.timestamp())
        except Exception:
            log.exception("A look failed unexpectedly; waiting goes on")
        others = [seat for seat in self._touched if not seat.looking]
        self._touched.clear()
        # Never later than the interval; one factor for all, so that they stay together.
        await self._settle([*seats, *others], jitter=random.uniform(0.9, 1.0))

    def _wanted(self, seats: list[Seat]) -> list[Wanted]:
        wanted: dict[str, Wanted] = {}
        for seat in seats:
            wait = seat.wait
            for batch_id in wait.open_ids:
                batch = wait.batches.get(batch_id)
                created = batch.created_at if batch else wait.started_at
                wanted[batch_id] = Wanted(
                    batch_id,
                    created.timestamp(),
                    seen=batch is not None,
                    missing=batch is None and batch_id in wait.missing,
                )
        return list(wanted.values())

    async def _settle(self, seats: list[Seat], jitter: float) -> None:
        for index, seat in enumerate(seats, 1):
            if seat.verdict is None:
                moment, now = self._clock.monotonic(), self._clock.now()
                seat.verdict = seat.wait.verdict(now)
                if seat.looking or len(seat.wait.batch_ids) == 1:
                    seat.interval = seat.wait.next_look(now) * jitter
                    seat.due = moment + seat.interval
                if seat.verdict or seat.fresh or moment - seat.told >= TELL_SECONDS:
                    seat.ring(moment)
            seat.looking = False
            if index % RESUMED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._wake.set()

    # What a look finds

    def _found(self, batch: Batch) -> None:
        for seat in self._by_id.get(batch.id, ()):
            news = seat.wait.saw(batch)
            seat.fresh |= news
            # A wait for one batch has had its look; a longer one keeps its time for the others.
            if news or len(seat.wait.batch_ids) == 1:
                self._touched[seat] = None
            if news and batch.ended_at:
                self._metrics.timing("batch_duration", (batch.ended_at - batch.created_at).total_seconds())

    def _failed(self, error: Exception, batch_ids: list[str], by_id: bool) -> None:
        now = self._clock.now()
        seats = {seat: batch_id for batch_id in batch_ids for seat in self._by_id.get(batch_id, ())}
        for seat, batch_id in seats.items():
            if isinstance(error, WaitAccessError):
                news = seat.wait.unusable(str(error), now)
            else:
                news = seat.wait.failed(error, now, batch_id if by_id else None)
            seat.fresh |= news

    async def _cancel(self, batch_id: str) -> Exception | None:
        def request(api: AsyncBatchesApi) -> Awaitable[Batch]:
            return api.cancel(batch_id)

        failure: Exception | None = None
        for attempt in range(CANCEL_TRIES):
            if attempt:
                await asyncio.sleep(self._clock.real(2.0**attempt * random.uniform(0.5, 1.0)))
            try:
                await self._gateway.call(request)
            except Exception as error:  # noqa: BLE001  # reported by the caller
                failure = error
                if getattr(error, "status_code", None) in (400, 404, 409):
                    return failure
            else:
                return None
        return failure

    def _report(self) -> None:
        self._metrics.gauge("waits", len(self._seats))
        if self._seats:
            oldest = min(seat.wait.started_at for seat in self._seats)
            self._metrics.gauge("oldest_wait_seconds", (self._clock.now() - oldest).total_seconds())


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Poller]] = WeakKeyDictionary()


def shared_poller(conn_id: str, connect: Connect, metrics: Metrics | None = None) -> Poller:
    """The poller of this connection on the running event loop; a new one where there is none.

    Join it before the next ``await``: it is forgotten once its last wait has left.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in pollers:

        def forget() -> None:
            if pollers.get(conn_id) is poller:
                del pollers[conn_id]

        poller = pollers[conn_id] = Poller(connect, metrics=metrics, on_end=forget)
    return pollers[conn_id]
