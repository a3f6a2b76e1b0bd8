"""What the tasks of this package put into XCom, as far as the page reads it.

Only the fields named here ever leave through the page's API: no prompt, answer or secret has a place.
Anybody may push an XCom of the same name, with anything in it. So reading is strict: a value fits in every
field, or it cannot be read at all, and then no page, sum or comparison meets it.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from airflow_claude_batch.common.xcoms import (
    CANCELED,
    ESTIMATE,
    GOING_DIRECT,
    HANDLE_KEY,
    PROGRESS,
    SUMMARY,
    XCOM_KEY,
)

JOB_KEYS = (XCOM_KEY, SUMMARY, PROGRESS, GOING_DIRECT, ESTIMATE, HANDLE_KEY, CANCELED)
"""XCom keys that a job's tasks write."""

Natural = Annotated[int, Meta(ge=0, le=2**53)]
"""JavaScript counts no further."""
Dollars = Annotated[float, Meta(ge=-1e12, le=1e12)]
Word = Annotated[str, Meta(max_length=1_000)]
Name = Annotated[str, Meta(max_length=10_000)]
BatchIds = Annotated[list[Word], Meta(max_length=1_000_000)]
Histogram = Annotated[dict[Word, Natural], Meta(max_length=1_000)]

_FIRST_YEAR, _LAST_YEAR = 2000, 2200
_WHICH_YEARS = f"a time between the years {_FIRST_YEAR} and {_LAST_YEAR} is wanted"


class _Timed(msgspec.Struct):
    """Times are in UTC, and near enough to be added to."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime.datetime):
                setattr(self, name, _instant(value))


def _instant(time: datetime.datetime) -> datetime.datetime:
    if not _FIRST_YEAR <= time.year < _LAST_YEAR:
        raise ValueError(_WHICH_YEARS)
    if time.tzinfo is datetime.UTC:  # as we write them: nothing to convert, thousands of times
        return time
    return time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)


class Pause(_Timed):
    """Why submission waits (a full processing queue, say), and until when."""

    reason: Word = ""
    until: datetime.datetime | None = None


class PaidBefore(msgspec.Struct):
    """What earlier jobs of the task instance cost, which a clear with other requests has replaced."""

    jobs: Natural = 0
    usd: Dollars = 0.0
    estimated_usd: Dollars = 0.0
    """How much of it is an estimate: jobs whose results were never fetched."""


class Announcement(_Timed):
    """Of the task that submits (key ``claude_batch``)."""

    conn_id: Word = ""
    model: Word | None = None
    job: Name | None = None
    batch_ids: BatchIds = []
    request_count: Natural | None = None
    submitted_at: datetime.datetime | None = None
    pause: Pause | None = None
    paid_before: PaidBefore | None = None
    tags: Any = None
    deadline: Any = None
    """When the author wants the results; see :func:`moment`."""


class Progress(_Timed):
    """Of the task that waits (key ``progress``)."""

    batches: Natural = 0
    ended: Natural = 0
    canceling: Natural = 0
    waiting_since: datetime.datetime | None = None
    deadline: datetime.datetime | None = None


class GoingDirect(msgspec.Struct):
    """Of the task that asks by single calls what late batches leave open (key ``going_direct``)."""

    job: Name | None = None
    answered: Natural = 0
    requests: Natural | None = None
    """None while the batches are being cancelled."""


class Handle(msgspec.Struct):
    """The batches that a job has by now (key ``handle``)."""

    job: Name | None = None
    batch_ids: BatchIds = []


class Cancellation(_Timed):
    """Written by the page (key ``claude_batch_canceled``): who asked for it, and when."""

    by: Word
    at: datetime.datetime
    batches: Natural


class Counts(msgspec.Struct, gc=False):
    """Requests by outcome."""

    total: Natural = 0
    succeeded: Natural = 0
    errored: Natural = 0
    expired: Natural = 0
    canceled: Natural = 0
    invalid: Natural = 0
    missing: Natural = 0

    def __post_init__(self) -> None:
        told = self.succeeded + self.errored + self.expired + self.canceled + self.invalid + self.missing
        if told > self.total:
            raise ValueError("more outcomes than requests")


class Usage(msgspec.Struct):
    """Tokens by kind."""

    input_tokens: Natural = 0
    output_tokens: Natural = 0
    cache_creation_input_tokens: Natural = 0
    cache_read_input_tokens: Natural = 0


class Money(msgspec.Struct, gc=False):
    """What was or will be paid, US dollars. None where a model has no known price."""

    total_usd: Dollars | None = None
    standard_usd: Dollars | None = None
    saved_usd: Dollars | None = None
    unpriced_requests: Natural = 0


class Batch(_Timed):
    """One batch of the job."""

    id: Word
    round: Natural = 0
    requests: Natural | None = None
    created_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None


class Sample(msgspec.Struct):
    """The API's message for one of the requests that met an error of this type."""

    message: Name = ""
    request_id: Word | None = None


