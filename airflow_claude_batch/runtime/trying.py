"""Trying a job before the whole is paid for: some of its records, or a plan of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.requests.sampling import Sample
from airflow_claude_batch.common.scalars import NOTHING, scalar

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.batches.submission.preflight import Models
    from airflow_claude_batch.options import Trial

log = logging.getLogger(__name__)

TRIAL, LIMIT = "claude_batch_trial", "claude_batch_limit"
DRY_RUN, FORCE_NEW = "claude_batch_dry_run", "claude_batch_force_new"
"""Keys of a DAG run's conf."""
USUAL_RECORDS = 20
"""Records of a trial where the conf says that there is to be one, and not how large."""
SHOWN_REQUESTS = 3
PLAN_REQUESTS = "plan-requests.json"
"""File in the job's folder with some requests as they would be sent."""


def trial_of(trial: Trial, conf: Mapping[str, Any]) -> Trial:
    """What the operator was given, unless this run's conf says otherwise; a key without a value says nothing.

    Raises:
        ConfigurationError: Where the conf holds something else than a number of records.
    """
    said = [conf.get(key) for key in (LIMIT, TRIAL)]
    wanted = next((value for value in said if value is not False and value not in NOTHING), None)
    if wanted is None:
        return trial
    if wanted is True and wanted is not said[0]:
        wanted = trial.records or USUAL_RECORDS
    try:
        return replace(trial, records=wanted)
    except ValueError as error:
        raise ConfigurationError(
            f"{TRIAL} or {LIMIT} of the DAG run's conf: {error}. Nothing was sent."
        ) from None


def sample_of(trial: Trial) -> Sample | None:
    """What picks the records of a trial; None where there is none."""
    if trial.records is None:
        return None
    return Sample(
        records=int(trial.records),
        pick=trial.pick,  # type: ignore[arg-type]  # one of three words, as Trial has checked
        asset_events=bool(trial.asset_events),
    )


def without_asset_events(context: Context) -> None:
    """Keep Airflow from updating the task's assets: nothing that is scheduled on them runs on a trial."""
    task: Any = context.get("task")
    if task is not None:
        task.outlets = []


def conf_of(context: Context) -> Mapping[str, Any]:
    """What the DAG run was triggered with."""
    return getattr(context.get("dag_run"), "conf", None) or {}


def is_dry_run(asked: bool | None, conf: Mapping[str, Any]) -> bool:
    """Whether nothing is to be sent."""
    return bool(asked or scalar(DRY_RUN, conf.get(DRY_RUN)))


def is_forced_new(asked: bool | str, conf: Mapping[str, Any]) -> bool:
    """Whether a job is made anew on purpose, and paid for again."""
    return bool(asked or scalar(FORCE_NEW, conf.get(FORCE_NEW)))


def plan(job: Job, models: Models, warnings: list[str]) -> dict[str, Any]:
    """What would be sent, for people to look at; the requests themselves stay in the job's folder.

    Args:
        job: Stored, of which nothing is sent.
        models: As far as they were asked for.
        warnings: What was found so far.
    """
    ledger = job.ledger
    parts = ledger.live_parts
    ways = {
        way: sum(part.request_count for part in parts if part.way == way)
        for way in ("batch", "direct", "reuse")
    }
    rejected = sum(part.request_count for part in ledger.parts if part.rejected)
    if rejected:
        warnings = [*warnings, f"{rejected} records are bad and would not be sent"]
    if ledger.left_out:
        warnings = [*warnings, f"files that were left out, by suffix: {dict(ledger.left_out)}"]
    value = {
        "dry_run": True,
        "job": ledger.job,
        "requests": ledger.request_count - rejected,
        "rejected": rejected,
        "ways": ways,
        "batches": len(ledger.batch_parts),
        "bytes": sum(part.bytes for part in parts if part.way != "reuse"),
        "estimate": ledger.estimate,
        "trial": None if ledger.trial is None else msgspec.to_builtins(ledger.trial),
        "models": models.known(),
        "warnings": warnings,
        "requests_to_look_at": _show_some(job),
    }
    log.info("Nothing was sent: %s requests are stored; the plan is this task's value", value["requests"])
    return value


def _show_some(job: Job) -> str | None:
    """Write some requests, readably, into the job's folder; returns where."""
    parts = [part for part in job.ledger.live_parts if part.way != "reuse"]
    requests = chain.from_iterable(read_requests(job.folder, part) for part in parts)
    some = [msgspec.json.decode(request.line) for request in islice(requests, SHOWN_REQUESTS)]
    if not some:
        return None
    job.folder.write(PLAN_REQUESTS, msgspec.json.format(msgspec.json.encode(some), indent=2) + b"\n")
    return f"{job.folder.url}/{PLAN_REQUESTS}"
