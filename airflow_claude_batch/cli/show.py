"""``show`` and ``whose``: all that is known of a job or a batch."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.errors import ClaudeBatchError
from airflow_claude_batch.batches.job.claims import BATCH_ID, find_claim
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import read_ledger
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.results.moves import last_round
from airflow_claude_batch.batches.results.output_records import OUTCOMES
from airflow_claude_batch.batches.results.summarise import warnings
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli.command import DONE, NothingFoundError
from airflow_claude_batch.cli.places import api_of, existing_storage, find_job, owner_of, storage
from airflow_claude_batch.cli.printing import note, print_facts, print_rows
from airflow_claude_batch.cli.view import cost_of, state_of, tally_of

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch

MARGIN = datetime.timedelta(minutes=1)


def show(options: argparse.Namespace) -> int:
    """Print a job, or a batch that no job claims."""
    root = existing_storage(options)
    owner = owner_of(root, options.job) if BATCH_ID.fullmatch(options.job) else find_job(root, options.job)
    if isinstance(owner, str):
        return _show_stranger(options, owner)
    folder, ledger = owner
    batches = {} if options.offline else _look(options, ledger)
    print_facts(
        _facts(folder, ledger),
        {
            "parts": [_part(number, part, batches) for number, part in enumerate(ledger.parts)],
            "errors": _errors(ledger),
        },
        options.output,
    )
    return DONE


def whose(options: argparse.Namespace) -> int:
    """Print which task instance has submitted a batch."""
    root = storage(options)
    claim = find_claim(root, options.batch_id)
    if claim is None:
        raise NothingFoundError(f"No job under {root.url} claims {options.batch_id}.")
    row: dict[str, Any] = {"batch": options.batch_id, "dag": claim.dag_id, "run": None, "task": None}
    try:
        ledger = read_ledger(root_relative(root, claim.job))
    except ClaudeBatchError as error:
        note(f"Its ledger says nothing: {error}")
    else:
        row |= {"dag": ledger.dag_id, "run": ledger.run_id, "task": ledger.task_id}
        row["map_index"] = ledger.map_index
    print_rows([{**row, "job": claim.job, "part": claim.part}], options.output)
    return DONE


def _facts(folder: Folder, ledger: Ledger) -> dict[str, Any]:
    tally, destination = tally_of(ledger), ledger.destination
    return {
        "job": folder.url,
        "state": state_of(ledger),
        "dag": ledger.dag_id,
        "run": ledger.run_id,
        "task": ledger.task_id,
        "map_index": ledger.map_index,
        "conn_id": ledger.conn_id,
        "tags": ledger.tags,
        "created_at": ledger.created_at.isoformat(timespec="seconds"),
        "requests": ledger.request_count,
        "rounds": last_round(ledger) + 1,
        "counts": {name: tally.counts[name] for name in OUTCOMES if tally.counts.get(name)},
        "stop_reasons": tally.stop_reasons,
        "warnings": warnings(tally) if tally.delivered else [],
        **cost_of(ledger),
        "estimate_usd": ledger.estimate.get("total_usd"),
        "output": destination.path if destination else None,
        "format": destination.format if destination else None,
        "replaced_by": ledger.superseded_by or None,
    }


def _part(number: int, part: Part, batches: dict[str, Batch]) -> dict[str, Any]:
    batch = batches.get(part.batch_id or "")
    counts = part.delivery.tally.counts if part.delivery else {}
    if batch is not None and batch.ended and part.delivery is None:
        seen = batch.request_counts
        counts = {name: getattr(seen, name) for name in seen.__struct_fields__ if getattr(seen, name)}
    return {
        "part": number,
        "round": part.round,
        "requests": part.request_count,
        "state": _state(part),
        "batch": part.batch_id,
        "status": batch.processing_status if batch else None,
        "submitted_at": part.submitted_at.isoformat(timespec="seconds") if part.submitted_at else None,
        "counts": dict(counts),
        "moved": part.moved,
        "file": part.requests or part.inputs,
    }


def _state(part: Part) -> str:
    if part.split:
        return "split"
    if part.rejected:
        return "rejected"
    return "delivered" if part.delivery is not None else part.state.name.lower()


def _errors(ledger: Ledger) -> list[dict[str, Any]]:
    tally = tally_of(ledger)
    rows = []
    for kind, count in sorted(tally.errors.items(), key=lambda item: -item[1]):
        sample = tally.samples.get(kind, {})
        rows.append(
            {
                "error": kind,
                "count": count,
                "message": sample.get("message"),
                "request_id": sample.get("request_id"),
            }
        )
    return rows


def _look(options: argparse.Namespace, ledger: Ledger) -> dict[str, Batch]:
    """What the API says of the batches that are not delivered: pages of its list, however many they are."""
    open_parts = [part for part in ledger.live_parts if part.batch_id and part.delivery is None]
    wanted = {part.batch_id for part in open_parts}
    since = min((part.submitted_at for part in open_parts if part.submitted_at), default=None)
    found: dict[str, Batch] = {}
    if since is None:
        return found
    try:
        for batch in api_of(options, ledger).list_since(since - MARGIN):
            if batch.id in wanted:
                found[batch.id] = batch
            if len(found) == len(wanted):
                break
    except Exception as error:  # noqa: BLE001  # what storage says is shown all the same
        note(f"The API was not asked, or did not answer: {describe_error(error)}")
    return found


def _show_stranger(options: argparse.Namespace, why: str) -> int:
    """Print what the API says of a batch that has no job here, for whatever reason."""
    import anthropic

    if options.offline:
        raise NothingFoundError(f"{why} --offline asks nobody else.")
    try:
        batch = api_of(options).retrieve(options.job)
    except anthropic.NotFoundError:
        raise NothingFoundError(
            f"{why} The API does not know it. `claude-batch list` says how jobs are named."
        ) from None
    counts = batch.request_counts
    facts = {
        "batch": batch.id,
        "job": None,
        "status": batch.processing_status,
        "created_at": batch.created_at.isoformat(timespec="seconds"),
        "ended_at": batch.ended_at.isoformat(timespec="seconds") if batch.ended_at else None,
        "requests": counts.total,
        "counts": {name: getattr(counts, name) for name in counts.__struct_fields__ if getattr(counts, name)},
    }
    print_facts(facts, {}, options.output)
    note(why)
    return DONE
