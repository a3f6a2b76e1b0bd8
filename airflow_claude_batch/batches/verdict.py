"""The verdict over a delivered job: did enough of it succeed?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_claude_batch.batches.errors import TooManyFailuresError


def judge(summary: Mapping[str, Any], max_failed_fraction: float) -> None:
    """Decide whether the task fails. The output is complete before this is asked.

    Requests of a batch that somebody cancelled are left out of the share: they were not wanted.

    :param max_failed_fraction: largest share of failed requests that is accepted, 0 to 1
    :raises TooManyFailuresError: when nothing succeeded, or more failed than allowed
    """
    counts = summary["counts"]
    succeeded = counts["succeeded"]
    wanted = counts["total"] - counts["canceled"]
    failed = wanted - succeeded
    if succeeded and failed <= max_failed_fraction * wanted:
        return
    top = ", ".join(f"{count} x {reason}" for reason, count in list(summary["errors"].items())[:3])
    where = summary.get("errored_path") or "the task's XCom"
    limit = "nothing succeeded" if not succeeded else f"max_failed_fraction is {max_failed_fraction}"
    raise TooManyFailuresError(
        f"{counts['total'] - succeeded} of {counts['total']} requests failed ({limit}). Top reasons: {top}. "
        f"Errored records: {where}. The {succeeded} succeeded ones are delivered."
    )
