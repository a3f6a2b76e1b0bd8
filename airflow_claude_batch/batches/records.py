"""The records that users get: what an answer or a failure looks like once it is delivered.

Version 1. Fields are only ever added; their order is stable.
"""

from __future__ import annotations

import msgspec

from airflow_claude_batch.batches.resultlines import ErrorEnvelope, ResultLine, decode_error, decode_message

RECORDS_VERSION = 1

RETRYABLE_ERRORS = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
"""Error types of single requests that another try may not meet again."""


class SucceededRecord(msgspec.Struct, kw_only=True):
    """One answered request."""

    custom_id: str
    text: str
    """The text blocks of the answer, joined."""
    stop_reason: str | None
    model: str | None
    usage: msgspec.Raw
    """Token counts as the API gives them."""
    input: msgspec.Raw | None = None
    """The user's own columns of the record."""


class ErroredRecord(msgspec.Struct, kw_only=True):
    """One request without a usable answer."""

    custom_id: str
    outcome: str
    """errored, expired, canceled, invalid, missing, or a type that this release does not know."""
    error_type: str | None
    message: str | None
    request_id: str | None
    """The API's id of the failed request, for support."""
    retryable: bool
    """Whether the same request may succeed at another time."""
    input: msgspec.Raw | None = None
    """The user's own columns of the record."""
    result: msgspec.Raw | None = None
    """The whole result, where its type is unknown."""


NULL = msgspec.Raw(b"null")

WHY = {
    "expired": "the batch reached its 24 hours before this request was processed",
    "canceled": "the batch was cancelled before this request was processed",
    "missing": "the results hold no line for this request",
}


def succeeded(line: ResultLine, columns: bytes) -> SucceededRecord:
    """The record of a succeeded line. Raises ``msgspec.DecodeError`` for a message of another shape."""
    message = decode_message(line.result.message)
    content = message.content
    if len(content) == 1:
        text = content[0].text
    else:
        text = "".join([block.text for block in content if block.type == "text"])
    return SucceededRecord(
        custom_id=line.custom_id,
        text=text,
        stop_reason=message.stop_reason,
        model=message.model,
        usage=message.usage or NULL,
        input=msgspec.Raw(columns) if columns else None,
    )


def failed(line: ResultLine, columns: bytes) -> ErroredRecord:
    """The record of any other line."""
    outcome = line.result.type
    envelope = _error(line)
    known = outcome in ("errored", "expired", "canceled")
    if outcome == "errored" and envelope.error.type:
        error_type, message = envelope.error.type, envelope.error.message
    else:
        error_type, message = None, WHY.get(outcome, f"result type {outcome!r} is unknown to this release")
        known = known and outcome != "errored"
    return ErroredRecord(
        custom_id=line.custom_id,
        outcome=outcome if known or outcome == "errored" else "errored",
        error_type=error_type,
        message=message,
        request_id=envelope.request_id,
        retryable=is_retryable(outcome, error_type, message),
        input=msgspec.Raw(columns) if columns else None,
        result=None if known else msgspec.Raw(msgspec.json.encode(line.result)),
    )


def missing(custom_id: str, columns: bytes) -> ErroredRecord:
    """The record of a request for which no line came."""
    return ErroredRecord(
        custom_id=custom_id,
        outcome="missing",
        error_type=None,
        message=WHY["missing"],
        request_id=None,
        retryable=True,
        input=msgspec.Raw(columns) if columns else None,
    )


def is_retryable(outcome: str, error_type: str | None, message: str | None) -> bool:
    """Whether another try may succeed where the user changes nothing about the request."""
    if outcome in ("expired", "canceled", "missing"):
        return True
    if error_type in RETRYABLE_ERRORS:
        return True
    # Arrives as invalid_request_error, but it is the account that is short, not the request that is wrong.
    return error_type == "billing_error" or "credit balance" in (message or "").lower()


def _error(line: ResultLine) -> ErrorEnvelope:
    if not line.result.error:
        return ErrorEnvelope()
    try:
        return decode_error(line.result.error)
    except msgspec.DecodeError:
        return ErrorEnvelope()
