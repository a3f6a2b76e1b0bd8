"""What a task instance's earlier jobs cost, which a clear with other requests has replaced.

Their XComs are gone with the clear; the ledgers are not. So the job that replaces them says it with its own
announcement, where the page finds it, whatever is purged later.
"""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.history import job_number
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder


def paid_before(folder: Folder) -> dict[str, Any] | None:
    """Jobs with batches, their cost, and how much of it is estimated; None where there are none.

    Args:
        folder: The job that replaces them.
    """
    mine = job_number(folder.url.rpartition("/")[2]) or 0
    home = folder.parent
    names = {name.partition("/")[0] for name in home.names()} if mine > 1 else set[str]()
    jobs, usd, estimated = 0, 0.0, 0.0
    for name in sorted(names):
        number = job_number(name)
        if number is None or number >= mine:
            continue
        ledger = ledgers.load(home.child(name))
        if ledger is not None and _was_paid_for(ledger):
            known, guessed = _cost(ledger)
            jobs, usd, estimated = jobs + 1, usd + known + guessed, estimated + guessed
    return {"jobs": jobs, "usd": usd, "estimated_usd": estimated} if jobs else None


def _was_paid_for(ledger: Ledger) -> bool:
    return bool(ledger.batch_ids) or any(part.way == "direct" for part in ledger.live_parts)


def _cost(ledger: Ledger) -> tuple[float, float]:
    """Of what was delivered, and, as estimated, of what was sent and never fetched."""
    known = sum(
        spending.paid_pico or 0
        for part in ledger.parts
        if part.delivery is not None
        for spending in part.delivery.tally.spending
    )
    open_requests = sum(
        part.request_count for part in ledger.live_parts if part.batch_id and part.delivery is None
    )
    return known / PICO, ledger.estimated_usd(open_requests) or 0.0
