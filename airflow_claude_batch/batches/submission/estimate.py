"""What a spooled job will cost, before anything is sent.

Input tokens are estimated from the size of each request: by what ``count_tokens`` (which is free) says of
a sample, or by a rule of thumb. Output has an upper bound, ``max_tokens``; how long answers
will really be, only the user can say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.cost.prices import PriceBook, Rates, Tariff
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import BudgetExceededError
from airflow_claude_batch.batches.job.survey import SampledRequest, Survey, Surveyor
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.storage import Folder, iter_lines

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.job import Job

log = logging.getLogger(__name__)


class _Line(msgspec.Struct):
    params: msgspec.Raw


_decode_line = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(_Line).decode


def estimate(job: Job, prices: PriceBook, *, api: BatchesApi | None, expected_output: int | None) -> Estimate:
    """Estimate what the job will cost.

    Args:
        api: Asked for the tokens of a sample; None for the rule of thumb.
        expected_output: Expected output tokens of an answer; None for ``max_tokens``.
    """
    survey = job.ledger.survey
    if survey is None or not survey.groups:
        survey = _survey(job)
    ratios = _measure(survey, job.folder, api) if api is not None else {}
    result = Estimate(method="count_tokens" if ratios else "local", by_max_tokens=expected_output is None)
    for group in survey.groups:
        ratio = ratios.get(group.model) or ratios.get("") or 1.0
        output = group.max_output
        if expected_output is not None:
            output = min(expected_output * group.requests, group.max_output)
        tokens = round(group.size * ratio)
        result.requests += group.requests
        result.input_tokens += tokens
        result.output_tokens += output
        result.max_output_tokens += group.max_output
        tariff = prices.tariff(group.model, group.geo)
        if tariff is None:
            result.unpriced_requests += group.requests
            continue
        tier = _tier_of(tariff, tokens / group.requests)
        result.pico += _price(tier.batch, tokens, output, group.lifetime)
        result.bound_pico += _price(tier.batch, tokens, group.max_output, group.lifetime)
        result.standard_pico += _price(tier.standard, tokens, output, group.lifetime)
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

    @classmethod
    def of(cls, known: Mapping[str, Any]) -> Estimate:
        """What a ledger has recorded of one, see `as_dict`."""
        return cls(
            method=known["method"],
            by_max_tokens=known["output_tokens"] == known["max_output_tokens"],
            requests=known["requests"],
            input_tokens=known["input_tokens"],
            output_tokens=known["output_tokens"],
            max_output_tokens=known["max_output_tokens"],
            unpriced_requests=known["unpriced_requests"],
            pico=round((known["total_usd"] or 0) * PICO),
            bound_pico=round((known["upper_bound_usd"] or 0) * PICO),
            standard_pico=round((known["standard_usd"] or 0) * PICO),
        )

    def as_dict(self) -> dict[str, Any]:
        """For XCom and the ledger; dollars are None where no request has a known price."""
        known = not self.requests or self.unpriced_requests < self.requests
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

    def check(self, max_usd: float, *, direct: bool = False) -> None:
        """Refuse a job that is too dear.

        Args:
            max_usd: Most that it may cost.
            direct: Whether it is answered by single calls, at the standard price.

        Raises:
            BudgetExceededError: When the estimate is above the limit, or a price is not known.
        """
        limit = f"max_usd={max_usd}"
        if self.unpriced_requests:
            raise BudgetExceededError(
                f"{self.unpriced_requests} of {self.requests} requests have a model without a known price, "
                f"so {limit} cannot be kept to. Nothing was sent. Update genai-prices or remove the limit."
            )
        if (self.standard_pico if direct else self.pico) > max_usd * PICO:
            way_out = " set expected_output_tokens if answers are shorter," if self.by_max_tokens else ""
            asked = ""
            if direct:
                asked = f", and single calls cost ${self.standard_pico / PICO:.4f}"
                way_out += " have it answered by a batch (no direct_below, Trial(direct=False)),"
            raise BudgetExceededError(
                f"The job is estimated at {self}{asked}, which is above {limit}. Nothing was sent. Send "
                f"fewer requests, lower max_tokens,{way_out} or raise max_usd, and clear the task."
            )


def _survey(job: Job) -> Survey:
    """The survey of a job whose ledger has none, or was to send nothing: its stored requests are read."""
    surveyor = Surveyor()
    for part in job.ledger.batch_parts:
        offset = 0
        with job.folder.open_read(part.requests) as file:
            for line in iter_lines(file):
                decoded = _decode_line(line)
                request = Request(
                    custom_id=decoded["custom_id"], line=line, columns=None, own_params=decoded["params"]
                )
                surveyor.add(request, part.requests, offset, len(line))
                offset += len(line) + 1
    return surveyor.result()


def _measure(survey: Survey, folder: Folder, api: BatchesApi) -> dict[str, float]:
    """By model, and for all together (key ""): counted tokens for each token of the rule of thumb."""
    counted: dict[str, list[float]] = {}
    for sampled, line in _sampled_lines(survey, folder):
        try:
            tokens = api.count_tokens(bytes(_decode_raw(line).params))
        except Exception as error:  # noqa: BLE001  # an estimate is no reason to fail
            log.warning("Could not count tokens, estimating them by size: %s", describe_error(error, [line]))
            return {}
        for key in (sampled.model, ""):
            sums = counted.setdefault(key, [0.0, 0.0])
            sums[0] += tokens
            sums[1] += sampled.size
    return {model: tokens / size for model, (tokens, size) in counted.items()}


def _sampled_lines(survey: Survey, folder: Folder) -> Iterator[tuple[SampledRequest, bytes]]:
    for name, group in groupby(survey.sample, key=lambda sampled: sampled.file):
        if not name.endswith(".gz"):
            for sampled in group:
                yield sampled, folder.read_range(name, sampled.offset, sampled.length)
            continue
        with folder.open_read(name) as file:
            for sampled in group:
                file.seek(sampled.offset)
                yield sampled, file.read(sampled.length)


def _tier_of(tariff: Tariff, prompt: float) -> Any:
    return next((tier for tier in tariff if prompt > tier.above), tariff[-1])


def _price(rates: Rates, tokens: int, output: int, lifetime: str) -> int:
    # Not one read from the cache is certain, so a request that writes to it pays for that.
    per_token = {"": rates.input, "5m": rates.write_5m, "1h": rates.write_1h}[lifetime]
    return tokens * per_token + output * rates.output
