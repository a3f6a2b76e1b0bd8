"""The API's endpoints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from airflow_claude_batch.emulator.answers.message import message, seed_of
from airflow_claude_batch.emulator.answers.usage import NO_CACHE, input_tokens
from airflow_claude_batch.emulator.api.create import parse_create
from airflow_claude_batch.emulator.api.errors import ApiError
from airflow_claude_batch.emulator.api.models import CATALOGUE, find_model
from airflow_claude_batch.emulator.api.params import Headers, check_for_count, check_params
from airflow_claude_batch.emulator.api.results import BlockCache, ResultsResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from airflow_claude_batch.emulator.api.batch import Batch
    from airflow_claude_batch.emulator.api.store import Store
    from airflow_claude_batch.emulator.control.settings import Settings

_PARSED_INLINE = 200_000
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 1000
_T = TypeVar("_T")


class Api:
    """Handlers over one store."""

    def __init__(self, store: Store, blocks: BlockCache) -> None:
        self._store = store
        self._blocks = blocks

    def routes(self) -> list[Route]:
        one = "/v1/messages/batches/{batch_id}"
        return [
            Route("/v1/messages/batches", self.create, methods=["POST"]),
            Route("/v1/messages/batches", self.list, methods=["GET"]),
            Route(one, self.retrieve, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
            Route(f"{one}/results", self.results, methods=["GET"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model_id}", self.model, methods=["GET"]),
            Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/v1/messages", self.message, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        body: bytearray = request.state.body
        _check_spend(self._store.settings)
        limit = self._store.settings.max_requests
        if len(body) > _PARSED_INLINE:
            requests = await asyncio.to_thread(parse_create, body, limit)
        else:
            requests = parse_create(body, limit)
        _check_queue(self._store, len(requests))
        batch = self._store.create(requests, _headers(request), len(body))
        request.state.entry.batch_id = batch.id
        request.state.entry.requests = len(requests)
        return self._shown(batch, request)

    async def list(self, request: Request) -> Response:
        limit, after_id, before_id = _paging(request)
        batches, has_more = self._store.page(limit, after_id, before_id)
        base = self._base_url(request)
        ids = [batch.id for batch in batches]
        ends = {
            "has_more": has_more,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }
        data = b",".join([batch.shown(base) for batch in batches])
        return _json(b'{"data":[' + data + b"]," + msgspec.json.encode(ends)[1:])

    async def retrieve(self, request: Request) -> Response:
        return self._shown(self._look_up(request), request)

    async def cancel(self, request: Request) -> Response:
        batch = self._look_up(request)
        self._store.cancel(batch)
        return self._shown(batch, request)

    async def delete(self, request: Request) -> Response:
        batch = self._look_up(request)
        self._store.delete(batch)
        return _json(msgspec.json.encode({"id": batch.id, "type": "message_batch_deleted"}))

    async def results(self, request: Request) -> Any:
        batch = self._look_up(request)
        if batch.ended_at is None:
            raise ApiError(400, f"Message Batch {batch.id} has no results yet: it is {batch.status}.")
        if batch.archived_at is not None:
            raise ApiError(404, f"Message Batch {batch.id} is archived; its results are no longer available.")
        return await asyncio.to_thread(ResultsResponse, batch, self._blocks, request.state.results_faults)

    async def models(self, request: Request) -> Response:
        limit, after_id, before_id = _paging(request)
        query = request.query_params
        wanted = query.getlist("lifecycle[]") or query.getlist("lifecycle") or ["active", "deprecated"]
        infos = [model.info() for model in CATALOGUE if model.lifecycle in wanted]
        ids = [info["id"] for info in infos]
        if before_id is not None:
            end = _index(ids, "before_id", before_id)
            start, more = max(0, end - limit), end > limit
        else:
            start = 0 if after_id is None else _index(ids, "after_id", after_id) + 1
            end = start + limit
            more = end < len(ids)
        page = infos[start:end]
        first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
        return _json(
            msgspec.json.encode({"data": page, "has_more": more, "first_id": first, "last_id": last})
        )

    async def model(self, request: Request) -> Response:
        return _json(msgspec.json.encode(find_model(request.path_params["model_id"]).info()))

    async def count_tokens(self, request: Request) -> Response:
        params = _decode(request)
        check_for_count(params)
        return _json(msgspec.json.encode({"input_tokens": input_tokens(params)}))

    async def message(self, request: Request) -> Response:
        _check_spend(self._store.settings)
        params = _decode(request)
        model = check_params(params, _headers(request), batch=False)
        store, settings = self._store, self._store.settings
        store.rate_limits.take(settings, input_tokens(params))
        seed = seed_of("", request.state.body)
        reply = message("", params, model, seed, settings, NO_CACHE, service_tier="standard")
        # Those of now: a reset meanwhile forgets this call with the others.
        answers, limits = store.direct, store.rate_limits
        with answers.one_under_way():
            await asyncio.sleep(settings.message_seconds)
        answers.add(params)
        limits.take_output(settings, reply["usage"]["output_tokens"])
        return Response(
            msgspec.json.encode(reply),
            headers=limits.headers(settings),
            media_type="application/json",
        )

    def _look_up(self, request: Request) -> Batch:
        batch_id = request.path_params["batch_id"]
        request.state.entry.batch_id = batch_id
        return self._store.look_up(batch_id)

    def _shown(self, batch: Batch, request: Request) -> Response:
        return _json(batch.shown(self._base_url(request)))

    def _base_url(self, request: Request) -> str:
        return self._store.settings.results_url_base or f"{request.url.scheme}://{request.headers['host']}"


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _decode(request: Request) -> Any:
    try:
        return msgspec.json.decode(request.state.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from None


def _headers(request: Request) -> Headers:
    betas = {beta.strip() for value in request.headers.getlist("anthropic-beta") for beta in value.split(",")}
    return Headers(request.headers.get("anthropic-version", "2023-06-01"), frozenset(betas - {""}))


def _paging(request: Request) -> tuple[int, str | None, str | None]:
    query = request.query_params
    after_id, before_id = query.get("after_id"), query.get("before_id")
    if after_id is not None and before_id is not None:
        raise ApiError(400, "after_id, before_id: only one of them may be given")
    try:
        limit = int(query.get("limit", _DEFAULT_LIMIT))
    except ValueError:
        raise ApiError(400, "limit: Input should be a valid integer") from None
    if not 1 <= limit <= _MAX_LIMIT:
        bound = "greater than or equal to 1" if limit < 1 else f"less than or equal to {_MAX_LIMIT}"
        raise ApiError(400, f"limit: Input should be {bound}")
    return limit, after_id, before_id


def _index(values: list[_T], name: str, value: _T) -> int:
    try:
        return values.index(value)
    except ValueError:
        raise ApiError(400, f"{name}: unknown id {value}") from None


def _check_spend(settings: Settings) -> None:
    if settings.spend_limit is not None:
        code = f"{settings.spend_limit}_spend_limit_reached"
        raise ApiError(
            429, "You have reached your API usage limits for this month.", details={"error_code": code}
        )


def _check_queue(store: Store, requests: int) -> None:
    limit = store.settings.queue_limit
    if limit is not None and store.in_processing + requests > limit:
        raise ApiError(
            429,
            f"This batch of {requests} requests would exceed your organization's limit of {limit} requests"
            f" in the batch processing queue ({store.in_processing} are in it). Please try again later.",
            headers={"retry-after": str(store.settings.retry_after)},
        )
