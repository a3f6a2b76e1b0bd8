"""The connection to Claude, for everything in this package.

Connection type, authentication and clients are those of ``apache-airflow-providers-anthropic``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
from airflow.providers.anthropic.exceptions import AnthropicError
from airflow.providers.anthropic.hooks.anthropic import AnthropicHook
from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, Connection

from airflow_claude_batch.batches.api.client import AsyncBatchesApi, BatchesApi
from airflow_claude_batch.batches.api.credentials import fault_of_credentials, has_credentials
from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.errors import ConfigurationError, WaitAccessError

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch


class ClaudeBatchHook(AnthropicHook):
    """Message batches over an Airflow connection of type ``anthropic``.

    Where the default connection does not exist, the SDK's own environment variables are used
    (``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``).

    Args:
        conn_id: The connection; ``anthropic_default`` unless told otherwise.
    """

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        """The Airflow connection, or an empty one where only the environment knows the key."""
        try:
            return _with_a_usable_extra(super().get_connection(conn_id))
        except AirflowNotFoundException:
            return _from_environment(conn_id)

    @classmethod
    async def aget_connection(cls, conn_id: str) -> Connection:
        """Like :meth:`get_connection`, without blocking the event loop."""
        try:
            return _with_a_usable_extra(await super().aget_connection(conn_id))
        except AirflowNotFoundException:
            return _from_environment(conn_id)

    def get_conn(self) -> Any:
        """A synchronous client for the connection's platform.

        Raises:
            ConfigurationError: When its calls could not be sent, or would show the key in the log.
        """
        with self._usable():
            return self._checked(super().get_conn())

    async def get_async_conn(self) -> Any:
        """Like :meth:`get_conn`, for an event loop."""
        with self._usable():
            return self._checked(await super().get_async_conn())

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Say of the connection what the SDK says of its constructor's arguments."""
        try:
            yield
        except httpx2.InvalidURL:  # whose message may hold a piece of a password
            raise ConfigurationError(
                f"Connection {self.conn_id!r}: its host is no URL. Set it with its scheme: https://host/prefix."
            ) from None
        except ConfigurationError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(
                f"Connection {self.conn_id!r}: no client can be made with its extra ({foreign_text(error)}). "
                "anthropic_client_kwargs there is a JSON object with arguments of anthropic.Anthropic."
            ) from None

    def _checked(self, client: Any) -> Any:
        if self.platform == "anthropic" and not has_credentials(client):
            raise ConfigurationError(
                f"Connection {self.conn_id!r} has no key. Set its password to the API key, or "
                "workload_identity in its extra."
            )
        if fault := fault_of_credentials(client):
            raise ConfigurationError(f"Connection {self.conn_id!r}: {fault}")
        return client

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
            AnthropicError: On a platform that has no message batches (Bedrock, Vertex, Foundry).
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
            WaitAccessError: When there is no such connection, or it can make no client that has batches.
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


def _with_a_usable_extra(connection: Connection) -> Connection:
    """A connection whose extra can be read: without it, calls would go to another host than its owner means.

    Raises:
        ConfigurationError: When it is no JSON object.
    """
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise ConfigurationError(
            f"Connection {connection.conn_id!r}: its extra is no JSON object. Write it as one: "
            '{"anthropic_client_kwargs": {"timeout": 60}}, or leave it empty.'
        )
    return connection


def _from_environment(conn_id: str) -> Connection:
    if conn_id != ClaudeBatchHook.default_conn_name or not os.environ.get("ANTHROPIC_API_KEY"):
        raise AirflowNotFoundException(
            f"The connection {conn_id!r} isn't defined. Create one of type 'anthropic' (password = API key)"
            + (", or set ANTHROPIC_API_KEY." if conn_id == ClaudeBatchHook.default_conn_name else ".")
        )
    return Connection(conn_id=conn_id, conn_type="anthropic")
