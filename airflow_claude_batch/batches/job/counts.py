"""What was delivered, in numbers: small enough for the ledger, and it adds up."""

from __future__ import annotations

import msgspec

from airflow_claude_batch.batches.cost.spending import Spending


class Tally(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Numbers over the requests of a part or of a job."""

    counts: dict[str, int] = {}
    """Delivered requests by outcome."""
    errors: dict[str, int] = {}
    """Delivered requests without a usable answer, by error type."""
    stop_reasons: dict[str, int] = {}
    """Answers by stop reason; ``refusal`` and ``max_tokens`` deserve a look."""
    samples: dict[str, dict[str, str | None]] = {}
    """The API's message and request id for one request of each error type."""
    empty: int = 0
    """Answers without any content that no stop reason explains."""
    moved: int = 0
    """Requests that were left to the next round instead of being delivered."""
    unknown_ids: int = 0
    """Result lines whose custom_id was never sent; they are in no count."""
    unread: int = 0
    """Results that exist and never came, of requests that are not known; they are in no count."""
    spending: list[Spending] = []
    squares: dict[str, int] = {}
    """Of a trial: sums over the squares of each answer's tokens and cost, for how much answers differ."""
    saved_pico: int | None = None
    """What reused answers would have cost in a batch, in picodollars; None where none has a known price."""

    def add(self, other: Tally) -> None:
        """Add another tally's numbers."""
        for name in ("counts", "errors", "stop_reasons", "squares"):
            mine = getattr(self, name)
            for key, number in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + number
        self.samples = other.samples | self.samples
        self.empty += other.empty
        self.moved += other.moved
        self.unknown_ids += other.unknown_ids
        self.unread += other.unread
        if other.saved_pico is not None:
            self.saved_pico = (self.saved_pico or 0) + other.saved_pico
        known = {(spending.model, spending.geo): spending for spending in self.spending}
        for spending in other.spending:
            key = spending.model, spending.geo
            if key not in known:
                known[key] = Spending(model=spending.model, geo=spending.geo)
                self.spending.append(known[key])
            known[key].add(spending)

    @property
    def delivered(self) -> int:
        """Requests that ended in one of the two record sets."""
        return sum(self.counts.values())
