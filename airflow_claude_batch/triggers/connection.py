"""From an Airflow connection to its poller, without a moment of a blocked event loop.

Importing the SDK takes seconds and reading certificates milliseconds; both happen in a thread.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api import AsyncBatchesApi
    from airflow_claude_batch.batches.poller import Poller
    from airflow_claude_batch.metrics import AirflowMetrics

HOOK = "airflow_claude_batch.hooks.claude_batch"
POLLER = "airflow_claude_batch.batches.poller"

_metrics: dict[str, AirflowMetrics] = {}
_preparing: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def poller_of(conn_id: str) -> Poller:
    """The poller that all waits on this connection share; join it before the next ``await``."""
    if conn_id not in _metrics:
        # One thread for the thousand waits that a restart begins at once.
        async with _preparing.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if conn_id not in _metrics:
                _metrics[conn_id] = await asyncio.to_thread(_prepare, conn_id)
    from airflow_claude_batch.batches.poller import shared_poller

    return shared_poller(conn_id, lambda: _connect(conn_id), _metrics[conn_id])


def _prepare(conn_id: str) -> AirflowMetrics:
    """Load what waiting needs, before its first look."""
    first = HOOK not in sys.modules
    import_module(HOOK)  # which waits, where another thread is at it
    if first:
        # Waiting allocates little and often, so the garbage collector walks all of the process every now
        # and then, and stops the event loop meanwhile: 150 to 400 ms for what Airflow and the SDK have
        # loaded. That stays loaded until the process ends, and is not garbage: leave it out from now on, as
        # Airflow's DAG processor does for itself. What is in use at this moment is still freed when nothing
        # refers to it; only what refers to itself is not.
        gc.freeze()
    import_module(POLLER)
    from airflow.providers.common.compat.sdk import conf  # noqa: F401  # its first import takes a while

    from airflow_claude_batch.metrics import AirflowMetrics

    http = logging.getLogger("httpx2")
    if http.level == logging.NOTSET:
        http.setLevel(logging.WARNING)  # it would write a line for every look
    return AirflowMetrics(conn_id)


async def _connect(conn_id: str) -> AsyncBatchesApi:
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    return await ClaudeBatchHook(conn_id).get_async_batches()
