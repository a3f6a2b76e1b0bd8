"""The summary of a delivery, key by key: what the results task returns and ``summary.json`` holds."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Cost(TypedDict):
    """What the answers cost, in US dollars, by the list prices of batches and ``price_factor``."""

    total_usd: float | None
    """All answers together; null where no model had a known price."""
    standard_usd: float | None
    """What the same tokens would have cost outside a batch."""
    saved_usd: float | None
    """The difference of the two."""
    unpriced_requests: int
    """Answers of models without a known price; they are in none of the sums."""
    cache_saved_usd: float | None
    """What the prompt cache saved; negative where writing to it cost more than reading from it saved."""
    cache_hit_rate: float | None
    """Share of the prompt tokens that were read from the cache, 0 to 1; null without prompt tokens."""
    by_model: dict[str, float | None]
    """Cost by model."""


class Usage(TypedDict):
    """Tokens of all answers, by the API's names."""

    input_tokens: int
    """Input that was neither written to the prompt cache nor read from it."""
    output_tokens: int
    """Tokens of the answers."""
    cache_creation_input_tokens: int
    """Input that was written to the cache."""
    cache_read_input_tokens: int
    """Input that was read from the cache."""
    ephemeral_5m_input_tokens: int
    """Of what was written, that for five minutes."""
    ephemeral_1h_input_tokens: int
    """Of what was written, that for an hour."""
    web_search_requests: int
    """Web searches, which have no batch discount."""


class BatchRow(TypedDict):
    """One batch of the job."""

    id: str
    """The batch."""
    round: int
    """0 for the first submission, 1 for what was sent again after it, and so on."""
    requests: int
    """Requests in it."""
    created_at: str | None
    """When the API created it, ISO 8601."""
    ended_at: str | None
    """When it ended."""


class Way(TypedDict):
    """What was answered in one way."""

    requests: int
    """Requests."""
    cost_usd: float | None
    """What they cost; null where a price is not known."""


class Summary(TypedDict):
    """The numbers of a delivery, and where its records are."""

    version: int
    """Of this form; keys are only ever added."""
    job: str | None
    """URL of the job's folder under ``storage_path``; null for batches that something else submitted."""
    tags: dict[str, str]
    """The job's tags."""
    batch_ids: list[str]
    """All batches, those of later rounds included."""
    rounds: int
    """How many rounds were sent; 1 where nothing was sent again."""
    left_out: dict[str, int]
    """Files of the source's directories that were not read, by suffix."""
    ways: dict[str, Way]
    """By how requests were answered: ``batch``, ``direct`` (single calls), ``reuse``, ``rejected``."""
    reused: NotRequired[int]
    """Requests that were not asked: answered in an earlier job, or repeated in this one. This and the next
    two only with ``reuse``."""
    asked: NotRequired[int]
    """Requests that were."""
    saved_by_reuse_usd: NotRequired[float | None]
    """What the reused answers would have cost in a batch; null where no price is known."""
    direct_extra_usd: float | None
    """What single calls have cost more than batches would have; null where a price is not known."""
    deadline: str | None
    """When the answers were needed, ISO 8601; null where nobody has said so."""
    on_time: bool | None
    """Whether the delivery was complete by then."""
    without_batches: NotRequired[str | None]
    """What was done at the deadline: ``direct``, ``deliver`` or ``fail``; null where batches were in time.
    This and the next two only where there is a deadline."""
    without_batches_since: NotRequired[str | None]
    """When that was begun."""
    without_batches_reason: NotRequired[str | None]
    """Why something else was done than ``on_deadline`` asks, in words."""
    trial: dict[str, Any] | None
    """Of a trial: how many records of how many were tried, and ``whole``, what all will take and cost."""
    counts: dict[str, int]
    """Requests: ``total``, and by outcome. The outcomes add up to the total."""
    errors: dict[str, int]
    """Requests without a usable answer, by error type, the most frequent first."""
    error_samples: dict[str, dict[str, str | None]]
    """Message and request id of one request of each error type."""
    stop_reasons: dict[str, int]
    """Answers by stop reason, whether they count as failed or not."""
    empty: int
    """Answers without text and without a call of a tool, which no stop reason explains."""
    warnings: list[str]
    """What deserves a look, in words; the log and the page show it, too."""
    resubmitted: int
    """Requests that were sent again."""
    unknown_ids: int
    """Result lines for custom_ids that were never sent; they are in no other count."""
    usage: Usage
    """Tokens of all answers."""
    cost: Cost
    """What the answers cost."""
    batches: NotRequired[list[BatchRow]]
    """One row for each batch of a job of ours."""
    succeeded_path: str | None
    """Directory of the succeeded records, with the connection; null where the records are in XCom."""
    errored_path: str | None
    """Directory of the errored records, likewise."""
    summary_path: str | None
    """``summary.json``, likewise."""
    succeeded_uri: str | None
    """Directory of the succeeded records, without the connection, for pandas, DuckDB and Spark."""
    errored_uri: str | None
    """Directory of the errored records, likewise."""
    succeeded: NotRequired[list[dict[str, Any]]]
    """The succeeded records; only without ``output_path``."""
    errored: NotRequired[list[dict[str, Any]]]
    """The errored records; only without ``output_path``."""
