"""Validation of a create: shape, ids, limits. One violation rejects it whole; params are checked later."""

from __future__ import annotations

import re

import msgspec

from airflow_claude_batch.emulator.api.errors import ApiError

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_OPEN_BRACE = ord("{")
_JSON_TYPES = {"str": "string", "array": "list", "object": "dictionary"}


class Request(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """One request of a batch, its params still as the bytes that were sent."""

    custom_id: str
    params: msgspec.Raw


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/messages/batches``."""

    requests: list[Request]


_decode = msgspec.json.Decoder(Body).decode


def parse_create(body: bytes | bytearray, max_requests: int) -> list[Request]:
    """The requests of a create; raises the API's 400 that names the first violation."""
    try:
        requests = _decode(body).requests
    except msgspec.ValidationError as error:
        raise ApiError(400, _in_the_words_of_the_api(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from None
    _check_count(len(requests), max_requests)
    _check_requests(requests)
    return requests


def _check_count(count: int, max_requests: int) -> None:
    if count == 0:
        raise ApiError(400, "requests: List should have at least 1 item after validation, not 0")
    if count > max_requests:
        raise ApiError(
            400, f"requests: List should have at most {max_requests} items after validation, not {count}"
        )


def _check_requests(requests: list[Request]) -> None:
    seen: set[str] = set()
    for index, request in enumerate(requests):
        custom_id = request.custom_id
        if CUSTOM_ID.fullmatch(custom_id) is None:
            raise ApiError(400, f"requests.{index}.custom_id: {_why_illegal(custom_id)}")
        if custom_id in seen:
            raise ApiError(
                400, f"requests.{index}.custom_id: custom_id must be unique, duplicate: {custom_id}"
            )
        seen.add(custom_id)
        if memoryview(request.params)[0] != _OPEN_BRACE:
            raise ApiError(400, f"requests.{index}.params: Input should be a valid dictionary")


def _why_illegal(custom_id: str) -> str:
    if not custom_id:
        return "String should have at least 1 character"
    if len(custom_id) > 64:
        return "String should have at most 64 characters"
    return "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"


def _in_the_words_of_the_api(error: str) -> str:
    """What msgspec says about ``$.requests[3].custom_id``, as ``requests.3.custom_id: Input should …``."""
    what, _, where = error.partition(" - at `$")
    path = re.sub(r"\[(\d+)\]", r".\1", where.rstrip("`")).strip(".")
    if missing := re.search(r"missing required field `(\w+)`", what):
        return f"{f'{path}.' if path else ''}{missing[1]}: Field required"
    if unknown := re.search(r"unknown field `(.+)`", what):
        return f"{f'{path}.' if path else ''}{unknown[1]}: Extra inputs are not permitted"
    if wrong := re.search(r"Expected `(\w+)`", what):
        return f"{path or 'body'}: Input should be a valid {_JSON_TYPES.get(wrong[1], wrong[1])}"
    return f"{path or 'body'}: {what}"
