"""What answers cost: prices from ``genai-prices``, looked up once a model and region.

A library call a line would eat the speed, so a model's prices are turned into whole picodollars a
token once, for each tier of prompt length, and lines are priced by plain arithmetic.

What the library does not know of batches is added here (source: Anthropic's pricing page): a model without
batch prices in the data costs half of its standard price; ``inference_geo: us`` costs 1.1 times as much; web
searches have no discount.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import repeat
from typing import Any, Literal

from airflow_claude_batch.batches.api.result_lines import Usage
from airflow_claude_batch.batches.cost.spending import PICO, Spending

log = logging.getLogger(__name__)

PROVIDER = "anthropic"
BATCH_SHARE = Decimal("0.5")
"""Price of a batch where the data has the standard price only."""
GEO_FACTORS = {"us": Decimal("1.1")}
"""Factor on token prices by ``inference_geo``."""
_PRICES = ("input_mtok", "output_mtok", "cache_write_mtok", "cache_write_1h_mtok", "cache_read_mtok")


ServiceTier = Literal["batch", "standard"]
"""What an answer was given at, as far as prices know it."""
_Kind = tuple[str | None, str | None, ServiceTier]
"""Model, region and service tier."""
Tokens = tuple[int, int, int, int, int]
"""Numbers by kind: input, output, written to the cache for 5 minutes, for 1 hour, read from it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Prices in picodollars: of one token by kind, and of one web search."""

    input: int
    output: int
    write_5m: int
    write_1h: int
    read: int
    web_search: int

    def price(self, tokens: Tokens, searches: int = 0) -> int:
        """Price of some tokens and web searches."""
        given, output, write_5m, write_1h, read = tokens
        return (
            given * self.input
            + output * self.output
            + write_5m * self.write_5m
            + write_1h * self.write_1h
            + read * self.read
            + searches * self.web_search
        )

    def of(self, spending: Spending) -> int:
        """Price of some usage, all of it at these rates."""
        tokens = (
            spending.input_tokens,
            spending.output_tokens,
            spending.write_5m_tokens,
            spending.write_1h_tokens,
            spending.read_tokens,
        )
        return self.price(tokens, spending.web_searches)

    def uncached(self, spending: Spending) -> int:
        """Price of the same usage if nothing of it had been written to the prompt cache or read from it."""
        cached = spending.write_5m_tokens + spending.write_1h_tokens + spending.read_tokens
        return (
            (spending.input_tokens + cached) * self.input
            + spending.output_tokens * self.output
            + spending.web_searches * self.web_search
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Tier:
    """Prices of requests whose prompt is longer than a number of tokens."""

    above: int
    """The prompt (uncached, written and read tokens together) is longer than this."""
    batch: Rates
    standard: Rates


Tariff = tuple[Tier, ...]
"""The tiers of a model, the one for the longest prompts first."""


@dataclass(frozen=True)
class PriceBook:
    """Prices at one moment.

    Args:
        at: When the requests were sent; prices change.
        factor: A negotiated discount on the list prices, for example 0.85.
    """

    at: datetime.datetime
    factor: Decimal = Decimal(1)
    _known: dict[tuple[str, str], Tariff | None] = field(default_factory=dict, repr=False, compare=False)

    def tariff(self, model: str, geo: str = "") -> Tariff | None:
        """Prices of a model; None where they are not known (which is never zero)."""
        key = model, geo
        if key not in self._known:
            self._known[key] = self._look_up(model, geo)
        return self._known[key]

    def _look_up(self, model: str, geo: str) -> Tariff | None:
        import genai_prices

        try:
            found = genai_prices.calc_price(
                genai_prices.Usage(), model, provider_id=PROVIDER, genai_request_timestamp=self.at
            ).model
        except LookupError:
            log.warning("genai-prices has no price of model %s; its requests are counted as unpriced", model)
            return None
        standard = found.get_prices(self.at)
        batch = found.get_prices(self.at, {"processing": "batch"})
        listed = any(getattr(batch, name) != getattr(standard, name) for name in _PRICES)
        factor = self.factor * GEO_FACTORS.get(geo, Decimal(1))
        starts = sorted({0, *_tier_starts(standard), *_tier_starts(batch)}, reverse=True)
        return tuple(
            Tier(
                above=start,
                batch=_rates(batch, start, factor if listed else factor * BATCH_SHARE, self.factor),
                standard=_rates(standard, start, factor, self.factor),
            )
            for start in starts
        )


def _tier_starts(prices: Any) -> Iterable[int]:
    values = (getattr(prices, name) for name in _PRICES)
    return {tier.start for value in values for tier in getattr(value, "tiers", ())}


def _rates(prices: Any, prompt_above: int, factor: Decimal, search_factor: Decimal) -> Rates:
    """Rates for prompts above a tier's start.

    A kind of token without a price of its own costs what its nearest relative costs.
    """

    def pico(name: str, otherwise: str = "") -> int:
        price = getattr(prices, name)
        if price is None:
            return pico(otherwise) if otherwise else 0
        for tier in reversed(getattr(price, "tiers", ())):
            if prompt_above >= tier.start:
                price_here = tier.price
                break
        else:
            price_here = getattr(price, "base", price)
        pico_of_a_token: int = round(price_here * factor * PICO / 1_000_000)
        return pico_of_a_token

    searches = getattr(prices, "web_searches_kcount", None) or Decimal(0)
    return Rates(
        input=pico("input_mtok"),
        output=pico("output_mtok"),
        write_5m=pico("cache_write_mtok", "input_mtok"),
        write_1h=pico("cache_write_1h_mtok", "cache_write_mtok"),
        read=pico("cache_read_mtok", "input_mtok"),
        web_search=round(searches * search_factor * PICO / 1000),
    )


class _Account:
    """Sums over the requests of one model, region, tier of prompt length and service tier."""

    __slots__ = ("batch", "rates", "spending", "standard")

    def __init__(self, model: str, geo: str, tier: Tier | None, service: ServiceTier) -> None:
        self.spending = Spending(model=model, geo=geo)
        self.batch = tier.batch if tier else None
        self.standard = tier.standard if tier else None
        self.rates = self.batch if service == "batch" else self.standard
        """What is paid."""

    def count(self, requests: int, tokens: Tokens, searches: int = 0) -> None:
        """Add some answers."""
        spending = self.spending
        given, output, write_5m, write_1h, read = tokens
        spending.requests += requests
        spending.input_tokens += given
        spending.output_tokens += output
        spending.write_5m_tokens += write_5m
        spending.write_1h_tokens += write_1h
        spending.read_tokens += read
        spending.web_searches += searches


class Meter:
    """Adds up usage and prices each answer.

    Args:
        prices: The prices.
        service: What the answers were given at. Single calls say it one by one (``usage.service_tier``);
            whatever a line of a batch says, a batch's answers cost a batch's price.
    """

    def __init__(self, prices: PriceBook, service: ServiceTier = "batch") -> None:
        self._prices = prices
        self._service: ServiceTier = service
        self._tiers: dict[_Kind, list[tuple[int, _Account]]] = {}

    def add(self, models: Sequence[str | None], usages: Sequence[Usage]) -> list[int | None]:
        """Count some answers. Returns the price of each in picodollars, None where it is not known."""
        if not usages:
            return []
        given, output, write_5m, write_1h, read = tokens = _tokens(usages)
        cached = any(write_5m) or any(write_1h) or any(read)
        prompts = list(map(sum, zip(given, write_5m, write_1h, read, strict=True))) if cached else given
        account = self._account_of_all(models, usages, prompts)
        if account is None:
            return list(map(self._add, models, usages, prompts, zip(*tokens, strict=True)))
        account.count(len(usages), (sum(given), sum(output), sum(write_5m), sum(write_1h), sum(read)))
        rates = account.rates
        if rates is None:
            return [None] * len(usages)
        if cached:
            return list(map(rates.price, zip(*tokens, strict=True)))
        input_rate, output_rate = rates.input, rates.output
        return [ins * input_rate + outs * output_rate for ins, outs in zip(given, output, strict=True)]

    def _account_of_all(
        self, models: Sequence[str | None], usages: Sequence[Usage], prompts: Sequence[int]
    ) -> _Account | None:
        """The one account of answers that are alike, as those of a batch mostly are; else None."""
        tools = [usage.server_tool_use for usage in usages]
        geos = [usage.inference_geo for usage in usages]
        services: Iterable[ServiceTier] = repeat("batch")
        if self._service != "batch":
            services = map(self._service_of, usages)
        kinds = set(zip(models, geos, services, strict=False))
        if len(kinds) != 1 or any(tools):
            return None
        tiers = self._open(*kinds.pop())
        account = _tier(tiers, max(prompts))
        return account if account is _tier(tiers, min(prompts)) else None

    def _add(self, model: str | None, usage: Usage, prompt: int, tokens: Tokens) -> int | None:
        account = _tier(self._open(model, usage.inference_geo, self._service_of(usage)), prompt)
        searches = (usage.server_tool_use and usage.server_tool_use.web_search_requests) or 0
        account.count(1, tokens, searches)
        return None if account.rates is None else account.rates.price(tokens, searches)

    def _service_of(self, usage: Usage) -> ServiceTier:
        return "batch" if self._service == "batch" or usage.service_tier == "batch" else "standard"

    def _open(self, model: str | None, geo: str | None, service: ServiceTier) -> list[tuple[int, _Account]]:
        known = self._tiers.get((model, geo, service))
        if known is not None:
            return known
        tariff = self._prices.tariff(model, geo or "") if model else None
        name, region = model or "", geo or ""
        tiers = [(tier.above, _Account(name, region, tier, service)) for tier in tariff or ()]
        self._tiers[model, geo, service] = tiers = tiers or [(0, _Account(name, region, None, service))]
        return tiers

    def spending(self) -> list[Spending]:
        """All that was counted, by model and region, in the order of their names."""
        merged: dict[tuple[str, str], Spending] = {}
        for tiers in self._tiers.values():
            for _, account in tiers:
                counted = account.spending
                if account.rates and account.batch and account.standard:
                    counted.paid_pico = account.rates.of(counted)
                    counted.batch_pico = account.batch.of(counted)
                    counted.standard_pico = account.standard.of(counted)
                    counted.uncached_pico = account.rates.uncached(counted)
                key = counted.model, counted.geo
                merged.setdefault(key, Spending(model=key[0], geo=key[1])).add(counted)
        return [merged[key] for key in sorted(merged)]


def _tokens(usages: Sequence[Usage]) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Tokens of some answers, a list a kind."""
    given = [usage.input_tokens or 0 for usage in usages]
    output = [usage.output_tokens or 0 for usage in usages]
    write_5m = [usage.cache_creation_input_tokens or 0 for usage in usages]
    write_1h = write_5m
    if any(write_5m):
        write_1h = [_write_1h(usage) for usage in usages]
        # The breakdown is optional; without it a write has the default lifetime.
        write_5m = [max(all_ - long, 0) for all_, long in zip(write_5m, write_1h, strict=True)]
    return given, output, write_5m, write_1h, [usage.cache_read_input_tokens or 0 for usage in usages]


