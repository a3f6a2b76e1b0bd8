"""What a failed create means: was a batch made, and what is to be done.

This table is the whole policy. "Uncertain" is everything after which a batch may exist although
its id never reached us; only the list of batches can tell (see ``reconcile``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.errors import AccessError, BillingError, RejectedError, SubmissionError
from airflow_claude_batch.batches.patience import asked_seconds

SPEND_LIMIT_CODES = ("enforced_spend_limit_reached", "contract_spend_limit_reached")
SHORTEST_SECONDS, LONGEST_SECONDS, USUAL_SECONDS = 1.0, 300.0, 30.0
"""Bounds of a wait before the next try, and the wait where the API names none."""


class Kind(enum.Enum):
    """What follows from a failed create."""

    RETRY = "not created; the same again later"
    QUEUE_FULL = "not created; again when the processing queue has drained"
    UNCERTAIN = "a batch may exist; look for it"
    TOO_LARGE = "not created; again in two halves"
    FINAL = "not created; no use in trying again"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed create, classified."""

    kind: Kind
    reason: str
    """For the log and for the error message."""
    wait_seconds: float = USUAL_SECONDS
    """For RETRY and QUEUE_FULL: the API's ``retry-after``, within bounds."""
    error: type[SubmissionError] = RejectedError
    """For FINAL: what to raise."""


def classify(error: Exception, conn_id: str = "") -> Failure:
    """Read an exception of the SDK's ``post``."""
    import anthropic
    import httpx2

    if isinstance(error, anthropic.APIStatusError):
        return _classify_status(error, conn_id)
    if isinstance(error, anthropic.APIConnectionError):
        if isinstance(error.__cause__, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            return Failure(kind=Kind.RETRY, reason=f"the API cannot be reached ({error.__cause__})")
        cause = f"{type(error.__cause__).__name__} {error.__cause__}".strip() if error.__cause__ else error
        return Failure(kind=Kind.UNCERTAIN, reason=f"the answer was lost ({cause})")
    return Failure(kind=Kind.UNCERTAIN, reason=f"{type(error).__name__}: {error}")


def _classify_status(error: Any, conn_id: str) -> Failure:
    status: int = error.status_code
    text = error.message if isinstance(error.message, str) else str(error)
    reason = f"HTTP {status} {error.type or ''}: {text} (request id {error.request_id})"
    lowered = text.lower()
    wait = _wait_seconds(error)
    if status in (401, 403):
        where = f" Check connection {conn_id!r}." if conn_id else ""
        return Failure(kind=Kind.FINAL, reason=f"{reason}.{where}", error=AccessError)
    if (
        status == 402
        or error.error_code in SPEND_LIMIT_CODES
        or "spend limit" in lowered
        or "credit balance" in lowered
    ):
        return Failure(kind=Kind.FINAL, reason=reason, error=BillingError)
    if status == 429:
        full = "queue" in lowered
        return Failure(kind=Kind.QUEUE_FULL if full else Kind.RETRY, reason=reason, wait_seconds=wait)
    if status == 529:
        return Failure(kind=Kind.RETRY, reason=reason, wait_seconds=wait)
    if status == 413 or (status == 400 and "not valid json" in lowered):
        # What we send is valid JSON; a server that says otherwise has got only a part of it.
        return Failure(kind=Kind.TOO_LARGE, reason=reason)
    if status >= 500 or status == 408:
        return Failure(kind=Kind.UNCERTAIN, reason=reason)
    return Failure(kind=Kind.FINAL, reason=reason)


def _wait_seconds(error: Any) -> float:
    asked = asked_seconds(error)
    seconds = USUAL_SECONDS if asked is None else asked
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
