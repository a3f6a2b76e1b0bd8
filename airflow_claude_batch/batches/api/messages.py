"""Single Messages calls on an event loop: a body as it was stored, one try a call.

They go over aiohttp: the SDK's usual transport looks through all connections twice a call, so that at fifty
of them the calls wait for the processor rather than for the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.api.client import ANSWER_SECONDS, headers_of, response_type
from airflow_claude_batch.batches.api.unlogged import unlogged

if TYPE_CHECKING:
    import anthropic

MESSAGES_PATH = b"v1/messages"


@dataclass(frozen=True, slots=True)
class Answer:
    """The API's answer to one call."""

    message: bytes
    """The message, as JSON."""
    headers: Mapping[str, str]
    """Those of the API's own, by their names in lower case."""


class MessagesApi:
    """Raises the SDK's own exceptions.

    Args:
        client: An asynchronous ``anthropic`` client; closed with this object.
    """

    def __init__(self, client: anthropic.AsyncAnthropic) -> None:
        from airflow_claude_batch.batches.api.aio_client import http_client

        self._client = client.with_options(max_retries=0, timeout=ANSWER_SECONDS, http_client=http_client())
        self._owned = client
        # Whole, so that it is not put together for each call.
        base = client.base_url
        self._url = str(base.copy_with(raw_path=base.raw_path + MESSAGES_PATH))

    async def ask(self, params: bytes, betas: Sequence[str]) -> Answer:
        """Make one call.

        Args:
            params: Its body, as JSON.
            betas: Beta features.
        """
        from airflow_claude_batch.batches.api.aio_client import Body

        with unlogged():  # ten thousand calls are no ten thousand lines
            response = await self._client.post(
                self._url,
                content=Body(params),
                cast_to=response_type(),
                options={"headers": headers_of(len(params), betas), "follow_redirects": False},
            )
        return Answer(response.content, _own_headers(response.headers.raw))

    async def close(self) -> None:
        """Release the connections."""
        await self._client.close()
        await self._owned.close()


def _own_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """In a dict: the SDK's own mapping looks through all of them for each name (5 % of a call)."""
    lowered = ((name.lower(), value) for name, value in headers)
    return {name.decode(): value.decode() for name, value in lowered if name.startswith(b"anthropic-")}
