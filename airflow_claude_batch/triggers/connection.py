"""From an Airflow connection to its poller, without a moment of a blocked event loop.

Importing the SDK takes seconds and reading certificates milliseconds; both happen in a thread.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import AsyncBatchesApi
    from airflow_claude_batch.batches.waiting.poller import Poller
    from airflow_claude_batch.common.metrics import AirflowMetrics

_imported = threading.Event()
_importing: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
"""One thread for the thousand waits that a restart begins at once."""


async def poller_of(conn_id: str) -> Poller:
    """The poller that all waits on this connection share; subscribe before the next ``await``."""
    if not _imported.is_set():
        async with _importing.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if not _imported.is_set():
                await asyncio.to_thread(_import)
    from airflow_claude_batch.batches.waiting.poller import shared_poller

    return shared_poller(conn_id, functools.partial(_connect, conn_id), metrics=_metrics(conn_id))


def _import() -> None:
    """Load what waiting needs."""
    from airflow.providers.common.compat.sdk import Stats, conf  # noqa: F401

    import airflow_claude_batch.batches.waiting.poller
    import airflow_claude_batch.hooks.claude_batch  # noqa: F401

    _imported.set()


@functools.cache
def _metrics(conn_id: str) -> AirflowMetrics:
    from airflow_claude_batch.common.metrics import AirflowMetrics

    return AirflowMetrics(conn_id)


async def _connect(conn_id: str) -> AsyncBatchesApi:
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    return await ClaudeBatchHook(conn_id).get_async_batches()
