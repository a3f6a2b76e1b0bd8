"""What `trial.run` does: a job in a temporary folder, whose parts are all answered by single calls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.credentials import fault_of_credentials, has_credentials
from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.direct.answer import DirectCalls
from airflow_claude_batch.batches.direct.call import beta_of_batches
from airflow_claude_batch.batches.errors import ConfigurationError, UnreachableError
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Input, Job, start_job
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.given_records import given_records
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.requests.parameters import check_defaults
from airflow_claude_batch.batches.requests.prompt_cache import read_system
from airflow_claude_batch.batches.requests.sampling import Sample
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.inline import Inline
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.scalars import as_text, scalar
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.sources import Files, Source, is_place

MOST_BYTES = 64_000_000
"""Of the records that are returned, as JSON."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried; its fields are those of `trial.run`."""

    requests: Any
    records: Any
    pick: Any
    prompt: str | None
    defaults: Mapping[str, Any]
    """Messages API parameters that have an argument of their own."""
    message_params: Mapping[str, Any]
    output_schema: Any

    def answer(self, client: anthropic.Anthropic | None, concurrency: int) -> dict[str, Any]:
        """Answer the records, and return the summary with them."""
        concurrency = _needed("concurrency", concurrency)
        schema = None if self.output_schema is None else OutputSchema.of(self.output_schema)
        source = self._input(schema)
        known = _checked(client if client is not None else anthropic.Anthropic())
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
        params = dict(scalar("message_params", self.message_params) or {})
        betas = list(params.pop("betas", None) or ())
        check_defaults(params, betas)
        if only_batches := beta_of_batches(betas):
            raise ConfigurationError(
                f"A trial makes single calls, and the beta {only_batches} exists in batches only; leave it "
                "out. Nothing was sent."
            )
        if schema is not None:
            params["output_config"] = {**(params.get("output_config") or {}), **schema.output_config()}
        sample = Sample(records=_needed("records", self.records), pick=_needed("pick", self.pick))
        system = read_system(scalar("system", self.defaults["system"]), open_folder)
        requests = _source_of(self.requests)
        return Input(
            records=lambda: sample.of(_records_of(requests)),
            defaults={**params, **self.defaults, "system": system},
            betas=betas,
            recipe=Recipe(prompt=scalar("prompt", self.prompt), betas=bool(betas)),
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


def _needed(name: str, value: Any) -> Any:
    """An argument in its own type, which has a value."""
    checked = scalar(name, value)
    if checked is None:
        raise ConfigurationError(f"{name} is {value!r}; leave it out for the usual. Nothing was sent.")
    return checked


def _source_of(requests: Any) -> Any:
    """What was written as ``requests``; addresses, as of an operator, are those of files."""
    places = requests if isinstance(requests, (list, tuple)) else [requests]
    if places and all(map(is_place, map(as_text, places))):
        return Files(*places)
    return requests


def _records_of(requests: Any) -> Iterable[Any]:
    value = requests() if callable(requests) else requests
    return value.read(open_folder) if isinstance(value, Source) else given_records(value)


def _checked(client: Any) -> Any:
    """A client whose calls can be sent.

    Raises:
        ConfigurationError: For what is none, or has no key.
    """
    if not isinstance(client, (anthropic.Anthropic, anthropic.AsyncAnthropic)):
        raise ConfigurationError(
            f"client is a {type(client).__name__}; it is an anthropic.Anthropic(…). Nothing was sent."
        )
    if not has_credentials(client):
        raise ConfigurationError(
            "There is no key: set ANTHROPIC_API_KEY, or give client=anthropic.Anthropic(api_key=…). Nothing "
            "was sent."
        )
    if fault := fault_of_credentials(client):
        raise ConfigurationError(f"The client: {fault} Nothing was sent.")
    return client


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
