"""What the nightly report of docs/costs.md costs on each current model; run as a module it prints it."""

from __future__ import annotations

import datetime

from airflow_claude_batch.batches.cost.prices import PriceBook, Rates
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.emulator.api.models import CATALOGUE

PRICES_OF = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
REQUESTS, GIVEN, OUTPUT, NIGHTS = 10_000, 500, 300, 365
SHARED = 5_000
"""Tokens of instructions that all requests share, in the second table."""
REUSED, HITS = 0.9, 0.9


def current_models() -> list[str]:
    """The dearest last."""
    active = [model.id for model in CATALOGUE if model.lifecycle == "active"]
    return sorted(active, key=lambda model: (_rates(model)[0].input, model))


def _rates(model: str) -> tuple[Rates, Rates]:
    tariff = PriceBook(PRICES_OF).tariff(model)
    assert tariff is not None, model
    return tariff[-1].batch, tariff[-1].standard  # for short prompts


def _night(rates: Rates, share: float = 1.0) -> float:
    return round(REQUESTS * share) * rates.price((GIVEN, OUTPUT, 0, 0, 0)) / PICO


def nights(model: str) -> list[float]:
    """A night at the standard price, as a batch, and as a batch of which nine in ten are reused."""
    batch, standard = _rates(model)
    return [_night(standard), _night(batch), _night(batch, 1 - REUSED)]


def cached_nights(model: str) -> list[float]:
    """A night with shared instructions: as a batch, and with nine in ten that find them in the cache."""
    batch, _ = _rates(model)
    plain = REQUESTS * batch.price((GIVEN + SHARED, OUTPUT, 0, 0, 0)) / PICO
    hits = round(REQUESTS * HITS)
    read = hits * batch.price((GIVEN, OUTPUT, 0, 0, SHARED))
    written = (REQUESTS - hits) * batch.price((GIVEN, OUTPUT, 0, SHARED, 0))
    return [plain, (read + written) / PICO]


def tables() -> list[str]:
    """The rows of both tables of the page."""
    rows = []
    for model in current_models():
        night = nights(model)
        rows.append(_row(model, [*night, night[0] * NIGHTS, night[1] * NIGHTS, night[2] * NIGHTS]))
    for model in current_models():
        night = cached_nights(model)
        rows.append(_row(model, [*night, night[0] * NIGHTS, night[1] * NIGHTS]))
    return rows


def _row(model: str, dollars: list[float]) -> str:
    return f"| `{model}` | {' | '.join(f'{one:,.2f}' if one < 1000 else f'{one:,.0f}' for one in dollars)} |"


if __name__ == "__main__":
    print("\n".join(tables()))
