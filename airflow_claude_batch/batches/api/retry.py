"""Which failures of the API pass, and how a call that failed is made again: the one retry policy.

The SDK would retry by itself, but it sleeps for any ``retry-after``, and a task must not sit in its worker
slot for an hour. Here such a call fails at once, and the caller, who knows what else there is to do, comes
back without a slot.

What a failed create means for the batch is another question, see `submission.create_errors`; when waiting
looks again, and when it gives up, is `waiting.wait`'s. Both take their facts from here.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from airflow_claude_batch.batches.api.account import account_error
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.errors import IncompleteResultsError

log = logging.getLogger(__name__)

PASSING = (408, 409, 429)
"""Answers that pass, besides all from 500 on. (409: a conflict with a call that is under way.)"""
BUSY = (429, 529)
"""Those of them that ask for fewer calls."""
LONGEST_SECONDS = 60.0
"""Asked for more patience than this, a call fails instead. Rate limits are over minutes."""
SHORTEST_SECONDS = 0.5
"""Before the second try where the API names no time; it doubles with each further one."""


def retrying(retries: int = 0, *, sleep: Callable[[float], None] = time.sleep, **options: Any) -> Retrying:
    """Make a call, and up to ``retries`` times again while its failure may pass; then raise that.

    Args:
        retries: How often the call is made again.
        sleep: How to spend the seconds between two tries.
        options: ``known`` as in :func:`is_passing`, ``shortest`` and ``longest`` seconds between two tries;
            ``stop``, which says after a failure whether it was the last try, in place of ``retries``.
    """
    return Retrying(**_policy(retries, **options), sleep=sleep)


def retrying_async(
    retries: int, *, sleep: Callable[[float], Awaitable[None]], **options: Any
) -> AsyncRetrying:
    """Like :func:`retrying`, on an event loop."""
    return AsyncRetrying(**_policy(retries, **options), sleep=sleep)


def is_passing(error: BaseException, *, known: bool = False) -> bool:
    """Whether the same call may succeed later.

    Args:
        error: The SDK's, its transport's, or that a download came short.
        known: Whether the call is about a batch that certainly exists. The API answers 404 for such ones
            now and then, for minutes after they were created and after they have ended.
    """
    import anthropic
    import httpx2

    lost = anthropic.APIConnectionError, httpx2.TransportError, httpx2.StreamError, IncompleteResultsError
    if isinstance(error, lost):
        return True
    if not isinstance(error, anthropic.APIStatusError):
        return False
    if error.status_code == 404:
        return known
    if error.response.headers.get("x-should-retry") == "false":
        return False
    if error.status_code == 429 and account_error(error) is not None:  # a spend limit, until the month ends
        return False
    return error.status_code in PASSING or error.status_code >= 500


def passing_problem(error: Exception, *, known: bool = False) -> str:
    """A failure that passes, in words; any other is raised."""
    if not is_passing(error, known=known):
        raise error
    return describe_error(error)


def asked_seconds(error: BaseException) -> float | None:
    """Seconds that the API asks to be left alone for (``retry-after``); None where it does not."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:
        return None


def _policy(
    retries: int,
    *,
    known: bool = False,
    shortest: float = SHORTEST_SECONDS,
    longest: float = LONGEST_SECONDS,
    stop: Callable[[RetryCallState], bool] | None = None,
) -> dict[str, Any]:
    return {
        "retry": retry_if_exception(partial(_is_worth_it, known=known, longest=longest)),
        "wait": partial(_pause, shortest=shortest, longest=longest),
        "stop": stop or stop_after_attempt(retries + 1),
        "before_sleep": _tell,
        "reraise": True,
    }


def _is_worth_it(error: BaseException, *, known: bool, longest: float) -> bool:
    return is_passing(error, known=known) and (asked_seconds(error) or 0.0) <= longest


def _pause(call: RetryCallState, *, shortest: float, longest: float) -> float:
    asked = asked_seconds(_failure(call))
    if asked is not None:
        return max(asked, shortest)
    # Jitter, so that tasks which failed together do not come back together.
    return min(shortest * 2.0 ** (call.attempt_number - 1), longest) * random.uniform(0.75, 1.0)


def _tell(call: RetryCallState) -> None:
    seconds = call.next_action.sleep if call.next_action else 0.0
    log.info("A call to the API failed (%s); trying again in %.1f s", describe_error(_failure(call)), seconds)


def _failure(call: RetryCallState) -> BaseException:
    error = call.outcome.exception() if call.outcome else None
    assert error is not None
    return error
