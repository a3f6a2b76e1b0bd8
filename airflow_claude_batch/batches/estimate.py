"""What a spooled job will cost, before anything is sent.

Input tokens are estimated from the size of each request: by what ``count_tokens`` (which is free) says of
a sample, or by a rule of thumb. Output has an upper bound, ``max_tokens``; how long answers
will really be, only the user can say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.cost import PriceBook, Rates, Tariff
from airflow_claude_batch.batches.errors import BudgetExceededError
from airflow_claude_batch.batches.storage import iter_lines
from airflow_claude_batch.batches.tally import PICO

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.jobs import Job

log = logging.getLogger(__name__)

SAMPLE = 20
"""Requests whose tokens are counted by the API, spread evenly over the job."""
BYTES_PER_TOKEN = 4.0
"""Rule of thumb for text."""
FILE_TOKENS, PAGE_TOKENS, PAGE_CHARACTERS = 1_600, 2_250, 80_000
"""Rule of thumb for base64 data: so many tokens each, and so many for each so many characters."""
BUCKET = 1024
"""Requests are grouped by size in steps of so many bytes, for models whose long prompts cost more."""

_BASE64 = re.compile(rb'"data":"([A-Za-z0-9+/=]{64,})"')


class _Line(msgspec.Struct):
    params: msgspec.Raw


class _Params(msgspec.Struct):
    model: str
    max_tokens: int
    inference_geo: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_params = msgspec.json.Decoder(_Params).decode


@dataclass(slots=True)
class _Group:
    """Requests of one model, region, cache lifetime and size."""

    requests: int = 0
    size: float = 0.0
    """Sum of their sizes, in tokens by the rule of thumb."""
    max_output: int = 0


@dataclass
class _Survey:
    """What one reading of the stored requests shows."""

    groups: dict[tuple[str, str, str, int], _Group] = field(default_factory=dict)
    """By model, ``inference_geo``, lifetime of a cache entry that is written, and bucket of size."""
    sample: list[tuple[str, float, bytes]] = field(default_factory=list)
    """Model, size and parameters of some requests."""


def estimate(job: Job, prices: PriceBook, *, api: BatchesApi | None, expected_output: int | None) -> Estimate:
    """Estimate what the job will cost.

    :param api: asked for the tokens of a sample; None for the rule of thumb
    :param expected_output: expected output tokens of an answer; None for ``max_tokens``
    """
    survey = _survey(job)
    ratios = _measure(survey, api) if api is not None else {}
    result = Estimate(method="count_tokens" if ratios else "local", by_max_tokens=expected_output is None)
    for (model, geo, lifetime, _), group in survey.groups.items():
        ratio = ratios.get(model) or ratios.get("") or 1.0
        output = group.max_output
        if expected_output is not None:
            output = min(expected_output * group.requests, group.max_output)
        tokens = round(group.size * ratio)
        result.requests += group.requests
        result.input_tokens += tokens
        result.output_tokens += output
        result.max_output_tokens += group.max_output
        tariff = prices.tariff(model, geo)
        if tariff is None:
            result.unpriced_requests += group.requests
            continue
        tier = _tier_of(tariff, tokens / group.requests)
        result.pico += _price(tier.batch, tokens, output, lifetime)
        result.bound_pico += _price(tier.batch, tokens, group.max_output, lifetime)
        result.standard_pico += _price(tier.standard, tokens, output, lifetime)
    return result


@dataclass(kw_only=True)
class Estimate:
    """What a job will cost, as far as that can be known."""

    method: str
    """How input tokens were found: ``count_tokens`` or ``local``."""
    by_max_tokens: bool
    """Whether answers are taken to be as long as they may be."""
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    max_output_tokens: int = 0
    unpriced_requests: int = 0
    pico: int = 0
    """Cost in picodollars."""
    bound_pico: int = 0
    """The same, if every answer is as long as ``max_tokens`` allows."""
    standard_pico: int = 0
    """What it would cost outside a batch."""

    def as_dict(self) -> dict[str, Any]:
        """For XCom and the ledger; dollars are None where no request has a known price."""
        known = self.unpriced_requests < self.requests
        return {
            "method": self.method,
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "max_output_tokens": self.max_output_tokens,
            "total_usd": self.pico / PICO if known else None,
            "upper_bound_usd": self.bound_pico / PICO if known else None,
            "standard_usd": self.standard_pico / PICO if known else None,
            "saved_usd": (self.standard_pico - self.pico) / PICO if known else None,
            "unpriced_requests": self.unpriced_requests,
        }

    def __str__(self) -> str:
        length = "answers as long as max_tokens" if self.by_max_tokens else "answers of the expected length"
        counted = "a counted sample" if self.method == "count_tokens" else "the size of the requests"
        unpriced = f"; {self.unpriced_requests} have no known price" if self.unpriced_requests else ""
        inwards = f"{self.input_tokens} tokens in, by {counted}"
        outwards = f"{self.output_tokens} out, {length}{unpriced}"
        return (
            f"${self.pico / PICO:.4f} for {self.requests} requests ({inwards}; {outwards}); "
            f"at most ${self.bound_pico / PICO:.4f}, ${self.standard_pico / PICO:.4f} outside a batch"
        )

    def check(self, max_cost_usd: float) -> None:
        """Refuse a job that is too dear.

        :raises BudgetExceededError: when the estimate is above the limit, or a price is not known
        """
        limit = f"max_cost_usd={max_cost_usd}"
        if self.unpriced_requests:
            raise BudgetExceededError(
                f"{self.unpriced_requests} of {self.requests} requests have a model without a known price, "
                f"so {limit} cannot be kept to. Nothing was sent. Update genai-prices or remove the limit."
            )
        if self.pico > max_cost_usd * PICO:
            way_out = " set expected_output_tokens if answers are shorter," if self.by_max_tokens else ""
            raise BudgetExceededError(
                f"The job is estimated at {self}, which is above {limit}. Nothing was sent. Send fewer "
                f"requests, lower max_tokens,{way_out} or raise max_cost_usd, and clear the task."
            )


def _survey(job: Job) -> _Survey:
    survey = _Survey()
    every = max(job.ledger.request_count // SAMPLE, 1)
    for number, line in enumerate(_lines(job)):
        raw = _decode_line(line).params
        params = _decode_params(raw)
        size = _size(bytes(raw))
        key = params.model, params.inference_geo or "", _cache_lifetime(line), int(size) // BUCKET
        group = survey.groups.get(key)
        if group is None:
            group = survey.groups[key] = _Group()
        group.requests += 1
        group.size += size
        group.max_output += params.max_tokens
        if number % every == 0 and len(survey.sample) < SAMPLE:
            survey.sample.append((params.model, size, bytes(raw)))
    return survey


def _lines(job: Job) -> Iterator[bytes]:
    for part in job.ledger.live_parts:
        with job.folder.open_read(part.requests) as file:
            yield from iter_lines(file)


def _size(params: bytes) -> float:
    """Tokens by the rule of thumb."""
    if b'"base64"' not in params:
        return len(params) / BYTES_PER_TOKEN
    files = [len(data) for data in _BASE64.findall(params)]
    extra = sum(FILE_TOKENS + PAGE_TOKENS * length // PAGE_CHARACTERS for length in files)
    return (len(params) - sum(files)) / BYTES_PER_TOKEN + extra


def _cache_lifetime(line: bytes) -> str:
    if b'"cache_control"' not in line:
        return ""
    return "1h" if b'"ttl":"1h"' in line else "5m"


def _measure(survey: _Survey, api: BatchesApi) -> dict[str, float]:
    """By model, and for all together (key ""): counted tokens for each token of the rule of thumb."""
    counted: dict[str, list[float]] = {}
    for model, size, params in survey.sample:
        try:
            tokens = api.count_tokens(params)
        except Exception as error:  # noqa: BLE001  # an estimate is no reason to fail
            log.warning("Could not count tokens, estimating them by size: %s", error)
            return {}
        for key in (model, ""):
            sums = counted.setdefault(key, [0.0, 0.0])
            sums[0] += tokens
            sums[1] += size
    return {model: tokens / size for model, (tokens, size) in counted.items()}


def _tier_of(tariff: Tariff, prompt: float) -> Any:
    return next((tier for tier in tariff if prompt > tier.above), tariff[-1])


def _price(rates: Rates, tokens: int, output: int, lifetime: str) -> int:
    # Not one read from the cache is certain, so a request that writes to it pays for that.
    per_token = {"": rates.input, "5m": rates.write_5m, "1h": rates.write_1h}[lifetime]
    return tokens * per_token + output * rates.output
