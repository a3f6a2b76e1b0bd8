"""Records that are like one before: the same requests, and the same faults, as if looked at in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.plain_records import MOST_BYTES, MOST_MISSES, MOST_SHAPES
from airflow_claude_batch.batches.reuse.fingerprint import Fingerprints
from airflow_claude_batch.batches.storage import Folder

DEFAULTS = {"max_tokens": 10, "system": "Sort."}

TEXTS = ["Hello", "", " ", "é\ud800", 'a"b\n', 7, None]
PARAMETERS: list[tuple[str, Any]] = [
    *(("model", value) for value in ("claude-sonnet-4-5", "", None)),
    *(("max_tokens", value) for value in (1, 1.0, True, 0)),
    *(("temperature", value) for value in (1, 1.0, float("nan"), None)),
    *(("system", value) for value in (b"U29ydC4=", "VTI5eWRDND0=", [{"type": "text", "text": "Sort."}])),
    *(("output_config", {"effort": word}) for word in ("low", "none such")),
    ("stream", True),
]
COLUMNS: list[tuple[Any, Any]] = [
    *(("plan", value) for value in ("team", 7, None, float("nan"), b"x", {"a": [1]})),
    *(("documents", value) for value in (None, "note.txt")),
    *(("custom_id", value) for value in ("not legal", "", 7, None)),
    (7, 7),
]
MESSAGES: list[Any] = [
    *([], None, "Hello", ({"role": "user", "content": "Hello"},)),
    [{"content": "Hello", "role": "user"}],
    [{"role": "assistant", "content": "Hello"}],
    [{"role": "user", "content": "Hello", "cache_control": {"type": "ephemeral"}}],
    [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
    [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "So"}],
]


def records() -> Iterator[dict[Any, Any]]:
    """Records as most are, and each with one thing that is different."""
    short = {"custom_id": "r-1", "prompt": "Hello", "model": "m"}
    params = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    full = {"custom_id": "r-1", "params": params}
    for text in TEXTS:
        yield {**short, "prompt": text}
        yield {**full, "params": {**params, "messages": [{"role": "user", "content": text}]}}
    for key, value in [*PARAMETERS, *COLUMNS]:
        yield {**short, key: value}
    for key, value in PARAMETERS:
        yield {**full, "params": {**params, key: value}}
        yield {**full, "params": {key: value, **params}}
    yield {**full, "params": dict(reversed(params.items()))}
    for messages in MESSAGES:
        yield {**short, "messages": messages}
        yield {**full, "params": {**params, "messages": messages}}
        yield {"messages": messages, **short}
    for key, value in [*COLUMNS, ("prompt", "Hello"), ("model", "m"), ("params", None), ("params", "text")]:
        yield {**full, key: value}
        yield {"params": params, key: value}


def recipe(key: str | None, documents: bool) -> Recipe:
    reader = DocumentReader(locate=Folder.at, access=DocumentAccess([])) if documents else None
    return Recipe(custom_id=key, documents=reader)


def made_by(build: RequestBuilder, record: Any, index: int) -> Any:
    try:
        request = build(record, index)
    except InputError as error:
        return [str(fault) for fault in error.faults]
    fingerprint = Fingerprints(["beta"], "v1")(request.line, None)
    assert Fingerprints(["beta"], "v1").of(request) == fingerprint
    return request.custom_id, request.line, request.columns, request.params


@pytest.mark.parametrize("key", [None, "plan", "custom_id"])
@pytest.mark.parametrize("documents", [True, False])
def test_each_record_becomes_what_it_would_if_looked_at_in_full(key: str | None, documents: bool) -> None:
    build, in_full = (RequestBuilder(recipe(key, documents), DEFAULTS) for _ in range(2))
    in_full._plain = None
    some = list(records())
    for index, record in enumerate([*some, *reversed(some)]):  # each after all that it might be taken for
        assert made_by(build, record, index) == made_by(in_full, record, index), record


def plain(number: int, **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"Text {number}"}
    return {"custom_id": f"r-{number}", "params": {"model": "m", **more, "messages": [message]}}


def test_records_like_one_before_share_their_parameters() -> None:
    build = RequestBuilder(Recipe(), DEFAULTS)
    first, second, third = (build(plain(number), number) for number in range(3))
    assert first.shared is None
    assert second.shared is not None
    assert second.shared is third.shared


def test_what_a_record_held_may_change_afterwards() -> None:
    build, tool = RequestBuilder(Recipe(), DEFAULTS), {"name": "count", "input_schema": {"type": "object"}}
    build(plain(0, tools=[tool]), 0)
    tool["name"] = "weigh"
    assert b"weigh" in build(plain(1, tools=[tool]), 1).line
    request = build(plain(2, tools=[{**tool, "name": "count"}]), 2)
    assert b"count" in request.line
    assert request.params is not None
    assert request.params["tools"][0]["name"] == "count"


def test_what_was_found_right_is_looked_at_again_when_it_has_changed() -> None:
    build = RequestBuilder(Recipe(), DEFAULTS)
    config, tool = {"effort": "low"}, {"name": "t", "strict": True, "input_schema": {"type": "object"}}
    tool["input_schema"] = {"type": "object", "properties": {}, "additionalProperties": False}
    build(plain(0, output_config=config, tools=[tool]), 0)
    config["effort"] = "turbo"
    with pytest.raises(InputError, match="effort"):
        build(plain(1, output_config=config, tools=[tool]), 1)
    config["effort"] = "low"
    tool["input_schema"]["oneOf"] = []
    with pytest.raises(InputError, match="oneOf"):
        build(plain(2, output_config=config, tools=[tool]), 2)


def test_parameters_that_always_differ_are_not_remembered_for_ever() -> None:
    build = RequestBuilder(Recipe(), DEFAULTS)
    for number in range(2 * MOST_SHAPES):
        build(plain(number, system=f"Number {number}"), number)
    assert build._plain is not None
    assert len(build._plain._shapes) == MOST_SHAPES
    assert build(plain(0, system="Number 0"), 0).shared is not None
    for number in range(MOST_MISSES):
        build(plain(number, system=f"Another {number}"), number)
    assert build(plain(0, system="Number 0"), 0).shared is None


def test_long_parameters_are_not_remembered() -> None:
    build = RequestBuilder(Recipe(), DEFAULTS)
    for number in range(2):
        assert build(plain(number, system="x" * MOST_BYTES), number).shared is None
