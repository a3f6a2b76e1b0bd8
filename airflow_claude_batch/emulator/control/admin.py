"""The admin interface under ``/_emulator``: what tests use to look inside and to drive the emulator."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from airflow_claude_batch.emulator.api.errors import ApiError
from airflow_claude_batch.emulator.api.store import batch_summary
from airflow_claude_batch.emulator.control.faults import Rule
from airflow_claude_batch.emulator.control.settings import merged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from airflow_claude_batch.emulator.control.emulation import Emulation

_IDS_IN_A_PIECE = 5_000
_MAX_WAIT_SECONDS = 300.0


class Admin:
    """Handlers over one emulation."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", "/state", self.state),
            ("POST", "/reset", self.reset),
            ("GET", "/settings", self.settings),
            ("PATCH", "/settings", self.change_settings),
            ("POST", "/clock/advance", self.advance),
            ("GET", "/faults", self.faults),
            ("POST", "/faults", self.add_faults),
            ("DELETE", "/faults", self.clear_faults),
            ("DELETE", "/faults/{number:int}", self.clear_faults),
            ("GET", "/batches", self.batches),
            ("POST", "/batches/{batch_id}/end", self.end),
            ("POST", "/batches/{batch_id}/expire", self.expire),
            ("POST", "/batches/{batch_id}/archive", self.archive),
            ("POST", "/batches/{batch_id}/delete", self.delete),
            ("POST", "/batches/{batch_id}/hide", self.hide),
            ("GET", "/batches/{batch_id}/custom_ids", self.custom_ids),
            ("GET", "/journal", self.journal),
            ("GET", "/journal/wait", self.wait),
            ("GET", "/ledger", self.ledger),
        ]
        return [Route(f"/_emulator{path}", handler, methods=[method]) for method, path, handler in table]

    async def state(self, request: Request) -> Response:
        emulation = self._emulation
        store = emulation.store
        return _json(
            {
                "now": store.clock.now(),
                "advanced_seconds": store.clock.advanced_seconds,
                "batches": Counter("deleted" if b.deleted else b.status for b in store.all()),
                "requests_in_processing": store.in_processing,
                "received": emulation.journal.received,
                "counters": emulation.journal.counters,
                "faults": len(emulation.faults.describe()),
            }
        )

    async def reset(self, request: Request) -> Response:
        await self._emulation.reset()
        return _json({})

    async def settings(self, request: Request) -> Response:
        return _json(self._emulation.store.settings)

    async def change_settings(self, request: Request) -> Response:
        store = self._emulation.store
        store.settings = merged(store.settings, await _body(request, dict[str, Any]))
        return _json(store.settings)

    async def advance(self, request: Request) -> Response:
        store = self._emulation.store
        store.clock.advance((await _body(request, dict[str, float]))["seconds"])
        await store.settle()
        return _json({"now": store.clock.now()})

    async def faults(self, request: Request) -> Response:
        return _json(self._emulation.faults.describe())

    async def add_faults(self, request: Request) -> Response:
        rules = await _body(request, Rule | list[Rule])
        add = self._emulation.faults.add
        return _json({"numbers": [add(rule) for rule in (rules if isinstance(rules, list) else [rules])]})

    async def clear_faults(self, request: Request) -> Response:
        self._emulation.faults.remove(request.path_params.get("number"))
        return _json({})

    async def batches(self, request: Request) -> Response:
        return _json([batch_summary(batch) for batch in self._emulation.store.all()])

    async def end(self, request: Request) -> Response:
        batch = self._emulation.store.find(request.path_params["batch_id"])
        await self._emulation.store.end_now(batch)
        return _json(batch_summary(batch))

    async def expire(self, request: Request) -> Response:
        batch = self._emulation.store.find(request.path_params["batch_id"])
        share = (await _body(request, dict[str, float])).get("finished_share", 0.0)
        await self._emulation.store.end_now(batch, expire=True, finished_share=share)
        return _json(batch_summary(batch))

    async def archive(self, request: Request) -> Response:
        store = self._emulation.store
        batch = store.find(request.path_params["batch_id"])
        await store.end_now(batch)
        store.archive(batch, store.clock.now())
        return _json(batch_summary(batch))

    async def delete(self, request: Request) -> Response:
        store = self._emulation.store
        batch = store.find(request.path_params["batch_id"])
        await store.end_now(batch)
        store.delete(batch)
        return _json(batch_summary(batch))

    async def hide(self, request: Request) -> Response:
        store = self._emulation.store
        batch = store.find(request.path_params["batch_id"])
        wanted = await _body(request, dict[str, float])
        batch.hidden_lookups = int(wanted.get("lookups", 0))
        batch.hidden_until = store.clock.now() + wanted.get("seconds", 0.0)
        return _json({})

    async def custom_ids(self, request: Request) -> Response:
        batch_id = request.path_params["batch_id"]
        for batch in self._emulation.store.all():
            if batch.id == batch_id:
                ids = batch.custom_ids
                starts = range(0, len(ids), _IDS_IN_A_PIECE)
                pieces = ("".join(f"{i}\n" for i in ids[start : start + _IDS_IN_A_PIECE]) for start in starts)
                return StreamingResponse(pieces, media_type="text/plain")
        raise ApiError(404, f"no batch {batch_id}")

    async def journal(self, request: Request) -> Response:
        query = request.query_params
        since = int(query.get("since", 0))
        return _json(self._emulation.journal.since(since, query.get("method"), query.get("path")))

    async def wait(self, request: Request) -> Response:
        query = request.query_params
        found = await self._emulation.journal.wait(
            count := int(query.get("count", 1)),
            min(float(query.get("timeout", 30)), _MAX_WAIT_SECONDS),
            int(query.get("since", 0)),
            query.get("method"),
            query.get("path"),
            query.get("waiting") == "true",
        )
        if len(found) < count:
            raise ApiError(504, f"{len(found)} of {count} matching requests arrived in time")
        return _json(found)

    async def ledger(self, request: Request) -> Response:
        return _json(await asyncio.to_thread(self._emulation.store.ledger))


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _body(request: Request, type: Any) -> Any:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=type)
    except msgspec.DecodeError as error:
        raise ApiError(400, str(error)) from None


def admin_error(error: Exception) -> ApiError:
    """What a wrong admin call is told: which value, and why."""
    if isinstance(error, KeyError):
        return ApiError(400, f"missing: {error}")
    if isinstance(error, re.error):
        return ApiError(400, f"not a regular expression: {error}")
    return ApiError(400, str(error))
