"""What a replaced job has cost: answers that nobody wants any more are paid for, too."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from decimal import Decimal

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.job.answers import answer_files
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.part import DeliveryNote, PartState
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.classify import process_results
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import StoredResults, part_source
from airflow_claude_batch.batches.results.sent_requests import Ids


def count_replaced(job: Job, api: BatchesApi, price_factor: Decimal) -> bool:
    """Count the answers of a job that was replaced, without delivering any.

    Args:
        job: Which was replaced.
        api: Where its batches are.
        price_factor: A negotiated discount, as a factor on list prices.

    Returns:
        Whether all are counted, so that its costs can be booked; not as long as one of its batches runs.
    """
    parts = job.ledger.parts
    open_parts = [
        (number, part)
        for number, part in enumerate(parts)
        if part.delivery is None
        and (part.batch_id or (part.way == "direct" and answer_files(job.folder, number)))
    ]
    running = any(part.batch_id and not look_up(api, part.batch_id).ended for _, part in open_parts)
    if running or any(part.state is PartState.UNCERTAIN for part in job.ledger.live_parts):
        return False
    for number, part in open_parts:
        source = part_source(api, job.folder, job.ledger, number)
        assert source is not None
        if isinstance(source, StoredResults):
            source = replace(source, existing=0)  # calls that were not made are not waited for
        with contextlib.closing(Ids(job.folder, part.inputs)) as sent:
            download = Download(source=source, inputs=sent, sent_as=part.sent_as)
            tally = process_results(download, None, reading=Reading(), price_factor=price_factor)
        with job.change():
            part.delivery = DeliveryNote(key="", tally=tally)
    return True
