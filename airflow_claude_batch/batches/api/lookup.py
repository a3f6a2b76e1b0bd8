"""Looking up a batch that is known to exist.

A 404 on such a batch comes and goes for minutes, like any 5xx; so whoever knows an id asks here, not once.
"""

from __future__ import annotations

from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.errors import ResultsGoneError


def look_up(api: BatchesApi, batch_id: str) -> Batch:
    """Look up a batch that is known to exist, for half a minute where passing trouble hides it.

    Args:
        api: Where to ask.
        batch_id: Of a batch that was seen before.

    Returns:
        The batch.

    Raises:
        ResultsGoneError: When the API keeps answering that there is none.
        Exception: The SDK's, when another trouble does not pass, or is none that passes.
    """
    import anthropic

    try:
        return api.retrieve_known(batch_id)
    except anthropic.NotFoundError as error:
        raise ResultsGoneError(
            f"The API does not know {batch_id} any more: it was deleted, or the connection "
            f"{api.conn_id!r} now belongs to another workspace. Its answers cannot be fetched."
        ) from error
