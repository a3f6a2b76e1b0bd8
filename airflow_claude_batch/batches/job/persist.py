"""Writing down what is paid for: a store that fails now and then is asked again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.errors import ClaudeBatchError, SubmissionError

log = logging.getLogger(__name__)

TRIES = 4
"""How often it is tried."""
SHORTEST_SECONDS = 0.5
"""Before the second try; doubled before each further one."""

T = TypeVar("T")


def persist(write: Callable[[], T], *, trouble: str, loss: Callable[[str], str]) -> T:
    """Write something down.

    Args:
        write: Writes it; it may be called several times.
        trouble: What is said where it has to be tried again, without its end.
        loss: What is said in the end, of what the store said.

    Raises:
        SubmissionError: When the store fails again and again, whatever class of error it raises.
        ClaudeBatchError: What ``write`` raises of ours, such as that another process has the job.
    """

    def tell(call: RetryCallState) -> None:
        log.warning("%s yet: %s", trouble, foreign_text(call.outcome and call.outcome.exception()))

    retrying = Retrying(
        retry=retry_if_exception(_is_stores),
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=SHORTEST_SECONDS),
        before_sleep=tell,
        reraise=True,
    )
    try:
        return retrying(write)
    except Exception as error:
        if not _is_stores(error):
            raise
        raise SubmissionError(loss(foreign_text(error))) from error


def _is_stores(error: BaseException) -> bool:
    """What is not ours; gcsfs's HttpError and Azure's HttpResponseError are no OSError."""
    return isinstance(error, Exception) and not isinstance(error, ClaudeBatchError)
