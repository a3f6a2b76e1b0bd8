"""``submit``: a job without a DAG, with the same engine, ledger, cost and output."""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.reach import check_reachable
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.history import current_job
from airflow_claude_batch.batches.job.identity import Identity, root_relative
from airflow_claude_batch.batches.job.job import Input, Job, read_ledger, start_job
from airflow_claude_batch.batches.job.ledger import Destination
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.requests.parameters import check_defaults
from airflow_claude_batch.batches.requests.prompt_cache import read_system
from airflow_claude_batch.batches.results.summarise import judge
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.estimate import Estimate, estimate
from airflow_claude_batch.batches.submission.preflight import Models
from airflow_claude_batch.cli.command import DONE
from airflow_claude_batch.cli.delivering import deliver, submit_all
from airflow_claude_batch.cli.places import (
    DEFAULT_CONNECTION,
    api_of,
    name_of,
    place_at,
    price_factor_of,
    retry_line,
    storage,
    text_of,
)
from airflow_claude_batch.cli.printing import batches, note, progress, say
from airflow_claude_batch.cli.retry import delivery_of, load_check
from airflow_claude_batch.cli.summaries import print_summary
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.common.settings import (
    allow_unsafe_storage,
    compress_spool,
    open_folder,
)
from airflow_claude_batch.runtime.budgets import Budgets
from airflow_claude_batch.sources import Files

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.results.delivery import Delivery

DAG_ID, TASK_ID = "claude-batch-cli", "submit"
"""What stands in a ledger for a job that no DAG has."""
SHOWN_EACH = 500
"""Rows between two updates of the progress bar."""


def submit(options: argparse.Namespace) -> int:
    """Store the requests of a file, say what they cost, and send them."""
    if options.wait and options.output is None:
        raise ConfigurationError("--wait writes the answers somewhere: say --output PATH.")
    if options.check is not None:
        load_check(options.check)  # before anything is paid for
    options.tag = scalar("tags", dict(options.tag)) or {}
    api = api_of(options)
    if options.dry_run:
        with tempfile.TemporaryDirectory(prefix="claude-batch-") as place:
            _store(Folder.at(f"file://{place}"), options, api)
        say("Nothing was sent.")
        return DONE
    root = storage(options)
    url = _store(root, options, api)
    name = name_of(root, url)
    delivery = _delivery(root, url, options, api) if options.output else None
    try:
        batch_ids = submit_all(root, url, api)
        sent = f"{name}: {batches(len(batch_ids))}, {', '.join(batch_ids[:3])}"
        if delivery is None or not options.wait:
            say(sent)
            note(f"When they have ended: {retry_line(options, name, *_rest(options))}")
            return DONE
        note(sent)  # the summary is what was asked for
        summary = deliver(root, url, delivery, poll_interval=options.poll_interval)
    except BaseException:
        # Without a --name the same command would make another job, and pay again.
        note(f"Go on with: {retry_line(options, name, *_rest(options))}")
        raise
    print_summary(summary, options.shown_as)
    judge(summary, options.max_failed_fraction)
    return DONE


def _delivery(root: Folder, url: str, options: argparse.Namespace, api: BatchesApi) -> Delivery:
    """How the job is delivered; its place is taken before anything is paid for."""
    ledger = read_ledger(root_relative(root, url))
    delivery = delivery_of(options, ledger, api)
    delivery.output.reserve(ledger.job, [])
    return delivery


def _rest(options: argparse.Namespace) -> list[str]:
    """What ``retry`` has to be told, since the ledger does not know it."""
    output = [] if options.output else ["--output", "PATH"]
    return output + (["--check", options.check] if options.check else [])


def _identity(options: argparse.Namespace) -> Identity:
    if options.name is None:
        stem = Path(options.files[0]).name.partition(".")[0]
        options.name = f"{stem}__{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S}"
    return Identity(dag_id=DAG_ID, run_id=options.name, task_id=TASK_ID)


def _store(root: Folder, options: argparse.Namespace, api: BatchesApi) -> str:
    """Store and estimate the job; returns its URL.

    The same name is the same job while its requests are the same: nothing is sent twice.
    """
    identity = _identity(options)
    before = current_job(identity.folder(root))
    schema = _schema(options)
    with start_job(
        root,
        identity,
        _input(options, api, schema),
        generation=1 if before is None else before.ledger.generation + 1,
        conn_id=options.conn_id or DEFAULT_CONNECTION,
        allow_unsafe_storage=allow_unsafe_storage(),
    ) as (job, replaced):
        for other in replaced:
            if other.ledger.batch_ids:
                note(f"{identity.run_id} had other requests; its batches go on: {other.ledger.batch_ids}")
            with other.change() as old:
                old.superseded_by = job.folder.url
        found = estimate(
            job,
            PriceBook(datetime.datetime.now(datetime.UTC), price_factor_of(api)),
            api=api,
            expected_output=options.expected_output_tokens,
        )
        _record(job, options, schema, found)
        note(
            f"{job.ledger.request_count} requests in {batches(len(job.ledger.live_parts))}. Estimate: {found}"
        )
        if job.ledger.max_usd is not None:
            found.check(job.ledger.max_usd)
        return job.folder.url


