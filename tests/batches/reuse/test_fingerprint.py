"""What is the same request, and what is another."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.reuse.fingerprint import Fingerprints, as_text, from_text

BASE: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "system": "You count.",
    "messages": [{"role": "user", "content": "Hi"}],
    "tools": [{"name": "t", "input_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}],
}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def with_tool(**changes: Any) -> dict[str, Any]:
    return {**BASE, "tools": [{**BASE["tools"][0], **changes}]}


def with_content(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {**BASE, "messages": [{"role": "user", "content": list(blocks)}]}


def fingerprint(params: dict[str, Any], *betas: str, version: str | None = None) -> bytes:
    line = msgspec.json.encode({"custom_id": "a", "params": params})
    taken = Fingerprints(betas, version)(line, params)
    assert taken == Fingerprints(betas, version)(line, None), "the same when it is read back"
    assert from_text(as_text(taken).decode()) == taken
    return taken


TEXT = {"type": "text", "text": "Hi"}
RESULT = {"type": "tool_result", "tool_use_id": "x", "content": [TEXT, TEXT]}
DOCUMENT = {"type": "document", "source": {"type": "content", "content": [TEXT, TEXT]}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, dict(reversed(BASE.items()))),
        (BASE, {**BASE, "metadata": {"user_id": "u"}}),
        (BASE, {**BASE, "service_tier": "auto"}),
        (BASE, {**BASE, **MARK}),
        (BASE, {**BASE, "system": [{"type": "text", "text": "You count.", **MARK}]}),
        (BASE, {**BASE, "system": [{"type": "text", "text": "You count."}]}),
        (BASE, with_content(TEXT)),
        (BASE, with_content({**TEXT, **MARK})),
        (BASE, with_tool(**MARK)),
        (with_content(RESULT), with_content({**RESULT, "content": [TEXT, {**TEXT, **MARK}]})),
        (
            with_content(DOCUMENT, TEXT),
            with_content(
                {**DOCUMENT, "source": {"type": "content", "content": [{**TEXT, **MARK}, TEXT]}}, TEXT
            ),
        ),
    ],
)
def test_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) == fingerprint(other)


CALL = {"type": "tool_use", "id": "x", "name": "t", "input": {"cache_control": 1}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BASE, {**BASE, "model": "m2"}),
        (BASE, {**BASE, "max_tokens": 6}),
        (BASE, {**BASE, "system": "You count!"}),
        (BASE, {**BASE, "messages": [{"role": "user", "content": "Hi "}]}),
        (BASE, {**BASE, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
        (BASE, {**BASE, "output_config": {"format": {"type": "json_schema", "schema": {}}}}),
        (BASE, {**BASE, "stop_sequences": ["."]}),
        (BASE, {**BASE, "tools": []}),
        (BASE, with_content(TEXT, TEXT)),
        (
            with_tool(input_schema={"type": "object", "properties": {"cache_control": {"type": "string"}}}),
            with_tool(input_schema={"type": "object", "properties": {}}),
        ),
        (with_content(CALL), with_content({**CALL, "input": {}})),
        (with_content(DOCUMENT), with_content({**DOCUMENT, "title": "another"})),
    ],
)
def test_another(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(one) != fingerprint(other)


def test_betas_and_a_version_tell_requests_apart_and_their_order_does_not() -> None:
    taken = {
        fingerprint(BASE),
        fingerprint(BASE, "b1"),
        fingerprint(BASE, "b1", "b2"),
        fingerprint(BASE, version="v7"),
    }
    assert len(taken) == 4
    assert fingerprint(BASE, "b2", "b1") in taken


@pytest.mark.parametrize(
    "block", [{"type": "text"}, {"type": "text", "text": None}, {"type": "text", "text": 7}]
)
def test_a_text_that_is_none_has_a_fingerprint_of_its_own(block: dict[str, Any]) -> None:
    assert fingerprint(with_content(block)) != fingerprint(with_content(TEXT))
    assert fingerprint({**BASE, "system": [block]}) != fingerprint({**BASE, "system": [TEXT]})
