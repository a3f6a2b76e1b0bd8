"""Which of the engine's errors a retry cannot cure, in Airflow's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from airflow_claude_batch.batches.errors import ApiCallError, Final


@contextlib.contextmanager
def no_retry_when_final() -> Iterator[None]:
    """Turn errors that would only come again into ``AirflowFailException``, which is not retried.

    No traceback that leaves this block shows an error of the SDK's: its text may repeat a prompt.

    Raises:
        ApiCallError: In place of an error of the SDK's that no step has read.
    """
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_claude_batch.batches.api.foreign_text import cut_foreign, describe_error, is_foreign

    try:
        yield
    except Final as error:
        cut_foreign(error)
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        cut_foreign(error)
        if not is_foreign(error):
            raise
        trace, said = error.__traceback__, describe_error(error)
        raise ApiCallError(f"A call to the API failed: {said}").with_traceback(trace) from None
