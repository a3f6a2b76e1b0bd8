"""What the tasks of this package put into XCom, as far as the page reads it.

Only the fields named here ever leave through the page's API: no prompt, answer or secret has a place.
Reading is lenient: releases differ, and anybody may push an XCom of the same name. What does not fit is
left out, never an error.
"""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

import msgspec

from airflow_claude_batch.announcement import HANDLE_KEY, XCOM_KEY

ANNOUNCEMENT = XCOM_KEY
SUMMARY = "summary"
PROGRESS = "progress"
ESTIMATE = "estimate"
HANDLE = HANDLE_KEY
CANCELED = "claude_batch_canceled"

JOB_KEYS = (ANNOUNCEMENT, SUMMARY, PROGRESS, ESTIMATE, HANDLE, CANCELED)
"""XCom keys that a job's tasks write."""

OUTCOMES = ("succeeded", "errored", "expired", "canceled", "invalid", "missing")


class Pause(msgspec.Struct):
    """Why submission waits (a full processing queue, say), and until when."""

    reason: str = ""
    until: datetime.datetime | None = None


class Announcement(msgspec.Struct):
    """Of the task that submits (key ``claude_batch``)."""

    conn_id: str = ""
    model: str | None = None
    job: str | None = None
    batch_ids: list[str] = []
    request_count: int | None = None
    submitted_at: datetime.datetime | None = None
    pause: Pause | None = None


class Progress(msgspec.Struct):
    """Of the task that waits (key ``progress``)."""

    batches: int = 0
    ended: int = 0
    canceling: int = 0
    waiting_since: datetime.datetime | None = None
    deadline: datetime.datetime | None = None


class Handle(msgspec.Struct):
    """Whose value it is, in all that name their job; and the batches it has by now (key ``handle``)."""

    job: str | None = None
    batch_ids: list[str] = []


class Cancellation(msgspec.Struct):
    """Written by the page (key ``claude_batch_canceled``): who asked for it, and when."""

    by: str
    at: datetime.datetime
    batches: int


class Counts(msgspec.Struct):
    """Requests by outcome."""

    total: int = 0
    succeeded: int = 0
    errored: int = 0
    expired: int = 0
    canceled: int = 0
    invalid: int = 0
    missing: int = 0


class Usage(msgspec.Struct):
    """Tokens by kind."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class Money(msgspec.Struct):
    """What was or will be paid, US dollars. None where a model has no known price."""

    total_usd: float | None = None
    standard_usd: float | None = None
    saved_usd: float | None = None
    unpriced_requests: int = 0


class Batch(msgspec.Struct):
    """One batch of the job."""

    id: str
    round: int = 0
    requests: int | None = None
    created_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None


class Sample(msgspec.Struct):
    """The API's message for one of the requests that met an error of this type."""

    message: str = ""
    request_id: str | None = None


class Summary(msgspec.Struct):
    """Of the task that delivers (key ``summary``)."""

    counts: Counts
    job: str | None = None
    batch_ids: list[str] = []
    errors: dict[str, int] = {}
    stop_reasons: dict[str, int] = {}
    usage: Usage = msgspec.field(default_factory=Usage)
    cost: Money | None = None
    batches: list[Batch] = []
    rounds: int | None = None
    error_samples: dict[str, Sample] = {}
    succeeded_path: str | None = None
    errored_path: str | None = None
    summary_path: str | None = None


class Outline(msgspec.Struct):
    """The part of a summary that totals are made of; quick to decode, ten thousand at a time."""

    counts: Counts
    cost: Money | None = None
    batches: list[Batch] = []


Shape = TypeVar("Shape", bound=msgspec.Struct)

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def read(shape: type[Shape], text: str | None) -> Shape | None:
    """Decode an XCom's JSON text; None where it has another shape.

    An optional field of another shape is as good as absent: it must not hide the job it belongs to.
    """
    if text is None:
        return None
    decoder = _decoders.get(shape) or _decoders.setdefault(shape, msgspec.json.Decoder(shape, strict=False))
    try:
        return decoder.decode(text)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        return _read_field_by_field(shape, text)
    except msgspec.DecodeError:
        return None


def _read_field_by_field(shape: type[Shape], text: str) -> Shape | None:
    value = msgspec.json.decode(text)
    if not isinstance(value, dict):
        return None
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(shape):
        if field.encode_name in value:
            try:
                fields[field.name] = msgspec.convert(value[field.encode_name], field.type, strict=False)
            except msgspec.ValidationError:
                if field.required:
                    return None
        elif field.required:
            return None
    return shape(**fields)
