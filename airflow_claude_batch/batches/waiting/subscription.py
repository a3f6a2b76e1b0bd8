"""Who waits for which batches, and is told of them: membership, apart from when anything is looked at."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Iterator
from typing import Self

from airflow_claude_batch.batches.api.client import Batch
from airflow_claude_batch.batches.errors import WaitAccessError
from airflow_claude_batch.batches.waiting.wait import Verdict, Wait


class Subscription:
    """One wait's subscription to a poller: subscribed for a ``with`` block, notified by it, awaited in it.

    ::

        with poller.subscribe(wait) as subscription:
            while (verdict := await subscription.notification()) is None:
                ...

    There may be ten thousand, and each object that the garbage collector has to visit makes it stop the
    event loop for longer: so this is its own context manager, and :meth:`notification` no coroutine.
    """

    __slots__ = (
        "_all",
        "_awaited",
        "_unread",
        "due",
        "has_news",
        "interval",
        "looking",
        "notified_at",
        "verdict",
        "wait",
    )

    def __init__(self, wait: Wait, among: Subscriptions) -> None:
        self.wait = wait
        self.verdict: Verdict | None = None
        """How the wait has ended, if it has."""
        self.has_news = False
        """Something has changed since the last notification."""
        self.due = self.interval = self.notified_at = 0.0
        """By the poller's clock: the next look, the seconds between two, the last notification."""
        self.looking = False
        """A look is under way."""
        self._all = among
        self._unread = False
        self._awaited: asyncio.Future[Verdict | None] | None = None

    def __enter__(self) -> Self:
        self._all.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._all.remove(self)

    @property
    def resting(self) -> bool:
        """Whether the wait goes on, and nobody is looking for it now."""
        return self.verdict is None and not self.looking

    def notification(self) -> asyncio.Future[Verdict | None]:
        """Done when there is something to tell; its result is how the wait has ended, if it has."""
        self._awaited = asyncio.get_running_loop().create_future()
        if self._unread:
            self._deliver()
        return self._awaited

    def notify(self, now: float) -> None:
        """Wake who awaits :meth:`notification`, now or the next time."""
        self.has_news, self.notified_at, self._unread = False, now, True
        self._deliver()

    def _deliver(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._unread = False
            self._awaited.set_result(self.verdict)


class Subscriptions:
    """All subscriptions of a poller, by the batches that they are for.

    Args:
        added: Told of each that begins.
        removed: Told when one has ended.
    """

    def __init__(self, added: Callable[[Subscription], None], removed: Callable[[], None]) -> None:
        self._added, self._removed = added, removed
        self._all: dict[Subscription, None] = {}
        self._by_batch: dict[str, list[Subscription]] = {}
        self._served: dict[Subscription, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def add(self, subscription: Subscription) -> None:
        """Tell this one, too, from now on."""
        self._all[subscription] = None
        for batch_id in subscription.wait.batch_ids:
            self._by_batch.setdefault(batch_id, []).append(subscription)
        self._added(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Tell this one no more."""
        del self._all[subscription]
        self._served.pop(subscription, None)
        for batch_id in subscription.wait.batch_ids:
            others = self._by_batch[batch_id]
            others.remove(subscription)
            if not others:
                del self._by_batch[batch_id]
        self._removed()

    def found(self, batch: Batch) -> bool:
        """A look has found a batch; returns whether that is news to anybody."""
        any_news = False
        for subscription in self._by_batch.get(batch.id, ()):
            news = subscription.wait.saw(batch)
            subscription.has_news |= news
            any_news |= news
            # A wait for one batch has had its look; a longer one keeps its time for the others.
            if news or len(subscription.wait.batch_ids) == 1:
                self._served[subscription] = None
        return any_news

    def failed(self, error: Exception, batch_ids: list[str], by_id: bool, now: datetime.datetime) -> None:
        """A look at some batches has failed.

        Args:
            error: What went wrong.
            batch_ids: The batches.
            by_id: Whether one was asked for by its id; else it was a page of the list.
            now: The wall clock.
        """
        # A wait whose batches were on one page has had one failed look, not many.
        concerned = {
            subscription: batch_id
            for batch_id in batch_ids
            for subscription in self._by_batch.get(batch_id, ())
        }
        for subscription, batch_id in concerned.items():
            if isinstance(error, WaitAccessError):
                news = subscription.wait.unusable(str(error), now)
            else:
                news = subscription.wait.failed(error, now, batch_id if by_id else None)
            subscription.has_news |= news

    def take_served(self) -> list[Subscription]:
        """Those that the looks of others have served since the last call."""
        served = [subscription for subscription in self._served if not subscription.looking]
        self._served.clear()
        return served
