"""From the answers of a trial to what the whole input will take and cost, with how sure that is."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.ledger import Trial

SURE = 1.96
"""So many standard errors lie to both sides of what is expected: 19 of 20 inputs are within."""


def extrapolate(trial: Trial, tally: Tally) -> dict[str, Any]:
    """What the summary says of a trial.

    Args:
        trial: Which records were tried, of how many.
        tally: Of their answers.

    Returns:
        The trial's own fields and ``whole``: requests, tokens and dollars of the whole input, each with
        ``expected``, ``low`` and ``high``; dollars are null where no price is known, tokens and dollars
        where no answer was paid for, because all were reused.
    """
    answers = sum(spending.requests for spending in tally.spending)
    sums = {
        "input_tokens": sum(
            s.input_tokens + s.write_5m_tokens + s.write_1h_tokens + s.read_tokens for s in tally.spending
        ),
        "output_tokens": sum(spending.output_tokens for spending in tally.spending),
    }
    paid = [spending.paid_pico for spending in tally.spending]
    batch = [spending.batch_pico for spending in tally.spending]
    standard = [spending.standard_pico for spending in tally.spending]
    whole: dict[str, Any] = {"requests": trial.of}
    for name, total in sums.items():
        share = _margin(answers, total, tally.squares.get(name, 0))
        whole[name] = _range(total / answers * trial.of, share, digits=0) if answers else None
    share = _margin(answers, _total(paid) or 0, tally.squares.get("cost", 0))
    for name, picos in (("batch_usd", batch), ("direct_usd", standard)):
        known = _total(picos)
        usd = None if known is None or not answers else known / PICO / answers * trial.of
        whole[name] = None if usd is None else _range(usd, share, digits=6)
    return {**msgspec.structs.asdict(trial), "whole": whole}


def _total(picos: list[int | None]) -> int | None:
    known = [pico for pico in picos if pico is not None]
    return sum(known) if known and len(known) == len(picos) else None


def _margin(answers: int, total: float, squares: float) -> float | None:
    """By which share the sum over the whole input may differ; None for too few answers to tell."""
    if answers < 2 or not total:
        return None
    mean = total / answers
    variance = max(squares / answers - mean * mean, 0.0) * answers / (answers - 1)
    return SURE * math.sqrt(variance / answers) / mean


def _range(expected: float, share: float | None, *, digits: int) -> dict[str, float | None]:
    low = None if share is None else round(expected * max(1 - share, 0.0), digits)
    high = None if share is None else round(expected * (1 + share), digits)
    return {"expected": round(expected, digits), "low": low, "high": high}
