"""``fetch``: the results of any batches as records."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.errors import ClaudeBatchError, ConfigurationError
from airflow_claude_batch.batches.job.claims import BATCH_ID, find_claim
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import read_ledger
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.part_delivery import Sent
from airflow_claude_batch.cli.command import DONE
from airflow_claude_batch.cli.places import api_of, folder_at, price_factor_of, storage
from airflow_claude_batch.cli.printing import note
from airflow_claude_batch.cli.summaries import print_summary
from airflow_claude_batch.cli.wait import wait_until_ended

if TYPE_CHECKING:
    from airflow_claude_batch.batches.job.ledger import Ledger
    from airflow_claude_batch.batches.storage import Folder


def fetch(options: argparse.Namespace) -> int:
    """Write the records of batches, and print their summary."""
    root = storage(options)
    batch_ids = list(dict.fromkeys(options.batch_ids))
    for batch_id in batch_ids:
        if not BATCH_ID.fullmatch(batch_id):
            raise ConfigurationError(f"{batch_id[:100]!r} is no batch id; it looks like msgbatch_01….")
    known = {batch_id: _sent(root, batch_id) for batch_id in batch_ids}
    ledger: Ledger | None = next((sent.ledger for sent in known.values() if sent is not None), None)
    api = api_of(options, ledger)
    output = open_directory(
        folder_at(options.output),
        format=options.format or "jsonl",
        compression=options.compression,
        include_message=options.include_message,
        overwrite=options.overwrite,
    )
    wait_until_ended(api, batch_ids, poll_interval=options.poll_interval, at_once=not options.wait)
    reading = Reading(include_message=options.include_message)
    delivery = Delivery(api=api, output=output, reading=reading, price_factor=price_factor_of(api))
    sent = {batch_id: one for batch_id, one in known.items() if one is not None}
    print_summary(delivery.deliver_batches(batch_ids, sent, incomplete=options.incomplete), options.shown_as)
    return DONE


def _sent(root: Folder, batch_id: str) -> Sent | None:
    """What was sent in a batch, where a job that can be read claims it."""
    claim = find_claim(root, batch_id)
    if claim is None:
        return None
    try:
        folder = root_relative(root, claim.job)
        ledger = read_ledger(folder)
    except ClaudeBatchError as error:
        note(f"{batch_id} comes without its columns: {error}")
        return None
    part = next((part for part in ledger.live_parts if part.batch_id == batch_id), None)
    return None if part is None else Sent(folder=folder, ledger=ledger, part=part)
