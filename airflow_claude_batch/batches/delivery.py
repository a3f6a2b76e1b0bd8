"""Delivery: every request of a job ends in exactly one of the two record sets.

Part by part: download, classify, write, count. The counts of a part must add up to its requests; a
part that is delivered is noted in the ledger, so that an interrupted delivery goes on with the next.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_claude_batch.batches import records
from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.download import Download
from airflow_claude_batch.batches.errors import ResultsError, TooManyFailuresError
from airflow_claude_batch.batches.ledger import Ledger
from airflow_claude_batch.batches.resultlines import decode_usage
from airflow_claude_batch.batches.spool import read_inputs
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.writers import Output, PartWriter

log = logging.getLogger(__name__)

OUTCOMES = ("succeeded", "errored", "expired", "canceled", "invalid", "missing")
TOKENS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


@dataclass
class Tally:
    """What was delivered, in numbers."""

    counts: Counter[str] = field(default_factory=Counter)
    """Requests by outcome."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests by error type."""
    stop_reasons: Counter[str] = field(default_factory=Counter)
    """Succeeded requests by stop reason; ``refusal`` and ``max_tokens`` deserve a look."""
    usage: Counter[str] = field(default_factory=Counter)
    """Tokens by kind."""

    def add(self, other: Tally) -> None:
        """Add another tally's numbers."""
        for name in ("counts", "errors", "stop_reasons", "usage"):
            getattr(self, name).update(getattr(other, name))

    @property
    def total(self) -> int:
        """Requests."""
        return sum(self.counts.values())

    def as_dict(self) -> dict[str, Any]:
        """For the summary; all outcomes are named, also those that did not occur."""
        return {
            "counts": {"total": self.total, **{outcome: self.counts[outcome] for outcome in OUTCOMES}},
            "errors": dict(self.errors.most_common()),
            "stop_reasons": dict(self.stop_reasons.most_common()),
            "usage": {kind: self.usage[kind] for kind in TOKENS},
        }


def deliver_batch(
    api: BatchesApi, batch: Batch, columns: dict[str, bytes] | None, writer: PartWriter
) -> Tally:
    """Write the records of one ended batch.

    :param columns: every custom_id that was sent with the user's columns as JSON; None where not known
    """
    tally = Tally()
    download = Download(api=api, batch=batch, columns=columns)
    sent = batch.request_counts.total if columns is None else len(columns)
    for line, own in download.lines():
        if line.result.type == "succeeded":
            try:
                record = records.succeeded(line, own)
            except msgspec.DecodeError:
                log.warning(
                    "The message of %s has an unknown shape; it goes to errored, whole", line.custom_id
                )
            else:
                _count_answer(tally, record)
                writer.succeeded(record)
                continue
        _write_failure(tally, records.failed(line, own), writer)
    for custom_id, own in download.missing():
        _write_failure(tally, records.missing(custom_id, own), writer)
    tally.counts["missing"] += download.missing_unnamed
    if download.unknown_ids:
        log.error("%s results of %s belong to no request of this job", download.unknown_ids, batch.id)
    if tally.total != sent:
        raise ResultsError(
            f"{tally.total} results of {batch.id} were counted where {sent} requests were sent."
        )
    return tally


def _count_answer(tally: Tally, record: records.SucceededRecord) -> None:
    tally.counts["succeeded"] += 1
    tally.stop_reasons[record.stop_reason or "unknown"] += 1
    usage = decode_usage(record.usage)
    if usage is None:
        return
    tally.usage["input_tokens"] += usage.input_tokens or 0
    tally.usage["output_tokens"] += usage.output_tokens or 0
    tally.usage["cache_creation_input_tokens"] += usage.cache_creation_input_tokens or 0
    tally.usage["cache_read_input_tokens"] += usage.cache_read_input_tokens or 0


def _write_failure(tally: Tally, record: records.ErroredRecord, writer: PartWriter) -> None:
    tally.counts[record.outcome] += 1
    tally.errors[record.error_type or record.outcome] += 1
    writer.errored(record)


def deliver_job(api: BatchesApi, folder: Folder, ledger: Ledger, output: Output) -> dict[str, Any]:
    """Write the records of all batches of a job, all of which have ended."""
    output.begin()
    tally = Tally()
    numbers = []
    for number, part in enumerate(ledger.parts):
        if part.split or part.batch_id is None:
            continue
        batch = api.retrieve(part.batch_id)
        columns = dict(read_inputs(folder, part.inputs))
        with output.part(number) as writer:
            tally.add(deliver_batch(api, batch, columns, writer))
        numbers.append(number)
    return output.finish(_summary(tally, ledger.batch_ids, output, job=ledger.job), numbers)


def deliver_batches(api: BatchesApi, batch_ids: list[str], output: Output) -> dict[str, Any]:
    """Write the records of batches that something else submitted: no columns, nothing to resubmit."""
    output.begin()
    tally = Tally()
    for number, batch_id in enumerate(batch_ids):
        with output.part(number) as writer:
            tally.add(deliver_batch(api, api.retrieve(batch_id), None, writer))
    return output.finish(_summary(tally, batch_ids, output, job=None), list(range(len(batch_ids))))


def _summary(tally: Tally, batch_ids: list[str], output: Output, *, job: str | None) -> dict[str, Any]:
    return {
        "version": records.RECORDS_VERSION,
        "job": job,
        "batch_ids": batch_ids,
        **tally.as_dict(),
        **output.paths(),
    }


def judge(summary: Mapping[str, Any], max_failed_fraction: float) -> None:
    """The verdict over a delivered job.

    :raises TooManyFailuresError: when nothing succeeded, or more failed than allowed
    """
    counts = summary["counts"]
    total, succeeded = counts["total"], counts["succeeded"]
    failed = total - succeeded
    if succeeded and failed <= max_failed_fraction * total:
        return
    reasons = list(summary["errors"].items())[:3]
    top = ", ".join(f"{count} x {reason}" for reason, count in reasons)
    where = summary.get("errored_path") or "the task's XCom"
    limit = "nothing succeeded" if not succeeded else f"max_failed_fraction is {max_failed_fraction}"
    raise TooManyFailuresError(
        f"{failed} of {total} requests failed ({limit}). Top reasons: {top}. Errored records: {where}. "
        f"The {succeeded} succeeded ones are delivered."
    )