class Summary(msgspec.Struct):
    """Of the task that delivers (key ``summary``)."""

    counts: Counts
    job: Name | None = None
    batch_ids: BatchIds = []
    errors: Histogram = {}
    stop_reasons: Histogram = {}
    warnings: Annotated[list[Name], Meta(max_length=100)] = []
    """What deserves a look, in words; numbers and kinds only."""
    empty: Natural = 0
    """Answers without any text."""
    usage: Usage = msgspec.field(default_factory=Usage)
    cost: Money | None = None
    batches: Annotated[list[Batch], Meta(max_length=1_000_000)] = []
    rounds: Natural | None = None
    error_samples: Annotated[dict[Word, Sample], Meta(max_length=1_000)] = {}
    succeeded_path: Name | None = None
    errored_path: Name | None = None
    summary_path: Name | None = None
    tags: Any = None
    deadline: Any = None
    on_time: Any = None
    ways: Any = None
    """How many requests were answered by what; see :func:`answered_by`."""
    direct_extra_usd: Any = None
    """What those cost more than in a batch."""
    reused: Any = None
    """Requests that earlier answers served."""
    saved_by_reuse_usd: Any = None


class Brief(_Timed, gc=False):
    """The part of an :class:`Announcement` that sums are made of; quick to decode, ten thousand at a time."""

    job: Name | None = None
    conn_id: Word = ""
    model: Word | None = None
    batch_ids: BatchIds = []
    request_count: Natural | None = None
    submitted_at: datetime.datetime | None = None
    paid_before: PaidBefore | None = None
    deadline: Any = None


class BriefBatch(_Timed, gc=False):
    """:class:`Batch`, for the same."""

    created_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None


class Outline(msgspec.Struct, gc=False):
    """The part of a :class:`Summary` that sums are made of."""

    job: Name | None = None
    counts: Counts = msgspec.field(default_factory=Counts)
    cost: Money | None = None
    batches: list[BriefBatch] = []
    errors: Histogram = {}
    stop_reasons: Histogram = {}
    deadline: Any = None
    on_time: Any = None
    reused: Any = None
    saved_by_reuse_usd: Any = None
    batch_seconds: Any = None
    """How long each batch took, and not what is written there: less to keep than their times."""

    def __post_init__(self) -> None:
        times = [(one.created_at, one.ended_at) for one in self.batches]
        self.batch_seconds = [(end - begin).total_seconds() for begin, end in times if begin and end]
        self.batches = []


MOST_TAGS = 20


def tags(value: Any) -> dict[str, str]:
    """Names and values that costs are booked under; those that are none are left out."""
    pairs = value.items() if isinstance(value, dict) else ()
    known = [(name[:100], own[:200]) for name, own in pairs if isinstance(own, str) and isinstance(name, str)]
    return dict(known[:MOST_TAGS])


def moment(value: Any) -> datetime.datetime | None:
    """A time that not every version of this package writes; None where it is none."""
    try:
        return _instant(msgspec.convert(value, datetime.datetime))
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None


def natural(value: Any) -> int | None:
    """A count, likewise."""
    return value if type(value) is int and 0 <= value <= 2**53 else None


def dollars(value: Any) -> float | None:
    """An amount, likewise."""
    return float(value) if type(value) in (int, float) and abs(value) <= 1e12 else None


def answered_by(ways: Any, way: str) -> int | None:
    """Requests that were answered in this way."""
    told = ways.get(way) if isinstance(ways, dict) else None
    return natural(told.get("requests") if isinstance(told, dict) else told)


class _Owner(msgspec.Struct):
    job: Any = None


_decode_owner = msgspec.json.Decoder(_Owner).decode


UNKNOWN = ""
"""The job of a value so broken that the job it names cannot be read."""


def owner(text: str) -> str | None:
    """Whose value it is: the job that it names, :data:`UNKNOWN`, or None where it names none."""
    try:
        named = _decode_owner(text).job
    except msgspec.ValidationError:  # JSON, but no object
        return None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return UNKNOWN
    return named if isinstance(named, str) and named else None


Shape = TypeVar("Shape", bound=msgspec.Struct)

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (Announcement, Brief, Cancellation, GoingDirect, Handle, Money, Outline, Progress, Summary)
}


def read(shape: type[Shape], text: str | None) -> Shape | None:
    """Decode an XCom's JSON text; None where it does not fit, whatever it is."""
    if text is None:
        return None
    try:
        return _decoders[shape].decode(text)  # type: ignore[no-any-return]
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None
