"""Which of the engine's errors a retry cannot mend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def no_retry_when_final() -> Iterator[None]:
    """Turn errors that would only come again into ``AirflowFailException``, which is not retried."""
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_claude_batch.batches import errors

    final = (
        errors.InputError,
        errors.ConfigurationError,
        errors.BudgetExceededError,
        errors.LedgerError,
        errors.RejectedError,
        errors.AccessError,
        errors.BillingError,
        errors.AmbiguousSubmissionError,
        errors.UnknownBatchError,
        errors.WaitAccessError,
        errors.ResultsGoneError,
        errors.ResultsTooLargeError,
        errors.TooManyFailuresError,
    )
    try:
        yield
    except final as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
