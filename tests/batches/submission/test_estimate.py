from __future__ import annotations

import datetime
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.errors import BudgetExceededError
from airflow_claude_batch.batches.job.job import start_job
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.estimate import Estimate, estimate
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import IDENTITY, source, started

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
TOKENS_500 = "x" * (492 * 4)
"""The emulator counts this prompt as 500 tokens."""


def of(
    root: Folder, rows: list[dict[str, Any]], api: BatchesApi | None, expected: int | None = None
) -> Estimate:
    with started(root, rows) as job:
        return estimate(job, PriceBook(NOW), api=api, expected_output=expected)


def summaries(count: int, **params: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"s-{n}", "prompt": TOKENS_500, "max_tokens": 300, **params} for n in range(count)]


def test_ten_thousand_summaries_of_500_tokens_in_and_300_out_cost_ten_dollars(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    result = of(root, summaries(10_000), api)
    assert result.as_dict() == {
        "method": "count_tokens",
        "requests": 10_000,
        "input_tokens": 5_000_000,
        "output_tokens": 3_000_000,
        "max_output_tokens": 3_000_000,
        "total_usd": 10.0,
        "upper_bound_usd": 10.0,
        "standard_usd": 20.0,
        "saved_usd": 10.0,
        "unpriced_requests": 0,
    }
    result.check(10.0)
    with pytest.raises(BudgetExceededError, match=r"\$10\.0000 for 10000 requests.*max_usd=9\.99"):
        result.check(9.99)
    assert emulator.batches() == []


def test_an_expected_length_lowers_the_estimate_but_not_its_bound(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    result = of(root, summaries(100), api, expected=100)
    assert result.as_dict()["total_usd"] == (50_000 * 0.5 + 10_000 * 2.5) / 1e6
    assert result.as_dict()["upper_bound_usd"] == 0.1
    result.check(0.06)


def test_without_the_api_tokens_are_estimated_by_size(root: Folder) -> None:
    result = of(root, summaries(10), None)
    assert result.method == "local"
    assert 500 <= result.input_tokens / 10 <= 540


def test_an_api_that_does_not_count_is_no_obstacle(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    emulator.fault("status", path="count_tokens", times=None, status=404, type="not_found_error")
    assert of(root, summaries(10), api).method == "local"


def test_an_unknown_price_cannot_keep_to_a_limit(root: Folder) -> None:
    result = of(
        root, [*summaries(3), *[r | {"custom_id": "n", "model": "claude-next"} for r in summaries(1)]], None
    )
    assert (result.requests, result.unpriced_requests) == (4, 1)
    assert result.as_dict()["total_usd"] > 0
    with pytest.raises(BudgetExceededError, match="1 of 4 requests"):
        result.check(1000)


def test_a_job_without_any_known_price_has_no_price(root: Folder) -> None:
    assert of(root, summaries(2, model="claude-next"), None).as_dict()["total_usd"] is None


def test_writing_to_the_cache_and_long_prompts_are_priced_as_such(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    block = {"type": "text", "text": "y" * 4000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    cached = of(root, summaries(5, system=[block]), api)
    plain = of(root.child("plain"), summaries(5, system=[{"type": "text", "text": "y" * 4000}]), api)
    assert cached.pico > plain.pico
    long = [{"custom_id": "l", "prompt": "x" * 480_000, "max_tokens": 10, "model": "claude-haiku-5-5"}]
    result = of(root.child("long"), long, api)
    assert result.as_dict()["total_usd"] == (result.input_tokens * 0.25 + 10 * 1.25) / 1e6


def test_pictures_are_not_taken_for_text(root: Folder) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}
    content = [{"type": "image", "source": source}]
    rows = [{"custom_id": "p", "messages": [{"role": "user", "content": content}]}]
    assert of(root, rows, None).input_tokens < 20_000


def mixed(count: int) -> list[dict[str, Any]]:
    """Requests of several models, sizes, regions and cache lifetimes."""
    block = {"type": "text", "text": "y" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    kinds: list[dict[str, Any]] = [
        {},
        {"model": "claude-opus-5-5"},
        {"system": [block]},
        {"inference_geo": "us", "max_tokens": 7},
        {"prompt": "x" * 20_000},
    ]
    return [{"custom_id": f"m-{n}", "prompt": "x" * n, **kinds[n % len(kinds)]} for n in range(1, count + 1)]


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_gathered_while_storing_is_what_the_stored_requests_say(
    root: Folder, api: BatchesApi, compress: bool
) -> None:
    with start_job(root, IDENTITY, replace(source(mixed(300), 70), compress=compress), generation=1) as (
        job,
        _,
    ):
        prices = PriceBook(NOW)
        gathered = [estimate(job, prices, api=one, expected_output=None) for one in (None, api)]
        job.ledger.survey = None
        read = [estimate(job, prices, api=one, expected_output=None) for one in (None, api)]
    assert gathered == read


def test_a_job_whose_try_was_killed_after_storing_is_estimated_without_reading_its_requests(
    root: Folder, api: BatchesApi
) -> None:
    with started(root, mixed(50)) as job:
        first = estimate(job, PriceBook(NOW), api=None, expected_output=None)
    with started(root, lambda: pytest.fail("a retry does not ask the source")) as job:
        for part in job.ledger.parts:
            job.folder.remove_file(part.requests)
        assert estimate(job, PriceBook(NOW), api=None, expected_output=None) == first


@pytest.mark.parametrize("count", [1, 5, 19, 20, 39, 41, 1000])
def test_a_sample_is_spread_evenly_over_a_job_of_any_size(root: Folder, count: int) -> None:
    with started(root, [{"custom_id": f"s-{n}", "prompt": "x"} for n in range(count)], per_part=7) as job:
        assert job.ledger.survey is not None
        sample = job.ledger.survey.sample
        lines = [job.folder.read_range(one.file, one.offset, one.length) for one in sample]
    numbers = [int(msgspec.json.decode(line)["custom_id"].split("_")[0][2:]) for line in lines]
    assert len(numbers) == min(count, 20)
    assert numbers == sorted(set(numbers))
    steps = [after - before for before, after in pairwise([*numbers, count])]
    assert max(steps) <= 3 * count / len(numbers)
