"""Asking again, from a worker, for what costs nothing: a few times, a minute apart at most.

The SDK would do it, too, but it sleeps for any ``retry-after``, and a task must not sit in its worker slot
for an hour. The caller gets the error then, and knows what else there is to do: come back without a slot.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60.0
"""Asked for more patience than this, a call fails instead. Rate limits are over minutes."""
SHORTEST_SECONDS = 0.5
"""Before the second try where the API names no time; it doubles with each further one."""

T = TypeVar("T")


def patiently(request: Callable[[], T], retries: int) -> T:
    """Make a call, and up to ``retries`` times again after a failure that may pass.

    :raises Exception: the SDK's
    """
    for attempt in range(retries):
        try:
            return request()
        except Exception as error:
            seconds = _pause(error, attempt)
            if seconds is None:
                raise
            log.info("Asking again in %.1f s: %s", seconds, error)
            time.sleep(seconds)
    return request()


def asked_seconds(error: Exception) -> float | None:
    """Seconds that the API asks to be left alone for (``retry-after``); None where it does not."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        return None


def _pause(error: Exception, attempt: int) -> float | None:
    """Seconds until the next try; None where it would be of no use, or too long a wait."""
    import anthropic

    headers = getattr(getattr(error, "response", None), "headers", {})
    passing = isinstance(error, anthropic.APIConnectionError) or (
        isinstance(error, anthropic.APIStatusError)
        and (error.status_code in (408, 409, 429) or error.status_code >= 500)
    )
    if not passing or headers.get("x-should-retry") == "false":
        return None
    asked = asked_seconds(error)
    if asked is None:
        return SHORTEST_SECONDS * 2.0**attempt * random.uniform(0.75, 1.0)
    return max(asked, SHORTEST_SECONDS) if asked <= LONGEST_SECONDS else None
