"""When a job is needed, and how it goes on where its batches take longer than that."""

from __future__ import annotations

import datetime
import math
from typing import Any, Literal

import msgspec

LateBatches = Literal["direct", "deliver", "fail"]
"""What happens to requests that no batch has answered in time."""
USUAL_MINUTES, SHORT_MINUTES = 20.0, 3.0
"""How long before the deadline single calls begin where no pace is known; and how long cancelling takes."""
SAFETY = 1.25
"""Factor on the time that single calls are expected to take."""
LATE = "late"
"""Error type of requests that were not answered by the deadline."""
LATE_REASON = "not answered by the deadline, and on_deadline was to deliver without"


class OnTime(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A deadline, as the ledger keeps it."""

    at: datetime.datetime
    then: LateBatches = "direct"
    minutes: float | None = None
    """How long before the deadline the job goes on without its batches; None: as long as that will take."""
    max_usd: float | None = None
    """Most that the job may cost, single calls included."""
    direct_max_usd: float | None = None
    """Most that single calls may cost more than batches would have."""
    began_at: datetime.datetime | None = None
    """When the job went on without its batches; nothing is sent as a batch from then on."""
    chosen: LateBatches | None = None
    """What was done then."""
    reason: str = ""
    """Why that is not what was asked for."""
    sent_again: bool = False
    """Whether a person has sent late requests again since; batches take them."""

    def begins_at(self, open_requests: int, per_second: float) -> datetime.datetime:
        """When the job is to go on without its batches.

        Args:
            open_requests: How many requests are not answered.
            per_second: How many single calls were answered in a second, where there were some.
        """
        return self.at - datetime.timedelta(minutes=self._minutes(open_requests, per_second))

    def _minutes(self, open_requests: int, per_second: float) -> float:
        if self.then == "fail":
            return 0.0
        if self.minutes is not None:
            return self.minutes
        if self.then == "deliver":
            return SHORT_MINUTES
        if not per_second:
            return USUAL_MINUTES
        return SHORT_MINUTES + SAFETY * open_requests / per_second / 60

    def is_over(self, now: datetime.datetime) -> bool:
        """Whether who delivers anew has nothing to be in time for; what has begun to go direct goes on."""
        return self.chosen != "direct" and (self.chosen is not None or now >= self.at)

    def is_missed(self, now: datetime.datetime) -> bool:
        """Whether a clear asks for what was not answered by then; single calls are made late, too."""
        return self.chosen == "deliver" or (self.chosen is None and self.then != "direct" and now >= self.at)

    def begin(self, now: datetime.datetime, too_dear: str) -> None:
        """Go on without the batches.

        Args:
            now: This moment.
            too_dear: Why single calls are beyond a budget; empty where they are not.
        """
        self.began_at, self.chosen = now, self.then
        if too_dear:
            self.chosen, self.reason = "deliver", too_dear

    def too_dear(self, estimate: dict[str, Any], share: float) -> str:
        """Why single calls are beyond the task's own budget; empty where they are not, or not asked for.

        Args:
            estimate: Of the job.
            share: Of its requests that are not answered.
        """
        if self.then != "direct":
            return ""
        if self.max_usd is None and self.direct_max_usd is None:
            return ""
        total, standard = estimate.get("total_usd"), estimate.get("standard_usd")
        if total is None or standard is None or estimate.get("unpriced_requests"):
            return "what single calls cost is not known for every model, and the budget has a limit"
        extra = (standard - total) * share
        limits = {
            f"direct_max_usd={self.direct_max_usd}": (extra, self.direct_max_usd),
            f"max_usd={self.max_usd}": (total + extra, self.max_usd),
        }
        for name, (usd, limit) in limits.items():
            if usd > (math.inf if limit is None else limit):
                return f"single calls would cost ${extra:.4f} more by the estimate, beyond {name}"
        return ""
