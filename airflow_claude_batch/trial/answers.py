"""What `trial.run` does: a job in a temporary folder, whose parts are all answered by single calls."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anthropic

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.direct.answer import DirectCalls
from airflow_claude_batch.batches.errors import UnreachableError
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Input, Job, start_job
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.requests.parameters import check_defaults
from airflow_claude_batch.batches.requests.sampling import Sample
from airflow_claude_batch.batches.requests.tables import is_table, table_rows
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.inline import Inline
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.sources import Source

MOST_BYTES = 64_000_000
"""Of the records that are returned, as JSON."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried; its fields are those of `trial.run`."""

    requests: Any
    records: int
    pick: Literal["first", "spread", "random"]
    prompt: str | None
    defaults: Mapping[str, Any]
    """Messages API parameters that have an argument of their own."""
    message_params: Mapping[str, Any]
    output_schema: Any

    def answer(self, client: anthropic.Anthropic | None, concurrency: int) -> dict[str, Any]:
        """Answer the records, and return the summary with them."""
        scalar("message_params", self.message_params)
        scalar("prompt", self.prompt)
        known = client or anthropic.Anthropic()
        schema = None if self.output_schema is None else OutputSchema.of(self.output_schema)
        source = self._input(schema)
        with tempfile.TemporaryDirectory(prefix="claude-batch-trial-") as folder:
            root = Folder.at(Path(folder).as_uri())
            identity = Identity(dag_id="trial", run_id="trial", task_id="trial")
            with start_job(root, identity, source, generation=1) as (job, _):
                _call(job, known, concurrency)
                delivery = Delivery(
                    api=BatchesApi(known), output=Inline(MOST_BYTES), reading=Reading(output_schema=schema)
                )
                delivery.begin(job, 1)
                delivery.deliver_ended(job)
                return delivery.finish(job)

    def _input(self, schema: OutputSchema | None) -> Input:
        params = dict(self.message_params)
        betas = list(params.pop("betas", None) or ())
        check_defaults(params, betas)
        if schema is not None:
            params["output_config"] = {**(params.get("output_config") or {}), **schema.output_config()}
        sample = Sample(records=self.records, pick=self.pick)
        return Input(
            records=lambda: sample.of(_records_of(self.requests)),
            defaults={**params, **self.defaults},
            betas=betas,
            recipe=Recipe(prompt=self.prompt, betas=bool(betas)),
            sample=sample,
        )


def _call(job: Job, client: anthropic.Anthropic, concurrency: int) -> None:
    """Answer all of a job by single calls."""
    with job.change() as ledger:
        for part in ledger.live_parts:
            part.way = "direct"
    calls = DirectCalls(job=job, connect=lambda: MessagesApi(_asynchronous(client)), concurrency=concurrency)
    later = calls.run()
    if later is not None:
        raise UnreachableError(f"{later.reason}. What was answered so far is not kept.")


def _records_of(requests: Any) -> Iterable[Any]:
    value = requests() if isinstance(requests, Callable) else requests  # type: ignore[arg-type]
    if isinstance(value, Source):
        return value.read(open_folder)
    rows: Iterable[Any] = table_rows(value) if is_table(value) else value
    return rows


def _asynchronous(client: anthropic.Anthropic) -> anthropic.AsyncAnthropic:
    """A client that proves in the same way who it is, at the same address."""
    ways = ("api_key", client.api_key), ("auth_token", client.auth_token), ("credentials", client.credentials)
    # The SDK takes one only, and itself uses the first of these.
    proof: dict[str, Any] = next(({way: value} for way, value in ways if value is not None), {})
    return anthropic.AsyncAnthropic(
        **proof,
        base_url=str(client.base_url),
        default_headers={**client._credential_headers, **client._custom_headers},
    )
