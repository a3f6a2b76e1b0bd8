"""One look at many batches, with as few calls as possible: pages of the list, or one by one.

The list is newest first, so what it takes to find a batch there depends on how many are younger.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from airflow_claude_batch.batches.api.client import AsyncBatchesApi, Batch, Page
from airflow_claude_batch.batches.waiting.throttled_client import ThrottledClient

PAGE_COST = 3
"""A page saves calls from this many batches on it; it is 400 KB, one batch 400 bytes."""
NO_LIST = (400, 404, 405, 501)
"""Answers after which a look goes on without the list: a gateway has none, the cursor was deleted."""
GROUP = 50
"""Batches asked for together, and the most that are asked for again in one look after a 404."""
LIFETIME_SECONDS = 24.5 * 3600
"""A batch that was seen by nobody yet is at most so much older than the wait for it."""


class Wanted(NamedTuple):
    """A batch to look at."""

    id: str
    created: float
    """Seconds since the epoch: when it was created, or when waiting for it began."""
    seen: bool = True
    """Whether ``created`` is the API's own."""
    missing: bool = False
    """Whether the API has not known it so far: then only asking for it helps."""

    @property
    def oldest(self) -> float:
        """Before this it cannot have been created."""
        return self.created if self.seen else self.created - LIFETIME_SECONDS


def worth_a_page(ages: list[float], seconds_a_page: float | None) -> bool:
    """Whether the next page is a step of the cheapest way to the rest.

    Args:
        ages: How many seconds before the end of the last page each wanted batch was created,
            the youngest first.
        seconds_a_page: The span of creation that a page covers, as far as known.
    """
    alone = len(ages)
    if alone <= PAGE_COST or seconds_a_page is None:
        return alone > PAGE_COST
    span = max(seconds_a_page, 1e-6)
    return any(
        PAGE_COST * max(math.ceil(age / span), 1) + (alone - 1 - index) < alone
        for index, age in enumerate(ages)
    )


@dataclass(kw_only=True)
class StatusFetcher:
    """Fetches states over one connection; remembers how dense the list is."""

    client: ThrottledClient
    found: Callable[[Batch], None]
    """Told of every batch seen, wanted or not."""
    failed: Callable[[Exception, list[str], bool], None]
    """Told of every call that failed: the error, the batches it was for, whether it asked for one by id."""
    seconds_a_page: float | None = None

    async def fetch(self, wanted: list[Wanted], now: float) -> None:
        """Look at all of them once.

        Args:
            wanted: What to look at.
            now: Seconds since the epoch.
        """
        missing = [one for one in wanted if one.missing]
        listed = sorted((one for one in wanted if not one.missing), key=lambda one: -one.created)
        alone = await self._through_pages(listed, now)
        alone += random.sample(missing, min(len(missing), GROUP))
        for start in range(0, len(alone), GROUP):
            await asyncio.gather(*(self._retrieve(one.id) for one in alone[start : start + GROUP]))

    async def list_since(self, start: datetime.datetime) -> list[Batch]:
        """All batches of the workspace that were created after ``start``, newest first.

        Raises:
            Exception: The SDK's, where a page fails.
        """
        batches: list[Batch] = []
        after = None
        while True:
            page = await self.client.call(_page_after(after))
            batches += page.data
            if not page.has_more or not page.data or page.data[-1].created_at < start:
                return batches
            after = page.data[-1].id

    async def _through_pages(self, rest: list[Wanted], now: float) -> list[Wanted]:
        """Read pages while that pays; returns what is still to be asked for by id."""
        reached, after = now, None
        absent: list[Wanted] = []
        for _ in range(len(rest) // PAGE_COST):
            if not worth_a_page([reached - one.created for one in rest], self.seconds_a_page):
                break
            try:
                page = await self.client.call(_page_after(after))
            except Exception as error:  # noqa: BLE001  # the policy decides
                if getattr(error, "status_code", None) in NO_LIST:
                    break
                self.failed(error, [one.id for one in absent + rest], False)
                return []
            for batch in page.data:
                self.found(batch)
            seen = {batch.id for batch in page.data}
            rest = [one for one in rest if one.id not in seen]
            if not page.has_more or not page.data:
                break
            end = page.data[-1].created_at.timestamp()
            absent += [one for one in rest if one.oldest > end]
            rest = [one for one in rest if one.oldest <= end]
            self.seconds_a_page = page.data[0].created_at.timestamp() - end
            reached, after = end, page.data[-1].id
        return absent + rest

    async def _retrieve(self, batch_id: str) -> None:
        def request(api: AsyncBatchesApi) -> Awaitable[Batch]:
            return api.retrieve(batch_id)

        try:
            self.found(await self.client.call(request))
        except Exception as error:  # noqa: BLE001  # the policy decides
            self.failed(error, [batch_id], True)


def _page_after(after: str | None) -> Callable[[AsyncBatchesApi], Awaitable[Page]]:
    def request(api: AsyncBatchesApi) -> Awaitable[Page]:
        return api.page(after)

    return request
