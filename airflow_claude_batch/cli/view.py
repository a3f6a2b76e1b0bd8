"""A job in a few words and numbers, from its ledger alone."""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.batches.cost.prices import cost_summary
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import PartState

STATES = {
    "storing": "its input is being stored; nothing was sent",
    "dry run": "its input is stored to be looked at; nothing was sent",
    "submitting": "parts of it are still to be sent",
    "uncertain": "the answer to a POST was lost, and it is not known yet whether that made a batch",
    "waiting": "all is sent, nothing delivered",
    "delivering": "some of it is delivered",
    "delivered": "all is delivered, and all has succeeded",
    "partial": "all is delivered; some of it has failed",
    "failed": "all is delivered, and nothing has succeeded",
    "replaced": "another job has taken its place, with other requests",
}
"""What ``list`` calls the state of a job."""


def state_of(ledger: Ledger) -> str:
    """One of `STATES`."""
    if ledger.superseded_by:
        return "replaced"
    if not ledger.spooled:
        return "storing"
    if ledger.dry_run:
        return "dry run"
    states = {part.state for part in ledger.live_parts}
    if PartState.UNCERTAIN in states:
        return "uncertain"
    if not all(part.is_answered for part in ledger.live_parts):
        return "submitting"
    open_parts = [part for part in ledger.parts if not part.split and part.delivery is None]
    if not open_parts and tally_of(ledger).delivered == ledger.request_count:
        return _verdict(ledger)
    return "waiting" if len(open_parts) == len(ledger.live_parts) else "delivering"


def _verdict(ledger: Ledger) -> str:
    succeeded = tally_of(ledger).counts.get("succeeded", 0)
    if succeeded == ledger.request_count:
        return "delivered"
    return "partial" if succeeded else "failed"


def tally_of(ledger: Ledger) -> Tally:
    """What was delivered so far, in numbers."""
    tally = Tally()
    for part in ledger.parts:
        if part.delivery is not None and not part.split:
            tally.add(part.delivery.tally)
    return tally


def cost_of(ledger: Ledger) -> dict[str, Any]:
    """What was paid for answers that were fetched, and what the rest of the job is estimated to cost."""
    cost = cost_summary(tally_of(ledger).spending)
    sent = [part for part in ledger.live_parts if part.batch_id]
    open_requests = sum(part.request_count for part in sent if part.delivery is None)
    return {
        "cost_usd": cost["total_usd"],
        "saved_usd": cost["saved_usd"],
        "open_usd": ledger.estimated_usd(open_requests),
    }
