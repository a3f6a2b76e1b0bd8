"""What a delivery came to: its summary, what deserves a look, and whether the task fails."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from airflow_claude_batch.batches.cost.prices import cost_summary, usage_summary
from airflow_claude_batch.batches.errors import TooManyFailuresError
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.results.answer_policy import EMPTY, KINDS, STOP_REASONS
from airflow_claude_batch.batches.results.extrapolate import extrapolate
from airflow_claude_batch.batches.results.moves import last_round
from airflow_claude_batch.batches.results.output_records import OUTCOMES, RECORDS_VERSION, UNREADABLE_RESULT
from airflow_claude_batch.batches.results.punctuality import by_way, punctuality
from airflow_claude_batch.batches.results.reusing import reuse_summary

WARNED_SHARE_OF_ANSWERS, WARNED_SHARE_FAILED = 0.01, 0.1
"""Shares of cut off, refused or empty answers, and of failed requests, above which a delivery warns."""


def summarise(
    tally: Tally, batch_ids: list[str], paths: Mapping[str, Any], *, job: str | None
) -> dict[str, Any]:
    """The summary of what all parts came to; see :mod:`.summary` for its keys.

    Args:
        tally: Of all parts.
        batch_ids: Their batches.
        paths: Where the records are.
        job: URL of the job; None for batches that something else submitted.
    """
    counts = {outcome: tally.counts.get(outcome, 0) for outcome in OUTCOMES}
    return {
        "version": RECORDS_VERSION,
        "job": job,
        "tags": {},
        "batch_ids": batch_ids,
        "rounds": 1,
        "left_out": {},
        "ways": {},
        "direct_extra_usd": 0.0,
        "deadline": None,
        "on_time": None,
        "trial": None,
        "counts": {"total": tally.delivered, **counts},
        "errors": _by_frequency(tally.errors),
        "error_samples": tally.samples,
        "stop_reasons": _by_frequency(tally.stop_reasons),
        "empty": tally.empty,
        "warnings": warnings(tally),
        "resubmitted": tally.moved,
        "unknown_ids": tally.unknown_ids,
        "usage": usage_summary(tally.spending),
        "cost": cost_summary(tally.spending),
        **paths,
    }


def summarise_job(ledger: Ledger, tally: Tally, paths: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of a whole job.

    Args:
        ledger: Of the job, all of whose parts are delivered.
        tally: Of all parts.
        paths: Where the records are.
    """
    summary = summarise(tally, ledger.batch_ids, paths, job=ledger.job)
    summary |= by_way(ledger) | punctuality(ledger, datetime.datetime.now(datetime.UTC))
    if ledger.trial is not None:
        summary["trial"] = extrapolate(ledger.trial, tally)
    summary["tags"] = ledger.tags
    summary["rounds"] = last_round(ledger) + 1
    summary["left_out"] = ledger.left_out
    summary["batches"] = [_describe_batch(part) for part in ledger.live_parts if part.batch_id]
    return summary | reuse_summary(ledger, tally)


def _describe_batch(part: Part) -> dict[str, Any]:
    note = part.delivery
    return {
        "id": part.batch_id,
        "round": part.round,
        "requests": part.request_count,
        "created_at": note.created_at.isoformat() if note and note.created_at else None,
        "ended_at": note.ended_at.isoformat() if note and note.ended_at else None,
    }


def warnings(tally: Tally) -> list[str]:
    """What deserves a look, in words."""
    answers = sum(tally.stop_reasons.values())
    kinds = {reason: tally.stop_reasons.get(reason, 0) for reason in STOP_REASONS} | {EMPTY: tally.empty}
    found = [
        f"{count} of {answers} answers ({count / answers:.0%}): {KINDS[kind]} ({kind})"
        for kind, count in kinds.items()
        if count > WARNED_SHARE_OF_ANSWERS * answers
    ]
    if unread := tally.errors.get(UNREADABLE_RESULT, 0):
        found.append(f"{unread} results never came, which a person has accepted ({UNREADABLE_RESULT})")
    if tally.unread:
        found.append(
            f"{tally.unread} results never came; nobody knows of which requests, so no record says so"
        )
    failed = tally.delivered - tally.counts.get("succeeded", 0)
    if failed > WARNED_SHARE_FAILED * tally.delivered:
        reasons = ", ".join(
            f"{count} x {kind}" for kind, count in list(_by_frequency(tally.errors).items())[:3]
        )
        found.append(
            f"{failed} of {tally.delivered} requests failed ({failed / tally.delivered:.0%}): {reasons}"
        )
    return found


def judge(summary: Mapping[str, Any], max_failed_fraction: float) -> None:
    """Decide whether the task fails. The output is complete before this is asked.

    Requests of a batch that somebody cancelled are left out of the share: they were not wanted.

    Args:
        summary: Of the delivery.
        max_failed_fraction: Largest share of failed requests that is accepted, 0 to 1.

    Raises:
        TooManyFailuresError: When nothing succeeded, or more failed than allowed.
    """
    counts = summary["counts"]
    succeeded = counts["succeeded"]
    wanted = counts["total"] - counts["canceled"]
    failed = wanted - succeeded
    if not counts["total"]:  # an empty input, which on_empty allows
        return
    if succeeded and failed <= max_failed_fraction * wanted:
        return
    top = ", ".join(f"{count} x {reason}" for reason, count in list(summary["errors"].items())[:3])
    where = summary.get("errored_path") or "the task's XCom"
    limit = "nothing succeeded" if not succeeded else f"max_failed_fraction is {max_failed_fraction}"
    raise TooManyFailuresError(
        f"{counts['total'] - succeeded} of {counts['total']} requests failed ({limit}). Top reasons: {top}. "
        f"Errored records: {where}. The {succeeded} succeeded ones are delivered."
    )


def _by_frequency(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
