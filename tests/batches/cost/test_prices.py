from __future__ import annotations

import datetime
import random
from decimal import Decimal

import pytest

from airflow_claude_batch.batches.api.result_lines import CacheCreation, ServerToolUse, Usage
from airflow_claude_batch.batches.cost.prices import Meter, PriceBook, cost_summary, usage_summary
from airflow_claude_batch.batches.cost.spending import PICO, Spending
from airflow_claude_batch.batches.job.counts import Tally

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
MILLION = 1_000_000

# USD per million tokens in a batch: input, output, 5 m write, 1 h write, read (Anthropic's price list).
PRICES = {
    "claude-opus-5-5": (2, 10, 2.5, 4, 0.10),
    "claude-opus-5": (2.5, 12.5, 3.125, 5, 0.25),
    "claude-opus-4-5": (2.5, 12.5, 3.125, 5, 0.25),
    "claude-opus-4-8": (2.5, 12.5, 3.125, 5, 0.25),
    "claude-sonnet-5-5": (1, 5, 1.25, 2, 0.05),
    "claude-sonnet-4-6": (1.5, 7.5, 1.875, 3, 0.15),
    "claude-sonnet-4-5": (1.5, 7.5, 1.875, 3, 0.15),
    "claude-haiku-5-5": (0.05, 0.25, 0.0625, 0.10, 0.005),
    "claude-haiku-4-5": (0.5, 2.5, 0.625, 1, 0.05),
    "claude-haiku-4-5-20251001": (0.5, 2.5, 0.625, 1, 0.05),
    "claude-fable-5-2": (4, 20, 5, 8, 0.10),
}
RETIRED = {"claude-3-5-haiku-20241022": (0.4, 2), "claude-3-5-sonnet-20241022": (1.5, 7.5)}


def price(model: str, usage: Usage, factor: str = "1") -> float | None:
    [pico] = Meter(PriceBook(NOW, Decimal(factor))).add([model], [usage])
    return None if pico is None else pico / PICO


@pytest.mark.parametrize("model", PRICES)
def test_every_kind_of_token_costs_what_the_price_list_says(model: str) -> None:
    kinds = [
        Usage(input_tokens=1000),
        Usage(output_tokens=1000),
        Usage(cache_creation_input_tokens=1000, cache_creation=CacheCreation(1000, 0)),
        Usage(cache_creation_input_tokens=1000, cache_creation=CacheCreation(0, 1000)),
        Usage(cache_read_input_tokens=1000),
    ]
    assert [price(model, usage) for usage in kinds] == [each / 1000 for each in PRICES[model]]


@pytest.mark.parametrize("model", RETIRED)
def test_a_model_without_batch_prices_in_the_data_costs_half(model: str) -> None:
    given, output = RETIRED[model]
    assert price(model, Usage(input_tokens=MILLION)) == given
    assert price(model, Usage(output_tokens=MILLION)) == output


def test_a_long_prompt_makes_every_token_of_its_request_dearer() -> None:
    model = "claude-haiku-5-5"
    assert price(model, Usage(input_tokens=100_000, output_tokens=100)) == (100_000 * 0.05 + 100 * 0.25) / 1e6
    long = Usage(input_tokens=100_001, output_tokens=100)
    assert price(model, long) == pytest.approx((100_001 * 0.25 + 100 * 1.25) / 1e6, abs=1e-12)
    with_cache = Usage(input_tokens=1, cache_read_input_tokens=60_000, cache_creation_input_tokens=40_000)
    expected = (1 * 0.25 + 60_000 * 0.025 + 40_000 * 0.3125) / 1e6
    assert price(model, with_cache) == pytest.approx(expected, abs=1e-12)


def test_a_region_raises_token_prices_but_not_searches() -> None:
    usage = Usage(input_tokens=MILLION, inference_geo="us")
    assert price("claude-opus-5-5", usage) == 2.2
    searching = Usage(inference_geo="us", server_tool_use=ServerToolUse(1000))
    assert price("claude-opus-5-5", searching) == 10
    assert price("claude-opus-5-5", Usage(input_tokens=MILLION, inference_geo="global")) == 2


def test_a_negotiated_discount_is_a_factor_on_all_prices() -> None:
    usage = Usage(input_tokens=MILLION, server_tool_use=ServerToolUse(1000))
    assert price("claude-haiku-4-5", usage, factor="0.9") == 0.45 + 9


