"""Which requests were answered by single calls: told apart by what they ask, since they have no custom_id."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SHOWN = 20


class DirectAnswers:
    """Counts answers of single calls; one whose client has gone is counted and billed all the same."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0

    @contextlib.contextmanager
    def one_under_way(self) -> Iterator[None]:
        """A call, while it is being answered."""
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            yield
        finally:
            self.under_way -= 1

    def add(self, params: dict[str, Any]) -> None:
        """An answer was given."""
        self.counts[content_of(params)] += 1

    def ledger(self, billed_in_batches: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
        """What was answered by single calls, more than once, and by a batch, too.

        Args:
            billed_in_batches: custom_id and params of what batches have answered.
        """
        both: list[str] = []
        if self.counts:
            decoded = ((custom_id, msgspec.json.decode(params)) for custom_id, params in billed_in_batches)
            both = [custom_id for custom_id, params in decoded if content_of(params) in self.counts]
        again = sum(1 for count in self.counts.values() if count > 1)
        return {
            "direct": len(self.counts),
            "direct_answers": self.counts.total(),
            "direct_more_than_once_count": again,
            "both_ways": both[:_SHOWN],
            "both_ways_count": len(both),
            "most_direct_at_once": self.most_under_way,
        }


def content_of(params: Any) -> str:
    """A name for what is asked, however its JSON is written."""
    return hashlib.blake2b(msgspec.json.encode(params, order="sorted"), digest_size=16).hexdigest()
