"""Tokens and money, in whole picodollars (10⁻¹² USD): sums are exact, in whatever order answers come."""

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
    paid_pico: int | None = None
    """What it cost, in picodollars; None for a model without a known price."""
    batch_pico: int | None = None
    """What the same usage costs in a batch."""
    standard_pico: int | None = None
    """What the same usage costs outside a batch."""
    uncached_pico: int | None = None
    """What the same tokens would have cost without prompt caching."""

    def add(self, other: Spending) -> None:
        """Add the numbers of the same model and region."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("paid_pico", "batch_pico", "standard_pico", "uncached_pico"):
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
