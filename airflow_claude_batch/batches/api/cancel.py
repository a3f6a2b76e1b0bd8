"""Asking for batches to be cancelled, and what the API's answers to that mean.

Tasks, triggers and the page all cancel; this is the one place that reads the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """What became of the wish to cancel a batch."""

    batch_id: str
    status: str | None = None
    """The batch's processing status now: ``canceling``, or ``ended``; None where the call failed."""
    problem: str = ""
    """Why the call failed."""

    @property
    def goes_on(self) -> bool:
        """Whether the batch may go on, and be paid for."""
        return self.status is None

    @property
    def level(self) -> int:
        """For the log."""
        return logging.WARNING if self.goes_on else logging.INFO

    def __str__(self) -> str:
        if self.goes_on:
            return f"batch {self.batch_id} could not be cancelled and may go on ({self.problem})"
        if self.status == "ended":
            return f"batch {self.batch_id} had ended before"
        return f"batch {self.batch_id} is being cancelled"


def read_answer(batch_id: str, answer: Batch | Exception) -> Cancellation:
    """What the answer to a cancel says about the batch.

    A 400 says that the batch has ended already. After a 404 nothing is known: the API does not know its
    own batches for minutes, now and then. Whatever else went wrong, the batch may go on.
    """
    if isinstance(answer, Batch):
        return Cancellation(batch_id=batch_id, status=answer.processing_status)
    if getattr(answer, "status_code", None) == 400:
        return Cancellation(batch_id=batch_id, status="ended")
    return Cancellation(batch_id=batch_id, problem=describe_error(answer))


def cancel_all(api: BatchesApi, batch_ids: Iterable[str]) -> list[Cancellation]:
    """Ask for batches to be cancelled; trouble with one keeps no other from it.

    What is in flight may still finish; finished requests are delivered, and billed.
    """
    return [_cancel(api, batch_id) for batch_id in batch_ids]


def _cancel(api: BatchesApi, batch_id: str) -> Cancellation:
    try:
        return read_answer(batch_id, api.cancel(batch_id))
    except Exception as error:  # noqa: BLE001  # each batch for itself
        return read_answer(batch_id, error)
