"""Some records of a source, to try a job with; the others are counted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, assert_never

from airflow_claude_batch.batches.requests.objects import held

Pick = Literal["first", "spread", "random"]
"""Which records: the first ones, ones from everywhere at equal distances, or any."""
SEED = 19
"""The same source gives the same records, so that a retry or a clear means the same job."""


@dataclass(kw_only=True)
class Sample:
    """Picks records while the whole source is read, in memory for twice as many."""

    records: int
    pick: Pick = "first"
    asset_events: bool = False
    """Whether what is scheduled on the task's assets is to run on them."""
    total: int = 0
    """Records of the source."""

    def of(self, records: Iterable[Any]) -> Iterator[Any]:
        """The picked records, in the order of the source."""
        match self.pick:
            case "first":
                yield from self._first(records)
            case "spread":
                yield from self._spread(records)
            case "random":
                yield from self._random(records)
            case _:
                assert_never(self.pick)

    def _counted(self, records: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        for number, record in enumerate(records):
            self.total = number + 1
            yield number, record

    def _first(self, records: Iterable[Any]) -> Iterator[Any]:
        for number, record in self._counted(records):
            if number < self.records:
                yield record

    def _spread(self, records: Iterable[Any]) -> Iterator[Any]:
        # How many there will be is not known: whenever there are too many, every other one goes.
        kept: list[Any] = []
        every = 1
        for number, record in self._counted(records):
            if number % every:
                continue
            if len(kept) == 2 * self.records:
                del kept[1::2]
                every *= 2
                if number % every:
                    continue
            kept.append(held(record))
        wanted = min(len(kept), self.records)
        yield from (kept[number * len(kept) // wanted] for number in range(wanted))

    def _random(self, records: Iterable[Any]) -> Iterator[Any]:
        draw = random.Random(SEED)
        kept: list[tuple[int, Any]] = []
        for number, record in self._counted(records):
            if len(kept) < self.records:
                kept.append((number, held(record)))
            elif (place := draw.randrange(number + 1)) < self.records:
                kept[place] = (number, held(record))
        yield from (record for _, record in sorted(kept, key=lambda pair: pair[0]))
