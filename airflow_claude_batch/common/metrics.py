"""Numbers about waiting, through Airflow's own metrics (``[metrics] statsd_on`` or ``otel_on``).

=======================================  =======  ====================================================
metric                                   type     what it counts
=======================================  =======  ====================================================
``claude_batch.polls``                   counter  calls to the API made for waiting
``claude_batch.poll_errors``             counter  those that failed
``claude_batch.waits``                   gauge    waits in flight in this triggerer
``claude_batch.oldest_wait_seconds``     gauge    how long the oldest of them has been going on
``claude_batch.batch_duration``          timer    from a batch's creation to its end
=======================================  =======  ====================================================

All carry the tag ``conn_id``.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from airflow.providers.common.compat.sdk import Stats


class AirflowMetrics:
    """The engine's numbers for one connection. No wait fails because a number cannot be sent.

    Args:
        conn_id: Becomes a tag.
        tags: The job's, which become tags, too.
    """

    def __init__(self, conn_id: str, tags: Mapping[str, str] | None = None) -> None:
        self._stats: Any = Stats
        self._tags = {**(tags or {}), "conn_id": conn_id}

    def incr(self, name: str, count: int = 1) -> None:
        """Count something."""
        with suppress(Exception):
            self._stats.incr(f"claude_batch.{name}", count, tags=self._tags)

    def gauge(self, name: str, value: float) -> None:
        """Report how much there is of something now."""
        with suppress(Exception):
            self._stats.gauge(f"claude_batch.{name}", value, tags=self._tags)

    def timing(self, name: str, seconds: float) -> None:
        """Report how long something took."""
        with suppress(Exception):
            self._stats.timing(f"claude_batch.{name}", datetime.timedelta(seconds=seconds), tags=self._tags)