def _write_1h(usage: Usage) -> int:
    return (usage.cache_creation and usage.cache_creation.ephemeral_1h_input_tokens) or 0


def _tier(tiers: list[tuple[int, _Account]], prompt: int) -> _Account:
    for above, account in tiers:
        if prompt > above:
            return account
    return tiers[-1][1]


def cost_summary(spendings: list[Spending]) -> dict[str, Any]:
    """Dollars for the summary; None, not 0, where nothing could be priced."""
    priced = [spending for spending in spendings if spending.paid_pico is not None]
    paid = sum(spending.paid_pico or 0 for spending in priced)
    standard = sum(spending.standard_pico or 0 for spending in priced)
    uncached = sum(spending.uncached_pico or 0 for spending in priced)
    read = sum(spending.read_tokens for spending in spendings)
    written = sum(spending.write_5m_tokens + spending.write_1h_tokens for spending in spendings)
    prompt = read + written + sum(spending.input_tokens for spending in spendings)
    known = bool(priced) or not spendings
    return {
        "total_usd": paid / PICO if known else None,
        "standard_usd": standard / PICO if known else None,
        "saved_usd": (standard - paid) / PICO if known else None,
        "unpriced_requests": sum(s.requests for s in spendings if s.paid_pico is None),
        "cache_saved_usd": (uncached - paid) / PICO if known else None,
        "cache_hit_rate": round(read / prompt, 4) if prompt else None,
        "by_model": _by_model(spendings),
    }


def _by_model(spendings: list[Spending]) -> dict[str, float | None]:
    totals: dict[str, int | None] = {}
    for spending in spendings:
        before = totals.get(spending.model)
        more = spending.paid_pico
        totals[spending.model] = before if more is None else (before or 0) + more
    return {model: None if pico is None else pico / PICO for model, pico in totals.items()}


def usage_summary(spendings: list[Spending]) -> dict[str, int]:
    """Tokens for the summary, by the API's names."""

    def total(name: str) -> int:
        return sum(getattr(spending, name) for spending in spendings)

    write_5m, write_1h = total("write_5m_tokens"), total("write_1h_tokens")
    return {
        "input_tokens": total("input_tokens"),
        "output_tokens": total("output_tokens"),
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_read_input_tokens": total("read_tokens"),
        "ephemeral_5m_input_tokens": write_5m,
        "ephemeral_1h_input_tokens": write_1h,
        "web_search_requests": total("web_searches"),
    }
