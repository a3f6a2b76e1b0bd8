"""What a failed create means: was a batch made, and what is to be done.

This table is the whole policy. "Uncertain" is everything after which a batch may exist although
its id never reached us; only the list of batches can tell (see ``reconcile``).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.api.account import account_error, text_of
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.api.retry import asked_seconds
from airflow_claude_batch.batches.errors import AccessError, Final, RejectedError

SHORTEST_SECONDS, LONGEST_SECONDS, USUAL_SECONDS = 1.0, 300.0, 30.0
"""Bounds of a wait before the next try, and the wait where the API names none."""


class Kind(enum.Enum):
    """What follows from a failed create."""

    RETRY = "not created; the same again later"
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
    """For RETRY: the API's ``retry-after``, within bounds."""
    unreachable: bool = False
    """For RETRY: nothing answered."""
    error: type[Final] = RejectedError
    """For FINAL: what to raise."""


def classify(error: Exception, conn_id: str = "", sent: Iterable[bytes] = ()) -> Failure:
    """Read an exception of the SDK's ``post``.

    Args:
        error: The exception.
        conn_id: For messages.
        sent: The body that was streamed; what a refusal repeats of it is left out of the reason.
    """
    import anthropic
    import httpx2

    if isinstance(error, anthropic.APIStatusError):
        return _classify_status(error, conn_id, sent)
    if isinstance(error, anthropic.APIConnectionError):
        if isinstance(error.__cause__, (httpx2.ConnectError, httpx2.ConnectTimeout)):
            reason = f"the API cannot be reached ({describe_error(error)})"
            return Failure(kind=Kind.RETRY, reason=reason, unreachable=True)
        return Failure(kind=Kind.UNCERTAIN, reason=f"the answer was lost ({describe_error(error)})")
    return Failure(kind=Kind.UNCERTAIN, reason=describe_error(error))


def _classify_status(error: Any, conn_id: str, sent: Iterable[bytes]) -> Failure:
    status: int = error.status_code
    reason = f"{describe_error(error, sent)} (request id {error.request_id})"
    wait = _wait_seconds(error)
    account = account_error(error)
    if account is not None:
        where = f". Check connection {conn_id!r}" if conn_id and account is AccessError else ""
        return Failure(kind=Kind.FINAL, reason=f"{reason}{where}", error=account)
    if status in (429, 529):
        return Failure(kind=Kind.RETRY, reason=reason, wait_seconds=wait)
    if status == 413 or (status == 400 and "not valid json" in text_of(error).lower()):
        # What we send is valid JSON; a server that says otherwise has got only a part of it.
        return Failure(kind=Kind.TOO_LARGE, reason=reason)
    if status >= 500 or status == 408:
        return Failure(kind=Kind.UNCERTAIN, reason=reason)
    return Failure(kind=Kind.FINAL, reason=reason)


def _wait_seconds(error: Any) -> float:
    asked = asked_seconds(error)
    seconds = USUAL_SECONDS if asked is None else asked
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
