"""What can be set at start and changed while the emulator runs (``GET``/``PATCH /_emulator/settings``)."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec


class Failure(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Requests that do not succeed, chosen by custom_id, on their first ``tries`` submissions.

    A submission is one batch that holds the custom_id; tries are counted over all batches.
    """

    custom_ids: list[str] = []
    pattern: str | None = None
    """Regular expression that finds custom_ids (``re.search``), beside those listed."""
    tries: int | None = None
    """How many submissions fail; ``null``: all."""
    outcome: Literal[
        "errored",
        "expired",
        "canceled",
        "refusal",
        "max_tokens",
        "empty",
        "thinking_only",
        "blank",
        "pause_turn",
        "model_context_window_exceeded",
    ] = "errored"
    """The last seven are answers: without content, of thinking or of white space alone, or cut off."""
    error_type: str = "api_error"
    message: str | None = None


class Outcomes(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Shares (0 to 1) of the requests that end otherwise; each draw depends on custom_id and try."""

    errored: dict[str, float] = {}
    """Share by error type, for example ``{"overloaded_error": 0.1}``."""
    messages: dict[str, str] = {}
    """Message by error type, for example a "credit balance is too low" for ``invalid_request_error``."""
    expired: float = 0.0
    canceled: float = 0.0
    refusal: float = 0.0
    max_tokens: float = 0.0
    failures: list[Failure] = []
    """Checked before the shares; the first that matches decides."""
    seed: int = 0


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """All settings of the emulator; times in seconds, sizes in bytes."""

    speed: float = 1.0
    """Batches are processed this many times as fast; clock, expiry and archiving are not touched."""
    duration: float | Literal["manual"] | None = None
    """Processing time before ``speed``; ``null``: 60 to 180 s by size; ``"manual"``: until told to end."""
    cancel_duration: float = 5.0
    """Seconds from cancel to end, before ``speed``; with ``duration="manual"``: until told to end."""
    cancel_finished_share: float | None = None
    """Share of a cancelled batch's requests that finish; ``null``: as much of it as its time had passed."""
    api_key: str | None = None
    """The only accepted key; ``null``: any that is not empty."""
    answer_bytes: int | None = None
    """Bytes of each answer's text (still cut at ``max_tokens``); ``null``: plausible lengths."""
    answer_bytes_by_id: dict[str, int] = {}
    """Bytes of the answer's text for single custom_ids; not cut at ``max_tokens``."""
    cache_hit_share: float = 1.0
    """Share of possible cache reads that happen; the others write again."""
    outcomes: Outcomes = msgspec.field(default_factory=Outcomes)
    not_found_lookups: int = 0
    """The first so many requests for a new batch's id answer 404."""
    not_found_seconds: float = 0.0
    """Requests for a new batch's id answer 404 for this long."""
    max_requests: int = 100_000
    max_body_bytes: int = 256_000_000
    """The documentation says 256 MB; the stricter reading (decimal) is used."""
    queue_limit: int | None = None
    """Requests in processing over all batches; a create beyond it answers 429 with ``retry-after``."""
    requests_per_minute: int | None = None
    """API calls over all batch endpoints; beyond it 429 with ``retry-after``."""
    message_seconds: float = 0.0
    """How long a single Messages call takes."""
    messages_per_minute: int | None = None
    """Single Messages calls; beyond it 429 with ``retry-after``. The headers tell how many are left."""
    input_tokens_per_minute: int | None = None
    """Input of single Messages calls, likewise."""
    output_tokens_per_minute: int | None = None
    """Their output, likewise."""
    retry_after: int = 30
    """Seconds in the ``retry-after`` header of a full queue."""
    spend_limit: Literal["enforced", "contract"] | None = None
    """Every create answers 429 ``<this>_spend_limit_reached``, without ``retry-after``."""
    results_url_base: str | None = None
    """Scheme and host that ``results_url`` names instead of the emulator's own."""


def merged(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with ``changes`` laid over; raises ``msgspec.ValidationError`` for unknown names or types."""
    current: dict[str, Any] = msgspec.to_builtins(settings)
    new = msgspec.convert({**current, **changes}, Settings)
    for failure in new.outcomes.failures:
        if failure.pattern is not None:
            _check_pattern(failure.pattern)
    return new


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise msgspec.ValidationError(f"pattern {pattern!r} is no regular expression: {error}") from None
