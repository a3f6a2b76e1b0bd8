"""Rate limits of single Messages calls, and the headers that tell of them.

Each is a bucket that is filled again all the time, up to its size: what a minute allows (source: the API's
documentation of rate limits). An answer's output is taken out when it is known.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from airflow_claude_batch.emulator.api.clock import rfc3339
from airflow_claude_batch.emulator.api.errors import ApiError

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.control.settings import Settings

_MINUTE = 60.0
_KINDS = {
    "requests": "messages_per_minute",
    "input-tokens": "input_tokens_per_minute",
    "output-tokens": "output_tokens_per_minute",
}
"""By name in the headers: the setting."""


class _Bucket:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = float(limit)
        self.at = time.monotonic()

    def refill(self, now: float) -> None:
        self.left = min(self.left + (now - self.at) * self.limit / _MINUTE, float(self.limit))
        self.at = now

    def seconds_until(self, wanted: float) -> float:
        return max(wanted - self.left, 0.0) * _MINUTE / self.limit


class RateLimits:
    """The limits of one organisation."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def take(self, settings: Settings, input_tokens: int) -> None:
        """Let a call in; raises the API's 429 with ``retry-after`` where it is one too many."""
        costs = {"requests": 1, "input-tokens": input_tokens, "output-tokens": 1}
        buckets = self._refilled(settings)
        waits = {name: bucket.seconds_until(costs[name]) for name, bucket in buckets.items()}
        longest = max(waits, key=lambda name: waits[name], default="")
        if longest and waits[longest] > 0:
            what = f"{buckets[longest].limit} {longest.replace('-', ' ')} per minute"
            retry_after = {"retry-after": str(math.ceil(waits[longest]))}
            raise ApiError(
                429,
                f"This request would exceed your organization's rate limit of {what}.",
                headers={**self.headers(settings), **retry_after},
            )
        for name, bucket in buckets.items():
            bucket.left -= costs[name] if name != "output-tokens" else 0

    def take_output(self, settings: Settings, tokens: int) -> None:
        """Count an answer; it may overdraw the bucket."""
        bucket = self._refilled(settings).get("output-tokens")
        if bucket is not None:
            bucket.left -= tokens

    def headers(self, settings: Settings) -> dict[str, str]:
        """What an answer tells of each limit."""
        told: dict[str, str] = {}
        for name, bucket in self._refilled(settings).items():
            prefix = f"anthropic-ratelimit-{name}"
            told[f"{prefix}-limit"] = str(bucket.limit)
            told[f"{prefix}-remaining"] = str(max(math.floor(bucket.left), 0))
            full = time.time() + bucket.seconds_until(bucket.limit)
            told[f"{prefix}-reset"] = str(rfc3339(math.ceil(full)))
        return told

    def _refilled(self, settings: Settings) -> dict[str, _Bucket]:
        now = time.monotonic()
        for name, setting in _KINDS.items():
            limit: int | None = getattr(settings, setting)
            if limit is None:
                self._buckets.pop(name, None)
            elif name not in self._buckets or self._buckets[name].limit != limit:
                self._buckets[name] = _Bucket(limit)
        for bucket in self._buckets.values():
            bucket.refill(now)
        return self._buckets
