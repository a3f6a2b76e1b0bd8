"""``accept``: a person's word that results of a job never come, so that the others are delivered."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.results import unread
from airflow_claude_batch.cli.command import DONE, NO, NothingFoundError
from airflow_claude_batch.cli.delivering import check_idle
from airflow_claude_batch.cli.places import api_of, existing_storage, find_job, name_of, retry_line
from airflow_claude_batch.cli.printing import confirm, note, print_rows, progress

if TYPE_CHECKING:
    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.batches.job.ledger import Ledger
    from airflow_claude_batch.batches.job.part import Part


def accept(options: argparse.Namespace) -> int:
    """Show what does not come, ask, and record the answer."""
    root = existing_storage(options)
    folder, ledger = find_job(root, options.job)
    name = name_of(root, folder.url)
    check_idle(folder)
    chosen = _chosen(ledger, options.part)
    if not any(ledger.parts[number].unread for number in chosen):
        with open_job(root, folder.url) as job:
            ledger = _look(job, options, chosen)
    lacking = {number: part for number in chosen if (part := ledger.parts[number]).unread}
    if not lacking:
        raise NothingFoundError(f"Each result of {name} that exists comes: there is nothing to accept.")
    print_rows([_row(folder.url, number, part) for number, part in lacking.items()], options.output)
    count = sum(part.unread for part in lacking.values())
    if not confirm(
        f"Deliver without these {count} of {ledger.request_count} results? They may be paid for.",
        yes=options.yes,
    ):
        return NO
    with open_job(root, folder.url) as job:
        unread.accept(job, {part.unread_file for part in lacking.values()})
    note(
        f"Accepted. Now clear the results task, or: {retry_line(options, name)}\n"
        "The requests without a result come as errored records (unreadable_result). Afterwards "
        f"`{retry_line(options, name, '--only', 'errored')}` sends such ones again, if they are wanted."
    )
    return DONE


def _chosen(ledger: Ledger, number: int | None) -> list[int]:
    """Numbers of the parts that a result may be lacking of."""
    answered = [
        number
        for number, part in enumerate(ledger.parts)
        if part.is_answered and not (part.split or part.rejected or part.given_up)
    ]
    if number is None:
        return answered
    if number not in answered:
        known = ", ".join(map(str, answered)) or "none"
        raise ConfigurationError(f"{ledger.job} has no part {number} with results; such are {known}.")
    return [number]


def _look(job: Job, options: argparse.Namespace, chosen: list[int]) -> Ledger:
    """No delivery has noted anything: read what is not delivered yet."""
    api = api_of(options, job.ledger)
    parts = [part for number in chosen if (part := job.ledger.parts[number]).delivery is None]
    with progress("Reading results", len(parts)) as update:
        for done, part in enumerate(parts, 1):
            unread.look(job, api, part)
            update(done)
    return job.ledger


def _row(url: str, number: int, part: Part) -> dict[str, Any]:
    return {
        "part": number,
        "batch": part.batch_id,
        "requests": part.request_count,
        "without_result": part.unread,
        "custom_ids": f"{url}/{part.unread_file}",
    }
