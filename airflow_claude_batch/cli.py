"""``claude-batch``: look after what the package stores under ``storage_path``."""

from __future__ import annotations

import argparse
import datetime
import sys

from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches.errors import ClaudeBatchError
from airflow_claude_batch.batches.purge import purge
from airflow_claude_batch.settings import retention_days, storage_root


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="claude-batch", description=__doc__)
    parser.add_argument("--storage-path", help="instead of [claude_batch] storage_path")
    commands = parser.add_subparsers(dest="command", required=True)
    whose = commands.add_parser("whose", help="say which DAG run submitted a batch")
    whose.add_argument("batch_id")
    delete = commands.add_parser("purge", help="delete jobs that are no longer needed")
    delete.add_argument(
        "--older-than", type=int, metavar="DAYS", help="default: [claude_batch] retention_days"
    )
    delete.add_argument("--dry-run", action="store_true", help="only count")
    options = parser.parse_args(arguments)
    try:
        if options.command == "whose":
            return _whose(options.storage_path, options.batch_id)
        days = retention_days() if options.older_than is None else options.older_than
        return _purge(options.storage_path, days, dry_run=options.dry_run)
    except ClaudeBatchError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2


def _whose(storage_path: str | None, batch_id: str) -> int:
    root = storage_root(storage_path)
    claim = ledgers.find_claim(root, batch_id)
    if claim is None:
        print(f"No job under {root.url} claims {batch_id}.", file=sys.stderr)
        return 1
    print(f"{claim.job} part {claim.part}")
    return 0


def _purge(storage_path: str | None, days: int, *, dry_run: bool) -> int:
    root = storage_root(storage_path)
    done = purge(root, older_than=datetime.timedelta(days=days), dry_run=dry_run)
    verb = "would delete" if dry_run else "deleted"
    print(
        f"{verb} {done.jobs} jobs, {done.claims} claims and {done.intents} intents under {root.url} "
        f"that are older than {days} days"
    )
    return 0
