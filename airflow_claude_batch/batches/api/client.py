"""The Message Batches API as the engine uses it: few calls, raw bodies, no retries of the SDK's.

The SDK's client does authentication, base URL and errors. Its ``batches.create`` is not used: it
needs all requests in memory and posts again by itself when an answer is lost. Answers are decoded
partially with msgspec, so an unknown status or a new field is no error.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from airflow_claude_batch.batches.api.result_lines import Usage
from airflow_claude_batch.batches.api.retry import retrying

if TYPE_CHECKING:
    import anthropic
    from tenacity import Retrying

PATH = "/v1/messages/batches"
COUNT_PATH = "/v1/messages/count_tokens"
PAGE = 1000
"""Batches on one page of the list (the API's maximum)."""
ANSWER_SECONDS = 600.0
"""How long a create may stay without an answer once its body is sent."""
KNOCK_SECONDS = 10.0
"""How long the first question of a submission may stay without an answer."""
LOOK_SECONDS = 30.0
"""How long a question that is not essential, or a cancellation, may stay without an answer."""
POLL_SECONDS = 60.0
"""How long a look at a batch may stay without an answer."""
KNOWN_RETRIES, KNOWN_SHORTEST_SECONDS = 5, 1.0
"""How a batch that certainly exists is looked up: for half a minute in all."""


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


BATCH_LIFETIME = datetime.timedelta(hours=24)
"""The API ends a batch after so long (source: the API's documentation)."""
RESULTS_KEPT = datetime.timedelta(days=29)
"""How long the API keeps results, from the creation of the batch (source: the API's documentation)."""


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


class ServerClock:
    """The API's time, from the ``Date`` of its answers. Clocks of machines differ; it has but one."""

    def __init__(self) -> None:
        self._told: tuple[datetime.datetime, float] | None = None

    def note(self, response: Any) -> None:
        """Take the time of an answer that has just come."""
        with contextlib.suppress(TypeError, ValueError):
            date = email.utils.parsedate_to_datetime(response.headers.get("date"))
            self._told = date.astimezone(datetime.UTC), time.monotonic()

    def now(self) -> datetime.datetime:
        """The API's time; this machine's before the first answer."""
        if self._told is None:
            return datetime.datetime.now(datetime.UTC)
        date, at = self._told
        return date + datetime.timedelta(seconds=time.monotonic() - at)


class Body:
    """A request's JSON. Not bytes, which the SDK would write into the log at DEBUG."""

    def __init__(self, json: bytes) -> None:
        self._json = json

    def __len__(self) -> int:
        return len(self._json)

    def __iter__(self) -> Iterator[bytes]:
        yield self._json


class SingleAnswer(msgspec.Struct):
    """What an answer to a single request took."""

    model: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)


_decode_single = msgspec.json.Decoder(SingleAnswer).decode


