"""All batches and their life cycle, in memory.

Batches end by a timer on the emulated clock, or when told. What a big batch's end has to work out runs in a
thread, so that polls are answered meanwhile; until it is done the batch still shows as processing.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.emulator.answers.outcomes import decide
from airflow_claude_batch.emulator.answers.usage import PromptCache
from airflow_claude_batch.emulator.api.batch import (
    ARCHIVED_AFTER,
    CANCELED,
    EXPIRED,
    LAST_ANSWER,
    AnswerHook,
    Batch,
)
from airflow_claude_batch.emulator.api.direct import DirectAnswers
from airflow_claude_batch.emulator.api.errors import ApiError
from airflow_claude_batch.emulator.api.rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_claude_batch.emulator.api.clock import Clock
    from airflow_claude_batch.emulator.api.create import Request
    from airflow_claude_batch.emulator.api.params import Headers
    from airflow_claude_batch.emulator.control.settings import Settings

_ALPHABET = string.ascii_letters + string.digits
_DECIDED_INLINE = 500
_LONGEST_SLEEP = 60.0


def new_id(prefix: str) -> str:
    """An id that looks like the API's, unique over restarts."""
    return prefix + "01" + "".join(random.SystemRandom().choices(_ALPHABET, k=22))


class Store:
    """Creates, finds, ends and deletes batches."""

    def __init__(self, clock: Clock, settings: Settings) -> None:
        self.clock = clock
        self.settings = settings
        self.in_processing = 0
        self.resets = 0
        self.answer: AnswerHook | None = None
        """Asked for the text of an answer, by custom_id and params; None, or None from it: one is made up."""
        self._batches: list[Batch] = []
        self._by_id: dict[str, Batch] = {}
        self._tries: dict[str, int] = {}
        self._cache = PromptCache()
        self.direct = DirectAnswers()
        self.rate_limits = RateLimits()
        self._timers: list[tuple[float, int]] = []
        self._ending = asyncio.Lock()
        self._wake = asyncio.Event()

    async def clear(self, settings: Settings) -> None:
        """Forget all batches, the prompt cache and advanced time; go on with these settings."""
        async with self._ending:
            self.clock.advanced_seconds = 0.0
            self.settings = settings
            self.resets += 1
            self.in_processing = 0
            self._batches, self._by_id, self._tries, self._timers = [], {}, {}, []
            self._cache = PromptCache()
            self.direct = DirectAnswers()
            self.rate_limits = RateLimits()

    def create(self, requests: list[Request], headers: Headers, size: int) -> Batch:
        """Accept a valid create."""
        batch = Batch(
            new_id("msgbatch_"),
            len(self._batches),
            self.clock.now(),
            [request.custom_id for request in requests],
            [request.params for request in requests],
            headers,
            size,
            self.settings,
            self.answer,
        )
        tries = self._tries
        for index, custom_id in enumerate(batch.names):
            earlier = tries.get(custom_id, 0)
            if earlier:
                batch.earlier_tries[index] = earlier
            tries[custom_id] = earlier + 1
        self._batches.append(batch)
        self._by_id[batch.id] = batch
        self.in_processing += len(requests)
        for at in (batch.end_at, batch.expires_at, batch.created_at + ARCHIVED_AFTER):
            self._set_timer(at, batch)
        return batch

    def find(self, batch_id: str) -> Batch:
        """The batch of this id, deleted ones not; raises the API's 404."""
        batch = self._by_id.get(batch_id)
        if batch is None or batch.deleted:
            raise ApiError(404, f"Message Batch with id {batch_id} not found.")
        return batch

    def look_up(self, batch_id: str) -> Batch:
        """Like :meth:`find`, for API calls: a batch may be hidden for its first lookups or seconds."""
        batch = self.find(batch_id)
        if batch.hidden_lookups > 0:
            batch.hidden_lookups -= 1
        elif batch.hidden_until <= self.clock.now():
            return batch
        raise ApiError(404, f"Message Batch with id {batch_id} not found.")

    def all(self) -> list[Batch]:
        """Every batch ever created, deleted ones too, oldest first."""
        return self._batches

    def page(self, limit: int, after_id: str | None, before_id: str | None) -> tuple[list[Batch], bool]:
        """Batches newest first, and whether there are more in the direction of paging."""
        if before_id is not None:
            cursor = self._cursor("before_id", before_id)
            found = self._take(range(cursor + 1, len(self._batches)), limit)
            return found[:limit][::-1], len(found) > limit
        start = len(self._batches) if after_id is None else self._cursor("after_id", after_id)
        found = self._take(range(start - 1, -1, -1), limit)
        return found[:limit], len(found) > limit

    def _cursor(self, name: str, batch_id: str) -> int:
        batch = self._by_id.get(batch_id)
        if batch is None:
            raise ApiError(400, f"{name}: no Message Batch with id {batch_id}")
        return batch.position

    def _take(self, positions: range, limit: int) -> list[Batch]:
        found: list[Batch] = []
        for position in positions:
            batch = self._batches[position]
            if not batch.deleted:
                found.append(batch)
                if len(found) > limit:
                    break
        return found

    def cancel(self, batch: Batch) -> None:
        """Start a cancel; a second one changes nothing."""
        if batch.ended_at is not None:
            raise ApiError(400, f"Message Batch {batch.id} has already ended and cannot be canceled.")
        if batch.cancel_at is not None:
            return
        now = self.clock.now()
        share = self.settings.cancel_finished_share
        batch.finished_share = batch.progress(now) if share is None else share
        batch.cancel_at = now
        batch.changed()
        if self.settings.duration != "manual":
            batch.end_at = min(now + self.settings.cancel_duration / self.settings.speed, batch.expires_at)
            self._set_timer(batch.end_at, batch)

    def delete(self, batch: Batch) -> None:
        """Delete an ended batch; its requests still count for the ledger."""
        if batch.ended_at is None:
            raise ApiError(
                400, f"Message Batch {batch.id} cannot be deleted while it is processing; cancel it first."
            )
        batch.deleted = True
        batch.params = []

    def archive(self, batch: Batch, at: float) -> None:
        """Make an ended batch's results unavailable."""
        batch.archived_at = at
        batch.params = []
        batch.changed()

    async def end_now(self, batch: Batch, *, expire: bool = False, finished_share: float = 0.0) -> None:
        """End a batch at once; with ``expire`` all but ``finished_share`` of its requests expire."""
        async with self._ending:
            if batch.ended_at is None:
                if expire:
                    batch.finished_share = finished_share
                await self._end(batch, self.clock.now(), EXPIRED if expire else CANCELED)

    async def settle(self) -> None:
        """Do everything that is due on the clock."""
        async with self._ending:
            while self._timers and self._timers[0][0] <= self.clock.now():
                at, position = heapq.heappop(self._timers)
                batch = self._batches[position]
                if batch.ended_at is None and at >= batch.expires_at:
                    share = batch.finished_share if batch.cancel_at is not None else batch.progress(at)
                    batch.finished_share = share if math.isfinite(share) else 0.0
                    await self._end(batch, at, EXPIRED)
                elif batch.ended_at is None and at == batch.end_at:
                    await self._end(batch, at, CANCELED)
                elif batch.archived_at is None and at >= batch.created_at + ARCHIVED_AFTER:
                    self.archive(batch, at)

    async def _end(self, batch: Batch, at: float, unfinished: int) -> None:
        batch.settings = self.settings
        if len(batch.custom_ids) <= _DECIDED_INLINE:
            decide(batch, self._cache, at, unfinished)
            await asyncio.sleep(0)
        else:
            await asyncio.to_thread(decide, batch, self._cache, at, unfinished)
        batch.ended_at = at
        batch.changed()
        self.in_processing -= len(batch.custom_ids)

    def _set_timer(self, at: float, batch: Batch) -> None:
        if math.isfinite(at):
            heapq.heappush(self._timers, (at, batch.position))
            if self._timers[0][0] == at:
                self._wake.set()

    async def run_timers(self) -> None:
        """Settle for ever, each time something is due."""
        while True:
            self._wake.clear()
            await self.settle()
            left = self._timers[0][0] - self.clock.now() if self._timers else _LONGEST_SLEEP
            try:
                await asyncio.wait_for(self._wake.wait(), min(max(left, 0.0), _LONGEST_SLEEP))
            except TimeoutError:
                continue

    def ledger(self) -> dict[str, Any]:
        """How often every custom_id was submitted, is live, and was billed."""
        live: Counter[str] = Counter()
        billed: Counter[str] = Counter()
        for batch in self._batches:
            if batch.status == "in_progress":
                live.update(batch.names)
            elif batch.codes:
                answered = [
                    i for i, code in zip(batch.names, batch.codes, strict=True) if code <= LAST_ANSWER
                ]
                live.update(answered)
                billed.update(answered)
        return {
            "custom_ids": len(self._tries),
            "submitted_once": sum(1 for count in self._tries.values() if count == 1),
            **_repeated("submitted", self._tries),
            **_repeated("live", live),
            "billed": len(billed),
            **_repeated("billed", billed),
            **self.direct.ledger(self._billed()),
        }

    def _billed(self) -> Iterator[tuple[str, bytes]]:
        """What batches have answered and still keep: custom_id and params."""
        for batch in self._batches:
            for custom_id, params, code in zip(batch.names, batch.params, batch.codes, strict=False):
                if code <= LAST_ANSWER:
                    yield custom_id, params


def _repeated(what: str, counts: dict[str, int]) -> dict[str, Any]:
    repeated = [custom_id for custom_id, count in counts.items() if count > 1]
    return {f"{what}_more_than_once": repeated[:20], f"{what}_more_than_once_count": len(repeated)}


def batch_summary(batch: Batch) -> dict[str, Any]:
    """A batch for the admin interface: more than the API tells."""
    counts = batch.counts()
    return {
        "id": batch.id,
        "processing_status": batch.status,
        "requests": len(batch.custom_ids),
        "bytes": batch.size,
        "deleted": batch.deleted,
        "archived": batch.archived_at is not None,
        "live": batch.status == "in_progress",
        "billed": counts["succeeded"],
        "request_counts": counts,
        "created_at": batch.created_at,
        "betas": sorted(batch.headers.betas),
    }
