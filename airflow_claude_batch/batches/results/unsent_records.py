"""Records of what was never sent: they come out among the errored ones."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.on_time import LATE, LATE_REASON
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import StoredInput, stored_inputs
from airflow_claude_batch.batches.job.rejected import read_rejected
from airflow_claude_batch.batches.results.moves import read_moved
from airflow_claude_batch.batches.results.output_records import ErroredRecord
from airflow_claude_batch.batches.storage import Folder


def unsent_records(folder: Folder, ledger: Ledger, part: Part) -> Iterator[ErroredRecord]:
    """Why each request of a part was not sent, in a later round with the failure that it had before.

    Args:
        folder: Of the job.
        ledger: Of the job.
        part: One that was refused beforehand, late, or of a round that was given up.
    """
    if part.rejected:
        yield from _rejected_records(folder, part)
        return
    if part.round == 0:
        yield from _late_records(folder, part)
        return
    reasons = {
        moved.custom_id: moved
        for source in ledger.parts
        for moved in read_moved(folder, source)
        if moved.round == part.round
    }
    for row in stored_inputs(folder, part.inputs):
        moved = reasons[row.custom_id]
        message = f"{moved.message or moved.outcome}; not sent again: {part.given_up}"
        record = _retryable(row, part, moved.outcome, moved.error_type, message)
        record.request_id = moved.request_id
        yield record


def _late_records(folder: Folder, part: Part) -> Iterator[ErroredRecord]:
    """The requests of a part that there was no time to send, nor a budget for it after a clear."""
    message = LATE_REASON
    if part.given_up != LATE_REASON:
        message = f"{LATE_REASON}; not sent again: {part.given_up}"
    for row in stored_inputs(folder, part.inputs):
        yield _retryable(row, part, "errored", LATE, message)


def _retryable(
    row: StoredInput, part: Part, outcome: str, error_type: str | None, message: str
) -> ErroredRecord:
    """The record of a stored request that would be worth sending."""
    return ErroredRecord(
        custom_id=row.custom_id,
        outcome=outcome,
        error_type=error_type,
        message=message,
        retryable=True,
        rounds=part.round,
        input=row.input or None,
        request_digest=row.digest,
    )


def _rejected_records(folder: Folder, part: Part) -> Iterator[ErroredRecord]:
    """Records of the input that were refused before anything was sent."""
    for row in read_rejected(folder, part.inputs):
        yield ErroredRecord(
            custom_id=row.custom_id,
            outcome="invalid",
            error_type=row.error_type,
            message=row.reason,
            rounds=0,
            input=None if bytes(row.input) == b"null" else row.input,
        )