class BatchesApi:
    """Synchronous calls. Every method raises the SDK's own exceptions.

    Args:
        client: An ``anthropic`` client of a platform that has message batches.
        conn_id: Name of the Airflow connection, for messages.
    """

    def __init__(self, client: anthropic.Anthropic, conn_id: str = "") -> None:
        self._client = client.with_options(max_retries=0)
        self._retries = client.max_retries
        self._clock = ServerClock()
        self.conn_id = conn_id

    def now(self) -> datetime.datetime:
        """The API's time, as its last answer told; this machine's where none has."""
        return self._clock.now()

    def create(self, body: Iterable[bytes], length: int, betas: list[str]) -> Batch:
        """POST a batch once, streaming the body.

        Args:
            body: The JSON of the request body, in blocks.
            length: Its length in bytes. Sent as Content-Length: some gateways refuse chunked bodies.
            betas: Beta features of the whole batch.
        """
        response = self._client.post(
            PATH,
            content=iter(body),
            cast_to=response_type(),
            # A POST that is redirected arrives as a GET: the list of batches would answer.
            options={
                "headers": headers_of(length, betas),
                "timeout": ANSWER_SECONDS,
                "follow_redirects": False,
            },
        )
        self._clock.note(response)
        return decode_batch(response.content)

    @property
    def address(self) -> str:
        """Where the API is, without what a URL may hold of secrets."""
        url = self._client.base_url
        return f"{url.scheme}://{url.netloc.decode().rpartition('@')[2]}{url.path}".rstrip("/")

    def knock(self) -> tuple[str, bytes]:
        """A list of one batch, asked for once: the media type of the answer, and the answer."""
        response = self._client.get(
            PATH,
            cast_to=response_type(),
            options={"params": {"limit": 1}, "timeout": KNOCK_SECONDS, "follow_redirects": False},
        )
        self._clock.note(response)
        return response.headers.get("content-type", "no media type"), response.content

    def retrieve(self, batch_id: str) -> Batch:
        """Look a batch up."""
        return decode_batch(self._ask(self._client.get, _path(batch_id), options={"timeout": POLL_SECONDS}))

    def retrieve_known(self, batch_id: str) -> Batch:
        """Look up a batch that certainly exists, though a passing trouble, or a 404, hides it for a while.

        Raises:
            anthropic.APIError: When the trouble has lasted for half a minute.
        """
        retry = retrying(KNOWN_RETRIES, known=True, shortest=KNOWN_SHORTEST_SECONDS)
        options = {"timeout": POLL_SECONDS}
        return decode_batch(self._retrying(retry, self._client.get, _path(batch_id), options=options))

    def cancel(self, batch_id: str) -> Batch:
        """Ask for a batch to be cancelled; what is in flight may still finish (see `api.cancel`)."""
        path, options = _path(batch_id, "cancel"), {"timeout": LOOK_SECONDS}
        return decode_batch(self._ask(self._client.post, path, known=True, options=options))

    def model(self, name: str) -> bytes:
        """What the API says about a model, as JSON."""
        path = f"/v1/models/{quote(name, safe='')}"
        return self._ask(self._client.get, path, options={"timeout": LOOK_SECONDS})

    def models(self) -> bytes:
        """The models that the key may use, as JSON (``data`` holds them)."""
        options = {"params": {"limit": PAGE}, "timeout": LOOK_SECONDS}
        return self._ask(self._client.get, "/v1/models", options=options)

    def send_one(self, params: dict[str, Any], betas: list[str]) -> SingleAnswer:
        """Send one request by itself, at the full price. What it answers is not kept, only what it took."""
        body = Body(msgspec.json.encode(params))
        options = {"headers": headers_of(len(body), betas), "timeout": ANSWER_SECONDS}
        content = self._ask(self._client.post, "/v1/messages", content=body, options=options)
        try:
            return _decode_single(content)
        except (msgspec.DecodeError, msgspec.ValidationError):  # of a gateway; it has taken the request
            return SingleAnswer()

    def newest(self) -> Batch | None:
        """The workspace's newest batch; None where there is none."""
        data = decode_page(self._ask(self._client.get, PATH, options={"params": {"limit": 1}})).data
        return data[0] if data else None

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

        Args:
            params: The body of a Messages API call, as JSON.
        """
        known = {key: value for key, value in msgspec.json.decode(params).items() if key in _COUNTED}
        body = Body(msgspec.json.encode(known))
        answer = self._ask(
            self._client.post, COUNT_PATH, content=body, options={"headers": headers_of(len(body))}
        )
        return int(msgspec.json.decode(answer)["input_tokens"])

    @contextlib.contextmanager
    def results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        """Blocks of the results file, as they come off the network.

        Fetched from the client's own base URL: the URL that the batch object names could be on any
        host, and the key would go there.
        """
        response = self._client.get(
            _path(batch_id, "results"),
            cast_to=response_type(),
            options={"headers": {"Accept": "application/binary"}},
            stream=True,
            stream_cls=_streams(),
        )
        with contextlib.closing(response):
            yield response.iter_bytes()

    def _ask(self, call: Callable[..., Any], path: str, *, known: bool = False, **arguments: Any) -> bytes:
        """Body of the answer to a call of the client; made again where its failure may pass."""
        return self._retrying(retrying(self._retries, known=known), call, path, **arguments)

    def _retrying(self, retry: Retrying, call: Callable[..., Any], path: str, **arguments: Any) -> bytes:
        response = retry(partial(call, path, cast_to=response_type(), **arguments))
        self._clock.note(response)
        content: bytes = response.content
        return content


class AsyncBatchesApi:
    """The calls that waiting needs, for an event loop. Every method raises the SDK's own exceptions.

    Args:
        client: An asynchronous ``anthropic`` client; closed with this object.
    """

    def __init__(self, client: anthropic.AsyncAnthropic) -> None:
        # One try a call: the poller decides when the next one comes, and the SDK would sleep for
        # any retry-after, however long.
        self._client = client.with_options(max_retries=0, timeout=POLL_SECONDS)
        self._owned = client

    async def retrieve(self, batch_id: str) -> Batch:
        """Look a batch up."""
        response = await self._client.get(_path(batch_id), cast_to=response_type())
        return decode_batch(response.content)

    async def page(self, after_id: str | None = None, limit: int = PAGE) -> Page:
        """Batches of the workspace, newest first.

        Args:
            after_id: Start after this batch.
            limit: Batches on the page.
        """
        params: dict[str, object] = {"limit": limit}
        if after_id is not None:
            params["after_id"] = after_id
        response = await self._client.get(PATH, cast_to=response_type(), options={"params": params})
        return decode_page(response.content)

    async def cancel(self, batch_id: str) -> Batch:
        """Ask for a batch to be cancelled."""
        response = await self._client.post(_path(batch_id, "cancel"), cast_to=response_type())
        return decode_batch(response.content)

    async def close(self) -> None:
        """Release the connections."""
        await self._owned.close()


def _path(batch_id: str, *rest: str) -> str:
    """Path of one batch; whatever the id holds, it is one segment of it."""
    return "/".join([PATH, quote(batch_id, safe=""), *rest])


def headers_of(length: int, betas: Sequence[str] = ()) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Content-Length": str(length)}
    return {**headers, "anthropic-beta": ",".join(betas)} if betas else headers


def response_type() -> Any:
    import httpx2

    return httpx2.Response


def _streams() -> Any:
    # The SDK wants a class here whenever stream=True; with cast_to=Response it never uses it.
    import anthropic

    return anthropic.Stream[object]
