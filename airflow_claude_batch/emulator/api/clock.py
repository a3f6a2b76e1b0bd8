"""The emulated clock.

It starts at the machine's wall clock and runs as fast as it; only :meth:`Clock.advance` moves it away.
So ``created_at`` is true wall time for a client that compares it with its own clock, and ``expires_at`` is
24 real hours later, as long as nobody has advanced the clock. The speed of the emulator is no property of
the clock: it shortens the processing of a batch (`Settings.speed`), nothing else.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Seconds since the epoch, shifted by what tests have advanced."""

    def __init__(self) -> None:
        self.advanced_seconds = 0.0

    def now(self) -> float:
        return time.time() + self.advanced_seconds

    def advance(self, seconds: float) -> None:
        """Shift all later readings by this many seconds (never back)."""
        if seconds < 0:
            raise ValueError(f"the clock only moves forward, got {seconds} seconds")
        self.advanced_seconds += seconds


def rfc3339(timestamp: float | None) -> str | None:
    """The API's form of a time: UTC, microseconds, ``Z``."""
    if timestamp is None:
        return None
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
