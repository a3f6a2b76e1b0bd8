"""The ASGI application: the API behind its gate, the admin interface beside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response

from airflow_claude_batch.emulator.api.errors import ApiError
from airflow_claude_batch.emulator.api.gate import Gate
from airflow_claude_batch.emulator.api.routes import Api
from airflow_claude_batch.emulator.control.admin import Admin, admin_error
from airflow_claude_batch.emulator.control.emulation import Emulation
from airflow_claude_batch.emulator.control.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    request_id = getattr(request.state, "request_id", "req_admin")
    return Response(error.body(request_id), error.status, error.headers, "application/json")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _on_api_error(request, ApiError(error.status_code, error.detail))


async def _on_admin_error(request: Request, error: Exception) -> Response:
    return await _on_api_error(request, admin_error(error))


_API_ERRORS = {ApiError: _on_api_error, HTTPException: _on_http_error}
_ADMIN_MISTAKES = (msgspec.ValidationError, ValueError, KeyError, re.error)


def create_app(settings: Settings | None = None, emulation: Emulation | None = None) -> ASGIApp:
    """The emulator as an ASGI application; it needs :func:`connection.protocol` to cut connections.

    Args:
        settings: To start with.
        emulation: What it holds, where that is there already.
    """
    emulation = emulation or Emulation(settings or Settings())
    api = Starlette(routes=Api(emulation.store, emulation.blocks).routes(), exception_handlers=_API_ERRORS)
    gate = Gate(api, emulation.store, emulation.journal, emulation.faults)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        timers = asyncio.create_task(emulation.store.run_timers())
        yield
        timers.cancel()

    admin = Starlette(
        routes=Admin(emulation).routes(),
        exception_handlers={**_API_ERRORS, **dict.fromkeys(_ADMIN_MISTAKES, _on_admin_error)},
        lifespan=lifespan,
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["type"] == "http" and not scope["path"].startswith("/_emulator/")
        await (gate if is_api else admin)(scope, receive, send)

    return app
