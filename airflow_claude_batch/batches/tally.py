"""What was delivered, in numbers: small enough for the ledger, and it adds up.

Money is counted in whole picodollars (10⁻¹² USD), so that sums are exact and do not depend on the
order in which answers arrive.
"""

from __future__ import annotations

import msgspec

PICO = 10**12
"""Picodollars in a dollar."""


class Spending(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Tokens and money of the answers of one model in one region."""

    model: str = ""
    geo: str = ""
    """``inference_geo`` of the answers; it may change the price."""
    requests: int = 0
    input_tokens: int = 0
    """Input that was neither written to the prompt cache nor read from it."""
    output_tokens: int = 0
    write_5m_tokens: int = 0
    write_1h_tokens: int = 0
    read_tokens: int = 0
    web_searches: int = 0
    batch_pico: int | None = None
    """What it cost, in picodollars; None for a model without a known price."""
    standard_pico: int | None = None
    """What the same usage would have cost outside a batch."""
    uncached_pico: int | None = None
    """What the same tokens would have cost in a batch without prompt caching."""

    def add(self, other: Spending) -> None:
        """Add the numbers of the same model and region."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("batch_pico", "standard_pico", "uncached_pico"):
            mine, more = getattr(self, name), getattr(other, name)
            setattr(self, name, None if mine is None and more is None else (mine or 0) + (more or 0))


_NUMBERS = (
    "requests",
    "input_tokens",
    "output_tokens",
    "write_5m_tokens",
    "write_1h_tokens",
    "read_tokens",
    "web_searches",
)


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
    moved: int = 0
    """Requests that were left to the next round instead of being delivered."""
    unknown_ids: int = 0
    """Result lines whose custom_id was never sent; they are in no count."""
    spending: list[Spending] = []

    def add(self, other: Tally) -> None:
        """Add another tally's numbers."""
        for name in ("counts", "errors", "stop_reasons"):
            mine = getattr(self, name)
            for key, number in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + number
        self.samples = other.samples | self.samples
        self.moved += other.moved
        self.unknown_ids += other.unknown_ids
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
