"""``purge``: delete jobs that are no longer needed."""

from __future__ import annotations

import argparse
import datetime

from airflow_claude_batch.batches.job.purge import Purged
from airflow_claude_batch.batches.job.purge import purge as purge_storage
from airflow_claude_batch.batches.reuse.purge import purge_answers
from airflow_claude_batch.cli.command import DONE, NO
from airflow_claude_batch.cli.places import existing_storage
from airflow_claude_batch.cli.printing import confirm, note, progress, say
from airflow_claude_batch.common.settings import retention_days


def purge(options: argparse.Namespace) -> int:
    """Count what is old, ask, and delete it."""
    root = existing_storage(options)
    days = retention_days() if options.older_than is None else options.older_than
    age = datetime.timedelta(days=days)
    typed = None if options.older_than is None else age
    what = f"under {root.url} that are older than {days} days"
    if options.dry_run or not options.yes:
        with progress("Counting") as update:
            found = purge_storage(
                root, older_than=age, dry_run=True, undelivered=options.undelivered, tell=update
            )
            answers = purge_answers(root, older_than=typed, dry_run=True)
        if options.dry_run:
            say(f"would delete {_words(found)} {what}; and {answers} answers kept for reuse")
            _tell(found, options)
            return DONE
        _tell(found, options)
        if (found.jobs or answers) and not confirm(
            f"Delete {_words(found)} {what}, and {answers} answers kept for reuse?", yes=False
        ):
            return NO
    try:
        with progress("Deleting") as update:
            done = purge_storage(root, older_than=age, undelivered=options.undelivered, tell=update)
            answers = purge_answers(root, older_than=typed)
    except KeyboardInterrupt:
        note("Some are deleted. The same command goes on with the others.")
        raise
    say(f"deleted {_words(done)} {what}; and {answers} answers kept for reuse")
    if options.yes:
        _tell(done, options)
    if done.left_alone:
        note(f"{done.left_alone} jobs were left alone: a worker is at work, or the ledger cannot be read.")
    return DONE


def _tell(purged: Purged, options: argparse.Namespace) -> None:
    """Say what is sent and nowhere written."""
    if not purged.undelivered:
        return
    if options.undelivered:
        note(
            f"{purged.undelivered} of the jobs are sent and not delivered: if they are still wanted, their "
            "requests are sent and paid for again."
        )
    else:
        note(
            f"{purged.undelivered} jobs are left alone: they are sent and not delivered. `claude-batch list` "
            "names them; --undelivered deletes them, too."
        )


def _words(purged: Purged) -> str:
    return (
        f"{purged.jobs} jobs, {purged.claims} claims, {purged.intents} intents and "
        f"{purged.homes} empty task folders with their leases"
    )
