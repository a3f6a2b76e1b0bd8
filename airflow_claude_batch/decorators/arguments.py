"""What ``@task.claude_batch`` takes, for editors and type checkers; nothing here exists at run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class SubmitArguments(TypedDict, total=False):
    """See ``ClaudeBatchSubmitOperator``."""

    prompt: str | None
    custom_id: str | None
    model: str | None
    max_tokens: int | None
    system: str | list[dict[str, Any]] | None
    message_params: Mapping[str, Any] | None
    cache: Literal["5m", "1h"] | None
    warm_cache: bool
    on_unreadable_document: Literal["errored", "fail"]
    probe: bool
    conn_id: str
    storage_path: str | None
    max_requests_per_batch: int | None
    max_bytes_per_batch: int | None
    betas: list[str] | None
    on_changed_requests: Literal["cancel", "leave"]
    on_ambiguous: Literal["wait", "fail"]
    max_requests_in_queue: int | None
    force_new: bool
    output_schema: Any
    expected_output_tokens: int | None
    max_cost_usd: float | None
    cancel_on_kill: bool


class ResultsArguments(TypedDict, total=False):
    """See ``ClaudeBatchResultsOperator``."""

    output_path: str | None
    output_format: Literal["jsonl", "parquet", "raw"]
    compression: Literal["gzip", "zstd"] | None
    resubmit_rounds: int
    resubmit_invalid: bool
    count_as_failed: Sequence[str]
    include_message: bool
    max_failed_fraction: float
    poll_interval: float | None


class TaskArguments(TypedDict, total=False):
    """The arguments of any Airflow task that are used most; the others work, too."""

    task_id: str
    multiple_outputs: bool
    retries: int
    retry_delay: Any
    execution_timeout: Any
    trigger_rule: str
    pool: str
    queue: str
    inlets: list[Any]
    outlets: list[Any]
    map_index_template: str
    doc_md: str


class ClaudeBatchArguments(SubmitArguments, ResultsArguments, TaskArguments, total=False):
    """All of them."""
