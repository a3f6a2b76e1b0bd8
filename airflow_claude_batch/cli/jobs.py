"""``list``: jobs below ``storage_path``, or the batches that none of them claims."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.client import RESULTS_KEPT
from airflow_claude_batch.batches.errors import ConfigurationError, LedgerError
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.stored import (
    MARGIN,
    Listed,
    at_once,
    listed_jobs,
    side_by_side,
)
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli.command import DONE, WRONG
from airflow_claude_batch.cli.places import api_of, existing_storage, name_of
from airflow_claude_batch.cli.printing import note, print_rows, progress
from airflow_claude_batch.cli.view import STATES, cost_of, state_of, tally_of

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch

_ONLY_AS_DATA = ("url", "dag", "run", "task", "map_index", "conn_id", "tags", "saved_usd")
"""Columns that are too many for a table."""


def list_jobs(options: argparse.Namespace) -> int:
    """Print the jobs that are asked for, the newest first."""
    root = existing_storage(options)
    if options.strangers:
        return _list_strangers(root, options)
    if options.state is not None and options.state not in STATES:
        raise ConfigurationError(f"There is no state {options.state!r}; there are {', '.join(STATES)}.")
    unreadable: list[str] = []
    # Rows, not ledgers: those of ten thousand jobs are not held at once.
    found = sorted(find_jobs(root, options, unreadable), key=operator.itemgetter(0), reverse=True)
    rows = [row for _, row in found]
    if options.output in ("table", "plain"):
        rows = [{name: row[name] for name in row if name not in _ONLY_AS_DATA} for row in rows]
    print_rows(rows, options.output)
    for problem in unreadable:
        note(problem)
    return WRONG if unreadable else DONE


def find_jobs(
    root: Folder, options: argparse.Namespace, unreadable: list[str]
) -> Iterator[tuple[datetime.datetime, dict[str, Any]]]:
    """Each job that is wanted: when it was created, and its row."""

    def read(job: Listed) -> tuple[datetime.datetime, dict[str, Any]] | str | None:
        try:
            ledger = job.load()
        except LedgerError as error:
            return str(error)
        if ledger is None or not _is_wanted(ledger, options):
            return None
        return ledger.created_at, _row(root, job.folder, ledger)

    jobs = listed_jobs(root, options.dag)
    if options.since is not None:
        jobs = (job for job in jobs if job.written is None or job.written >= options.since - MARGIN)
    with progress("Reading ledgers") as update:
        results = side_by_side(read, jobs, at_once(root))
        with contextlib.closing(results):
            for number, result in enumerate(results, 1):
                update(number)
                if isinstance(result, str):
                    unreadable.append(result)
                elif result is not None:
                    yield result


def _is_wanted(ledger: Ledger, options: argparse.Namespace) -> bool:
    if options.since is not None and ledger.created_at < options.since:
        return False
    if options.tag is not None and ledger.tags.get(options.tag[0]) != options.tag[1]:
        return False
    return options.state is None or state_of(ledger) == options.state


def _row(root: Folder, folder: Folder, ledger: Ledger) -> dict[str, Any]:
    tally = tally_of(ledger)
    succeeded = tally.counts.get("succeeded", 0)
    return {
        "job": name_of(root, folder.url),
        "url": folder.url,
        "dag": ledger.dag_id,
        "run": ledger.run_id,
        "task": ledger.task_id,
        "map_index": ledger.map_index,
        "conn_id": ledger.conn_id,
        "tags": ledger.tags,
        "state": state_of(ledger),
        "requests": ledger.request_count,
        "batches": len(ledger.batch_ids),
        "succeeded": succeeded,
        "failed": tally.delivered - succeeded,
        **cost_of(ledger),
        "created_at": ledger.created_at.isoformat(timespec="seconds"),
    }


def _list_strangers(root: Folder, options: argparse.Namespace) -> int:
    """Batches that no job has: sent by something else, or by a job whose ledger was lost."""
    api = api_of(options)
    # Older ones have no results.
    since = options.since or datetime.datetime.now(datetime.UTC) - RESULTS_KEPT
    # Asked for before the claims: a batch that is made meanwhile is no stranger.
    batches = list(api.list_since(since))
    claimed = set(root.child("batches").names())
    jobs = {job.folder.url for job in listed_jobs(root)}

    def claimant(batch: Batch) -> tuple[Batch, str | None]:
        claim = find_claim(root, batch.id) if batch.id in claimed else None
        return batch, None if claim is None else claim.job

    rows = [
        {
            "batch": batch.id,
            "status": batch.processing_status,
            "requests": batch.request_counts.total,
            "succeeded": batch.request_counts.succeeded,
            "created_at": batch.created_at.isoformat(timespec="seconds"),
            "lost_job": job,
        }
        for batch, job in side_by_side(claimant, batches, at_once(root))
        if job not in jobs
    ]
    print_rows(rows, options.output)
    return DONE
