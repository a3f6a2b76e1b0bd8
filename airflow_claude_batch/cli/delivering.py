"""Bringing a job to its end in a terminal: what is to be sent is sent, waited for, and written."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.errors import ConfigurationError, LostOwnershipError
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.job.job import Later, open_job
from airflow_claude_batch.batches.results.resubmission import spool_next
from airflow_claude_batch.batches.submission.policy import Policy, seconds_until
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.cli.places import price_factor_of
from airflow_claude_batch.cli.printing import batches, note
from airflow_claude_batch.cli.wait import wait_until_ended
from airflow_claude_batch.common.settings import reconcile_grace_seconds
from airflow_claude_batch.runtime.budgets import Budgets
from airflow_claude_batch.runtime.spending import JobSpending

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.batches.results.delivery import Delivery
    from airflow_claude_batch.batches.storage import Folder

FIRST_LIFE = 1
"""Generation of a delivery that no task has begun: that of a task which has never been cleared."""


def check_idle(folder: Folder) -> None:
    """Return if nobody is at work on a job.

    Raises:
        LostOwnershipError: If a worker is.
    """
    home = folder.parent
    if lease.alive(home, lease.newest(home)):
        raise LostOwnershipError(f"A worker is at work on {folder.url}. Try again when its task has ended.")


def submit_all(root: Folder, url: str, api: BatchesApi) -> list[str]:
    """Send what a job has still to send, however long the API asks for patience; returns its batches."""
    while True:
        with open_job(root, url) as job:
            later = _submit(job, api)
            batch_ids = job.ledger.batch_ids
        if later is None:
            return batch_ids
        _pause(later, api)


def deliver(root: Folder, url: str, delivery: Delivery, *, poll_interval: float | None) -> dict[str, Any]:
    """Send, wait and write until all of a job is delivered.

    Args:
        root: ``storage_path``.
        url: Of the job.
        delivery: How to deliver it.
        poll_interval: Seconds between two looks; None for an interval that grows.

    Returns:
        The summary.
    """
    while True:
        with open_job(root, url) as job:
            step = _advance(job, delivery)
        if isinstance(step, dict):
            return step
        if isinstance(step, Later):
            _pause(step, delivery.api)
        else:
            note(f"Waiting for {batches(len(step))}; Ctrl-C is harmless, what is sent goes on.")
            wait_until_ended(delivery.api, step, poll_interval=poll_interval)


def _advance(job: Job, delivery: Delivery) -> dict[str, Any] | Later | list[str]:
    """Do what can be done now; returns the summary, or what has to be waited for."""
    delivery.begin(job, job.ledger.delivery_generation or FIRST_LIFE)
    spool_next(job)
    while delivery.pending(job):
        later = _submit(job, delivery.api)
        if later is not None:
            return later
        sent = [part.batch_id for _, part in delivery.pending(job) if part.batch_id]
        running = [batch_id for batch_id in sent if not look_up(delivery.api, batch_id).ended]
        if running:
            return running
        if not all(part.is_answered or part.repeats for _, part in delivery.pending(job)):
            raise ConfigurationError(
                f"{job.folder.url} has parts that only its task can answer, not a batch: clear the task."
            )
        delivery.deliver_ended(job)
        spool_next(job)
    summary = delivery.finish(job)
    _spending(job, delivery.api).settle()
    return summary


def _submit(job: Job, api: BatchesApi) -> Later | None:
    spending = _spending(job, api)
    spending.check_limit()
    if (later := spending.reserve()) is not None:
        return later
    submission = Submission(job=job, api=api, policy=Policy(grace_seconds=reconcile_grace_seconds()))
    with spending.released_unless_sent():
        return spending.reserve_rest() or submission.run()


def _spending(job: Job, api: BatchesApi) -> JobSpending:
    prices = PriceBook(datetime.datetime.now(datetime.UTC), price_factor_of(api))
    return JobSpending(job=job, api=api, budgets=Budgets.booked(job.ledger), prices=prices)


def _pause(later: Later, api: BatchesApi) -> None:
    note(f"{later.reason}; going on at {later.at:%H:%M:%S %Z}")
    if later.batch_id is not None and later.certain:
        wait_until_ended(api, [later.batch_id])
    else:
        time.sleep(seconds_until(later.at))
