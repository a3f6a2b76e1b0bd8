"""The connection to Claude, for everything in this package.

Connection type, authentication and clients are those of ``apache-airflow-providers-anthropic``.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anthropic
from airflow.providers.anthropic.exceptions import AnthropicError
from airflow.providers.anthropic.hooks.anthropic import AnthropicHook
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, Connection

from airflow_claude_batch.batches.api.client import AsyncBatchesApi, BatchesApi
from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.errors import WaitAccessError

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch


class ClaudeBatchHook(AnthropicHook):
    """Message batches over an Airflow connection of type ``anthropic``.

    Where the default connection does not exist, the SDK's own environment variables are used
    (``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``).

    Args:
        conn_id: the connection; ``anthropic_default`` unless told otherwise.
    """

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The Airflow connection, or an empty one where only the environment knows the key."""
        try:
            return super().get_connection(conn_id)
        except AirflowNotFoundException:
            return _from_environment(conn_id)

    @classmethod
    async def aget_connection(cls, conn_id: str) -> Connection:
        """Like :meth:`get_connection`, without blocking the event loop."""
        try:
            return await super().aget_connection(conn_id)
        except AirflowNotFoundException:
            return _from_environment(conn_id)

    @property
    def connection_model(self) -> str | None:
        """The default model that the connection's extra names, if any; never a silent choice."""
        return self._connection.extra_dejson.get("model") or None

    @property
    def connection_price_factor(self) -> Any:
        """The connection's own discount, from its extra; None where it has none."""
        return self._connection.extra_dejson.get("price_factor")

    @cached_property
    def batches(self) -> BatchesApi:
        """The Message Batches API, synchronous; one object, since it remembers what time the API has.

        Raises:
            AnthropicError: on a platform that has no message batches (Bedrock, Vertex, Foundry).
        """
        self._require_first_party("The Message Batches API")
        return BatchesApi(self._first_party_conn, self.conn_id)

    @property
    def messages(self) -> MessagesApi:
        """Single Messages calls, for an event loop that is not running yet; close it after use."""
        return MessagesApi(self._build_async_client())

    async def get_async_batches(self) -> AsyncBatchesApi:
        """The Message Batches API for an event loop, which is not blocked meanwhile; close it after use.

        Raises:
            WaitAccessError: when there is no such connection, or it can make no client that has batches.
        """
        try:
            self._connection = await self._find_connection()
            return AsyncBatchesApi(await asyncio.to_thread(self._build_async_client))
        except (AirflowNotFoundException, AnthropicError, anthropic.AnthropicError, ValueError) as error:
            raise WaitAccessError(f"{type(error).__name__}: {error}") from error

    async def _find_connection(self) -> Connection:
        try:
            return await get_async_connection(self.conn_id, hook=self)
        except AirflowNotFoundException:
            # The supervisor of `dag.test()` answers synchronous questions only; the other way finds nothing.
            return await asyncio.to_thread(self.get_connection, self.conn_id)

    def _build_async_client(self) -> Any:
        # In a thread: it reads certificates from the disk, and masking the connection's secrets
        # is a synchronous call to the supervisor. The client belongs to no loop until it is used.
        self._require_first_party("The Message Batches API")
        return asyncio.run(self.get_async_conn())

    def get_batch_status(self, batch_id: str) -> Batch:
        """Look one batch up."""
        return self.batches.retrieve(batch_id)


def _from_environment(conn_id: str) -> Connection:
    import os

    if conn_id != ClaudeBatchHook.default_conn_name or not os.environ.get("ANTHROPIC_API_KEY"):
        raise AirflowNotFoundException(
            f"The connection {conn_id!r} isn't defined. Create one of type 'anthropic' (password = API key)"
            + (", or set ANTHROPIC_API_KEY." if conn_id == ClaudeBatchHook.default_conn_name else ".")
        )
    return Connection(conn_id=conn_id, conn_type="anthropic")
