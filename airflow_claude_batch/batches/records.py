"""The records that users get: what an answer or a failure looks like once it is delivered.

Version 1. Fields are only ever added, at the end; their order, names and types are stable.

Succeeded records:

===========  ===============  ====================================================================
field        type             what it is
===========  ===============  ====================================================================
custom_id    text             of the request
text         text             the text blocks of the answer, joined
stop_reason  text, null       why the answer ended (``end_turn``, ``max_tokens``, ``refusal``, …)
model        text, null       the model that answered
usage        object, null     token counts as the API gives them
cost_usd     number, null     price of this answer in a batch; null where the model has no known price
input        object, null     the user's own columns of the record
output       any              the parsed answer; only where an output schema was asked for
message      object           the API's whole message; only where it was asked for
===========  ===============  ====================================================================

Errored records:

===========  ===============  ====================================================================
field        type             what it is
===========  ===============  ====================================================================
custom_id    text             of the request
outcome      text             errored, expired, canceled, invalid, missing
error_type   text, null       the API's error type; for invalid ``output_schema`` or the stop reason
message      text, null       what happened, in words
request_id   text, null       the API's id of the failed request, for support
retryable    true or false    whether the same request may succeed at another time
rounds       number           how many times the request was sent
input        object, null     the user's own columns of the record
cost_usd     number, null     price of an invalid answer (it was paid for); else null
result       object           the API's whole result, where it is invalid or of an unknown type
===========  ===============  ====================================================================
"""

from __future__ import annotations

from typing import Any

import msgspec

RECORDS_VERSION = 1

OUTCOMES = ("succeeded", "errored", "expired", "canceled", "invalid", "missing")

RETRYABLE_ERRORS = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
"""Error types of single requests that another try may not meet again."""
ACCOUNT_ERRORS = frozenset({"billing_error"})
"""Error types that say nothing of the request, only of the account that sent it."""
ACCOUNT_WORDS = ("credit balance", "spend limit", "spending limit", "billing")
"""The same, in the words of an ``invalid_request_error``."""

WHY = {
    "expired": "the batch reached its 24 hours before this request was processed",
    "canceled": "the batch was cancelled before this request was processed",
    "missing": "the results hold no line for this request",
}


class SucceededRecord(msgspec.Struct, gc=False):
    """One answered request; its fields are described above."""

    custom_id: str
    text: msgspec.Raw
    stop_reason: str | None
    model: str | None
    usage: msgspec.Raw | None
    cost_usd: float | None
    input: msgspec.Raw | None = None
    output: Any = msgspec.UNSET
    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ErroredRecord(msgspec.Struct, kw_only=True, gc=False):
    """One request without a usable answer; its fields are described above."""

    custom_id: str
    outcome: str
    error_type: str | None = None
    message: str | None = None
    request_id: str | None = None
    retryable: bool = False
    rounds: int = 1
    input: msgspec.Raw | None = None
    cost_usd: float | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def is_retryable(outcome: str, error_type: str | None, message: str | None) -> bool:
    """Whether another try may succeed where the user changes nothing about the request."""
    if outcome in ("expired", "canceled", "missing"):
        return True
    if error_type in RETRYABLE_ERRORS or error_type in ACCOUNT_ERRORS:
        return True
    # Arrives as invalid_request_error, but it is the account that is short, not the request that is wrong.
    lowered = (message or "").lower()
    return any(words in lowered for words in ACCOUNT_WORDS)
