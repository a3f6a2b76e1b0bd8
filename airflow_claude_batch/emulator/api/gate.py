"""The door of the API: every request passes here for its journal entry, key, faults and rate limit."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from airflow_claude_batch.emulator.api.connection import cut, until_disconnect
from airflow_claude_batch.emulator.api.errors import ApiError
from airflow_claude_batch.emulator.api.store import Store, new_id
from airflow_claude_batch.emulator.control.faults import (
    AnswerFault,
    Delay,
    DropAfter,
    DropBefore,
    Faults,
    Hang,
    Status,
    StatusAfter,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_claude_batch.emulator.control.journal import Entry, Journal

_BATCHES = "/v1/messages/batches"
_DRAINED_BEYOND_LIMIT = 4
_MINUTE = 60.0


class ClientGoneError(Exception):
    """The client closed the connection before it had sent its whole request."""


class Gate:
    """ASGI middleware around the API's routes."""

    def __init__(self, app: ASGIApp, store: Store, journal: Journal, faults: Faults) -> None:
        self._app = app
        self._store = store
        self._journal = journal
        self._faults = faults
        self._calls: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(Headers(scope=scope))
        query = scope["query_string"].decode("latin-1")
        entry = self._journal.open(scope["method"], scope["path"], query, key)
        visit = _Visit(self._app, scope, receive, send, entry)
        scope["state"].update(entry=entry, request_id=visit.request_id)
        try:
            scope["state"]["body"] = await visit.read_body(self._store.settings.max_body_bytes)
            self._check_key(key)
            answer, scope["state"]["results_faults"] = self._faults.pick(entry.method, entry.path, key)
            if answer is None:
                self._check_rate(entry.path)
                await visit.process()
            else:
                await _go_wrong(visit, answer, self._store)
        except ApiError as error:
            await visit.answer(error)
        except ClientGoneError:
            pass
        finally:
            self._journal.close(entry, visit.status or "dropped")

    def _check_key(self, key: str) -> None:
        wanted = self._store.settings.api_key
        if not key or (wanted is not None and key != wanted):
            raise ApiError(401, "invalid x-api-key" if key else "x-api-key header is required")

    def _check_rate(self, path: str) -> None:
        limit = self._store.settings.requests_per_minute
        if limit is None or not path.startswith(_BATCHES):
            return
        now = time.monotonic()
        while self._calls and self._calls[0] <= now - _MINUTE:
            self._calls.popleft()
        if len(self._calls) >= limit:
            wait = math.ceil(self._calls[0] + _MINUTE - now) if self._calls else int(_MINUTE)
            raise ApiError(
                429,
                f"This request would exceed your organization's rate limit of {limit} requests per minute.",
                headers={"retry-after": str(max(1, wait))},
            )
        self._calls.append(now)


class _Visit:
    """One request on its way through the gate."""

    def __init__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, entry: Entry) -> None:
        self._app = app
        self.scope = scope
        self.receive = receive
        self._send = send
        self.entry = entry
        self.request_id = new_id("req_")
        self.status: int | None = None
        self._discard = False

    async def read_body(self, limit: int) -> bytearray:
        """The whole body; a bigger one is read on and thrown away, so that the client sees the 413."""
        body = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            self.entry.bytes += len(message["body"])
            if self.entry.bytes <= limit:
                body += message["body"]
            elif self.entry.bytes > limit * _DRAINED_BEYOND_LIMIT:
                break
            if not message.get("more_body"):
                break
        if self.entry.bytes > limit:
            raise ApiError(413, "Request exceeds the maximum allowed number of bytes.")
        return body

    async def process(self, *, discard: bool = False) -> None:
        """Run the API; with ``discard`` the client does not get the answer."""
        self._discard = discard
        await self._app(self.scope, self.receive, self._forward)

    async def _forward(self, message: Message) -> None:
        if self._discard:
            return
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("request-id", self.request_id)
            self.status = message["status"]
        await self._send(message)

    async def answer(self, error: ApiError, body: str | None = None) -> None:
        """Send an error answer."""
        self._discard = False
        content: bytes | str = error.body(self.request_id) if body is None else body
        media_type = "application/json" if body is None else "text/html"
        response = Response(content, error.status, error.headers, media_type)
        await response(self.scope, self.receive, self._forward)

    async def cut(self) -> None:
        await cut(self.scope, self.receive)


async def _go_wrong(visit: _Visit, fault: AnswerFault, store: Store) -> None:
    if isinstance(fault, DropBefore):
        await visit.cut()
    elif isinstance(fault, DropAfter):
        await visit.process(discard=True)
        await visit.cut()
    elif isinstance(fault, Hang):
        if fault.when == "after":
            await visit.process(discard=True)
        await _hold(visit, fault.seconds)
    elif isinstance(fault, Delay):
        await _be_late(visit, fault, store)
    else:
        if isinstance(fault, StatusAfter):
            await visit.process(discard=True)
        await visit.answer(_error(fault), fault.body)


async def _hold(visit: _Visit, seconds: float) -> None:
    try:
        await asyncio.wait_for(until_disconnect(visit.receive), seconds)
    except TimeoutError:
        await visit.cut()


async def _be_late(visit: _Visit, fault: Delay, store: Store) -> None:
    if fault.when == "before":
        resets = store.resets
        await asyncio.sleep(fault.seconds)
        await (visit.process() if store.resets == resets else visit.cut())
        return
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await visit._app(visit.scope, visit.receive, keep)
    await asyncio.sleep(fault.seconds)
    for message in messages:
        await visit._forward(message)


def _error(fault: Status | StatusAfter) -> ApiError:
    details: dict[str, Any] | None = fault.details
    return ApiError(fault.status, fault.message, type=fault.type, details=details, headers=fault.headers)


def _key(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return headers.get("x-api-key") or (token.strip() if scheme.lower() == "bearer" else "")
