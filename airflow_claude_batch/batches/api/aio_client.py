"""The SDK's HTTP client for very many small calls: aiohttp, and nothing around it that they do not need.

The SDK builds each request with its headers, and makes its own exceptions of what is raised here. Between the
two its usual clients merge the headers with their own, look for redirects and cookies, and hand the bodies on
in pieces; that takes as much of the processor as all the rest of a call.
"""

from __future__ import annotations

import functools
import urllib.request
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2

if TYPE_CHECKING:
    import ssl

LARGE_BODY = 1 << 20
"""From here on aiohttp wants a body in pieces, for the event loop's sake."""


class Body(httpx2.AsyncByteStream):
    """A request's JSON. Not bytes, which the SDK would write into the log at DEBUG."""

    def __init__(self, json: bytes) -> None:
        self.json = json

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.json


class AioTransport(httpx2.AsyncBaseTransport):
    """One call over aiohttp, whose answer is read to its end."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make the call."""
        body = request.stream
        timeout = request.extensions["timeout"]
        call = self._connected().request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=body.json if isinstance(body, Body) and len(body.json) < LARGE_BODY else body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                sock_connect=timeout["connect"], sock_read=timeout["read"], connect=timeout["pool"]
            ),
        )
        try:
            async with call as answer:
                content = await answer.read()
        except TimeoutError as error:
            raise httpx2.TimeoutException(str(error)) from error
        return httpx2.Response(answer.status, headers=answer.raw_headers, content=content, request=request)

    async def aclose(self) -> None:
        """Release the connections."""
        if self._session is not None:
            await self._session.close()

    def _connected(self) -> aiohttp.ClientSession:
        """The session, which belongs to the event loop of the first call."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=_certificates()),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._session


class AioClient(httpx2.AsyncClient):
    """What the SDK calls of its HTTP client, for requests with a :class:`Body`. It knows no proxies."""

    def __init__(self) -> None:
        self._direct = AioTransport()
        super().__init__(transport=self._direct)

    def build_request(self, method: str, url: Any, **options: Any) -> httpx2.Request:
        """A request with the headers that the SDK has made."""
        if options.get("params"):
            return super().build_request(method, url, **options)
        timeout = httpx2.Timeout(options["timeout"]).as_dict()
        return httpx2.Request(
            method,
            url,
            headers=options["headers"],
            stream=options["content"],
            extensions={**options.get("extensions", {}), "timeout": timeout},
        )

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Make the call; where something has to sign it, in the usual way."""
        if options.get("auth") is not None:
            return await super().send(request, **options)
        return await self._direct.handle_async_request(request)


def http_client() -> httpx2.AsyncClient:
    """A client for single calls: the SDK's own over aiohttp where the environment names a proxy."""
    if urllib.request.getproxies().keys() - {"no"}:
        import anthropic

        return anthropic.DefaultAioHttpClient()
    return AioClient()


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Those that the SDK trusts; they are read once, since that takes a tenth of a second."""
    return httpx2.create_ssl_context()