def _record(job: Job, options: argparse.Namespace, schema: OutputSchema | None, found: Estimate) -> None:
    json_schema = schema.json_schema if schema else None
    with job.change() as ledger:
        ledger.estimate, ledger.output_schema = found.as_dict(), json_schema
        ledger.tags = options.tag or ledger.tags  # the same job sent on has those that it was given
        limits = Budgets.of(None, ledger).of_job
        ledger.max_usd = min([*limits, *([] if options.max_usd is None else [options.max_usd])], default=None)
        if options.output is not None:
            ledger.destination = Destination(
                path=place_at(options.output),
                format=options.format or "jsonl",
                compression=options.compression,
                output_schema=json_schema,
                user_check=options.check is not None,
            )


def _input(options: argparse.Namespace, api: BatchesApi, schema: OutputSchema | None) -> Input:
    source = Files(*map(place_at, options.files))
    if options.documents_from and options.prompt is not None and options.documents is None:
        raise ConfigurationError(
            "--documents-from says where documents may lie; with --prompt, --documents COLUMN says which "
            "column names them. Nothing was sent."
        )
    access = DocumentAccess([place_at(place) for place in options.documents_from])
    if not options.documents_from:
        access.allow(source.roots())
    recipe = Recipe(
        prompt=_text(options.prompt, "--prompt"),
        custom_id=options.custom_id,
        documents=DocumentReader(locate=open_folder, access=access),
        documents_column=options.documents,
    )
    models = Models(api=api)
    return Input(
        records=partial(_records, source, options.trial),
        defaults=_defaults(options, schema),
        compress=compress_spool(),
        recipe=recipe,
        complete=partial(_complete, models=models),
        check=partial(models.check, recipe.requirements),
        bad_fraction=options.bad_records,
    )


def _defaults(options: argparse.Namespace, schema: OutputSchema | None) -> dict[str, Any]:
    """Parameters of all requests; each may be said in one way only.

    Raises:
        ConfigurationError: For one that is said in two.
    """
    params = {name: _value(text) for name, text in options.param}
    flags = {"model": options.model, "max_tokens": options.max_tokens, "system": _system(options.system)}
    given = {name: value for name, value in flags.items() if value is not None}
    others = {name: value for name, value in params.items() if name not in flags}
    check_defaults(others, place="--param {}")
    twice = [(name, f"--{name.replace('_', '-')}") for name in given if name in params]
    if schema is not None:
        own = params.get("output_config")
        if own is not None and (not isinstance(own, dict) or "format" in own):
            twice.append(("output_config", "--schema"))
        else:
            given["output_config"] = {**(own or {}), **schema.output_config()}
    for name, flag in twice:
        raise ConfigurationError(
            f"--param {name}=… and {flag} say the same; leave one out. Nothing was sent."
        )
    return {"model": None, **params, **given}


def _records(source: Files, trial: int | None) -> Iterator[Any]:
    with progress("Storing rows") as update:
        for number, record in enumerate(islice(source.read(open_folder), trial), 1):
            if number % SHOWN_EACH == 0:
                update(number)
            yield record


def _complete(given: Input, *, models: Models) -> Input:
    """See that there is an API and a model before the file is read."""
    check_reachable(models.api)
    model = models.look_up(given.defaults["model"]) if given.defaults["model"] else None
    if model is not None and given.recipe.documents is not None:
        given.recipe.documents.context_window = model.max_input_tokens
    return given


def _schema(options: argparse.Namespace) -> OutputSchema | None:
    if options.schema is None:
        return None
    try:
        return OutputSchema.of(json.loads(text_of(options.schema, "--schema")))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"--schema {options.schema} is no JSON: {error}") from None


def _text(given: str | None, flag: str) -> str | None:
    """A text, or ``@file`` that holds it."""
    return text_of(given[1:], flag) if given is not None and given.startswith("@") else given


def _system(given: str | None) -> Any:
    """As :func:`_text`; an address is read, as the operator reads it."""
    text = _text(given, "--system")
    return read_system(text, open_folder) if text == given else text


def _value(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
