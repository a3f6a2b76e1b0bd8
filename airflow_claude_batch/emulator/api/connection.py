"""The client's TCP connection, which ASGI hides: fault rules cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import asyncio

    from starlette.types import Receive, Scope


def protocol() -> type[asyncio.Protocol]:
    """Uvicorn's HTTP protocol (the faster one if httptools is installed), with the transport in the state."""
    base: Any
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as base  # noqa: N813
    except ImportError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as base  # noqa: N813

    class TransportInState(base):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.app_state: dict[str, Any] = {**self.app_state, "transport": transport}

    return cast("type[asyncio.Protocol]", TransportInState)


async def cut(scope: Scope, receive: Receive) -> None:
    """Cut the connection; what was not yet sent is lost."""
    scope["state"]["transport"].abort()
    await until_disconnect(receive)


async def close_after_sending(scope: Scope, receive: Receive) -> None:
    """Send what was written, then close in the middle of the response."""
    scope["state"]["transport"].close()
    await until_disconnect(receive)


async def until_disconnect(receive: Receive) -> None:
    """Return when the client's connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
