"""The Message Batches API as the engine uses it: few calls, raw bodies, no retries of the SDK's.

The SDK's client does authentication, base URL and errors. Its ``batches.create`` is not used: it
needs all requests in memory and posts again by itself when an answer is lost. Answers are decoded
partially with msgspec, so an unknown status or a new field is no error.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from airflow_claude_batch.batches.patience import patiently

if TYPE_CHECKING:
    import anthropic

PATH = "/v1/messages/batches"
COUNT_PATH = "/v1/messages/count_tokens"
PAGE = 1000
"""Batches on one page of the list (the API's maximum)."""
ANSWER_SECONDS = 600.0
"""How long a create may stay without an answer once its body is sent."""
LOOK_SECONDS = 30.0
"""How long a question that is not essential may stay without an answer."""
POLL_SECONDS = 60.0
"""How long a look from the event loop may stay without an answer."""


_COUNTED = frozenset(
    {"messages", "model", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers"}
)
"""Parameters that the token count takes; it refuses others."""


class RequestCounts(msgspec.Struct, frozen=True, gc=False):
    """How many requests of a batch are in which state. All are processing until the batch ends."""

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """Requests in the batch."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class Batch(msgspec.Struct, frozen=True, gc=False):
    """A message batch, as far as the engine needs it.

    Without references to anything that could refer back, so the garbage collector, which stops the event
    loop for a moment, need not look at the ten thousand of them that a look brings.
    """

    id: str
    processing_status: str
    request_counts: RequestCounts
    created_at: datetime.datetime
    expires_at: datetime.datetime | None = None
    ended_at: datetime.datetime | None = None
    cancel_initiated_at: datetime.datetime | None = None
    archived_at: datetime.datetime | None = None
    results_url: str | None = None

    @property
    def ended(self) -> bool:
        """Whether processing is over; only then there are results."""
        return self.processing_status == "ended"


class Page(msgspec.Struct, frozen=True):
    """Some batches of the list."""

    data: list[Batch]
    has_more: bool = False
    last_id: str | None = None


decode_batch = msgspec.json.Decoder(Batch).decode
decode_page = msgspec.json.Decoder(Page).decode


class BatchesApi:
    """Synchronous calls. Every method raises the SDK's own exceptions.

    :param client: an ``anthropic`` client of a platform that has message batches
    :param conn_id: name of the Airflow connection, for messages
    """

    def __init__(self, client: anthropic.Anthropic, conn_id: str = "") -> None:
        self._client = client.with_options(max_retries=0)
        self._retries = client.max_retries
        self.conn_id = conn_id

    def create(self, body: Iterable[bytes], length: int, betas: list[str]) -> Batch:
        """POST a batch once, streaming the body.

        :param body: the JSON of the request body, in blocks
        :param length: its length in bytes. Sent as Content-Length: some gateways refuse chunked bodies.
        :param betas: beta features of the whole batch
        """
        headers = {"Content-Type": "application/json", "Content-Length": str(length)}
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        response = self._client.post(
            PATH,
            content=iter(body),
            cast_to=_response_type(),
            options={"headers": headers, "timeout": ANSWER_SECONDS},
        )
        return decode_batch(response.content)

    def retrieve(self, batch_id: str) -> Batch:
        """Look a batch up."""
        return decode_batch(self._ask(self._client.get, _path(batch_id)))

    def cancel(self, batch_id: str) -> Batch:
        """Ask for a batch to be cancelled; what is in flight may still finish."""
        return decode_batch(self._ask(self._client.post, _path(batch_id, "cancel")))

    def model(self, name: str) -> bytes:
        """What the API says about a model, as JSON."""
        path = f"/v1/models/{quote(name, safe='')}"
        return self._ask(self._client.get, path, options={"timeout": LOOK_SECONDS})

    def send_one(self, params: dict[str, Any], betas: list[str]) -> None:
        """Send one request by itself, at the full price; the answer is not kept."""
        headers = {"anthropic-beta": ",".join(betas)} if betas else {}
        options = {"headers": headers, "timeout": ANSWER_SECONDS}
        self._ask(self._client.post, "/v1/messages", body=params, options=options)

    def list_since(self, start: datetime.datetime) -> Iterator[Batch]:
        """Batches of the workspace, newest first, back to ``start``."""
        after: dict[str, str] = {}
        while True:
            options = {"params": {"limit": PAGE, **after}}
            page = decode_page(self._ask(self._client.get, PATH, options=options))
            for batch in page.data:
                if batch.created_at < start:
                    return
                yield batch
            if not page.has_more or not page.last_id:
                return
            after = {"after_id": page.last_id}

    def count_tokens(self, params: bytes) -> int:
        """Input tokens of a request (free of charge).

        :param params: the body of a Messages API call, as JSON
        """
        known = {key: value for key, value in msgspec.json.decode(params).items() if key in _COUNTED}
        answer = self._ask(self._client.post, COUNT_PATH, body=known)
        return int(msgspec.json.decode(answer)["input_tokens"])

    @contextlib.contextmanager
    def results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        """Blocks of the results file, as they come off the network.

        Fetched from the client's own base URL: the URL that the batch object names could be on any
        host, and the key would go there.
        """
        response = self._client.get(
            _path(batch_id, "results"),
            cast_to=_response_type(),
            options={"headers": {"Accept": "application/binary"}},
            stream=True,
            stream_cls=_streams(),
        )
        with contextlib.closing(response):
            yield response.iter_bytes()

    def _ask(self, call: Callable[..., Any], path: str, **arguments: Any) -> bytes:
        """Body of the answer to a call of the client; made again where its failure may pass."""
        request = partial(call, path, cast_to=_response_type(), **arguments)
        content: bytes = patiently(request, self._retries).content
        return content


class AsyncBatchesApi:
    """The calls that waiting needs, for an event loop. Every method raises the SDK's own exceptions.

    :param client: an asynchronous ``anthropic`` client; closed with this object
    """

    def __init__(self, client: anthropic.AsyncAnthropic) -> None:
        # One try a call: the poller decides when the next one comes, and the SDK would sleep for
        # any retry-after, however long.
        self._client = client.with_options(max_retries=0, timeout=POLL_SECONDS)
        self._owned = client

    async def retrieve(self, batch_id: str) -> Batch:
        """Look a batch up."""
        response = await self._client.get(_path(batch_id), cast_to=_response_type())
        return decode_batch(response.content)

    async def page(self, after_id: str | None = None, limit: int = PAGE) -> Page:
        """Batches of the workspace, newest first.

        :param after_id: start after this batch
        """
        params: dict[str, object] = {"limit": limit}
        if after_id is not None:
            params["after_id"] = after_id
        response = await self._client.get(PATH, cast_to=_response_type(), options={"params": params})
        return decode_page(response.content)

    async def cancel(self, batch_id: str) -> Batch:
        """Ask for a batch to be cancelled."""
        response = await self._client.post(_path(batch_id, "cancel"), cast_to=_response_type())
        return decode_batch(response.content)

    async def close(self) -> None:
        """Release the connections."""
        await self._owned.close()


def _path(batch_id: str, *rest: str) -> str:
    """Path of one batch; whatever the id holds, it is one segment of it."""
    return "/".join([PATH, quote(batch_id, safe=""), *rest])


def _response_type() -> Any:
    import httpx2

    return httpx2.Response


def _streams() -> Any:
    # The SDK wants a class here whenever stream=True; with cast_to=Response it never uses it.
    import anthropic

    return anthropic.Stream[object]