def test_an_unknown_model_is_unpriced_and_never_free() -> None:
    meter = Meter(PriceBook(NOW))
    assert meter.add(["claude-next", None], [Usage(input_tokens=10), Usage()]) == [None, None]
    cost = cost_summary(meter.spending())
    assert (cost["total_usd"], cost["saved_usd"], cost["unpriced_requests"]) == (None, None, 2)
    meter.add(["claude-haiku-4-5"], [Usage(input_tokens=MILLION)])
    cost = cost_summary(meter.spending())
    assert (cost["total_usd"], cost["unpriced_requests"]) == (0.5, 2)
    assert cost["by_model"] == {"": None, "claude-haiku-4-5": 0.5, "claude-next": None}


def test_the_sum_of_the_lines_is_the_total_whatever_their_order() -> None:
    draw = random.Random(5)
    usages = [
        Usage(
            input_tokens=draw.randrange(200_000),
            output_tokens=draw.randrange(5000),
            cache_read_input_tokens=draw.choice([0, draw.randrange(9000)]),
            cache_creation_input_tokens=draw.choice([0, 700]),
            server_tool_use=draw.choice([None, ServerToolUse(2)]),
        )
        for _ in range(500)
    ]
    totals = set()
    for _ in range(3):
        draw.shuffle(usages)
        meter = Meter(PriceBook(NOW))
        lines = sum(pico or 0 for pico in meter.add(["claude-haiku-5-5"] * len(usages), usages))
        [spending] = meter.spending()
        assert spending.paid_pico == lines
        totals.add((lines, spending.standard_pico))
    assert len(totals) == 1


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-haiku-5-5", "claude-next"])
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("longest", [1000, 200_000])
def test_answers_together_cost_what_each_costs(model: str, cached: bool, longest: int) -> None:
    draw = random.Random(7)
    usages = [
        Usage(
            input_tokens=draw.choice([None, draw.randrange(longest)]),
            output_tokens=draw.randrange(5000),
            cache_read_input_tokens=draw.choice([None, cached * 9000]),
            cache_creation_input_tokens=cached * 700,
            cache_creation=draw.choice([None, CacheCreation(300, 400)]) if cached else None,
        )
        for _ in range(200)
    ]
    together, alone = Meter(PriceBook(NOW)), Meter(PriceBook(NOW))
    picos = [alone.add([model], [usage])[0] for usage in usages]
    assert together.add([model] * len(usages), usages) == picos
    assert together.spending() == alone.spending()
    assert together.add([], []) == []


def test_savings_and_cache_hits_are_told_apart() -> None:
    meter = Meter(PriceBook(NOW))
    usage = Usage(input_tokens=100, output_tokens=1000, cache_read_input_tokens=300)
    meter.add(["claude-haiku-4-5"], [usage])
    cost, tokens = cost_summary(meter.spending()), usage_summary(meter.spending())
    assert cost["total_usd"] == (100 * 0.5 + 1000 * 2.5 + 300 * 0.05) / 1e6
    assert cost["standard_usd"] == 2 * cost["total_usd"]
    assert cost["saved_usd"] == cost["total_usd"]
    assert cost["cache_hit_rate"] == 0.75
    assert tokens["cache_read_input_tokens"] == 300


def test_prices_are_those_of_the_day_the_batch_was_sent() -> None:
    before = datetime.datetime(2026, 10, 1, tzinfo=datetime.UTC)
    assert Meter(PriceBook(before)).add(["claude-haiku-4-5"], [Usage(input_tokens=MILLION)]) == [PICO // 2]


def test_tallies_add_up_by_model() -> None:
    one = Tally(counts={"succeeded": 2}, spending=[Spending(model="a", requests=2, paid_pico=5)])
    two = Tally(
        counts={"succeeded": 1, "errored": 1},
        spending=[Spending(model="a", requests=1, paid_pico=7), Spending(model="b", requests=1)],
    )
    total = Tally()
    total.add(one)
    total.add(two)
    assert total.counts == {"succeeded": 3, "errored": 1}
    assert [(s.model, s.requests, s.paid_pico) for s in total.spending] == [("a", 3, 12), ("b", 1, None)]
