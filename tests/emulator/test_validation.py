"""What is refused at create, and what comes back as an errored line."""

from __future__ import annotations

import base64
import datetime
import re

import anthropic
import pytest

from airflow_claude_batch.emulator.api.models import CATALOGUE
from tests.images import png

REQUEST = {"custom_id": "a", "params": {}}


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests: List should have at least 1 item"),
        ([REQUEST, {"custom_id": "b c", "params": {}}], r"requests\.1\.custom_id: .*pattern"),
        ([REQUEST, {"custom_id": "x" * 65, "params": {}}], r"requests\.1\.custom_id: .*at most 64"),
        ([REQUEST, {"custom_id": "", "params": {}}], r"requests\.1\.custom_id: .*at least 1"),
        ([REQUEST, {"custom_id": "é", "params": {}}], r"requests\.1\.custom_id: .*pattern"),
        ([REQUEST, {"custom_id": "b\n", "params": {}}], r"requests\.1\.custom_id: .*pattern"),
        ([REQUEST, {"custom_id": 7, "params": {}}], r"requests\.1\.custom_id: .*valid string"),
        ([REQUEST, {"params": {}}], r"requests\.1\.custom_id: Field required"),
        ([REQUEST, {"custom_id": "b"}], r"requests\.1\.params: Field required"),
        ([REQUEST, {"custom_id": "b", "params": []}], r"requests\.1\.params: .*valid dictionary"),
        ([REQUEST, {"custom_id": "b", "params": {}, "x": 1}], r"requests\.1\.x: Extra inputs"),
        ([REQUEST, REQUEST], r"requests\.1\.custom_id: .*unique"),
        ({"a": 1}, "requests: Input should be a valid list"),
    ],
)
def test_one_violation_rejects_the_whole_create(emulator, client, requests, message):
    with pytest.raises(anthropic.BadRequestError, match=message) as error:
        client.post("/v1/messages/batches", body={"requests": requests}, cast_to=object)
    assert error.value.type == "invalid_request_error"
    assert emulator.batches() == []


@pytest.mark.parametrize("body", [b"", b"{", b'{"requests":[{"custom_id":"a"', b'"text"', b"{}"])
def test_a_broken_body_is_refused(emulator, client, body):
    with pytest.raises(anthropic.BadRequestError):
        client.post("/v1/messages/batches", content=body, cast_to=object)
    assert emulator.batches() == []


def test_more_requests_or_bytes_than_allowed_are_refused(emulator, client, submit):
    emulator.settings(max_requests=2)
    with pytest.raises(anthropic.BadRequestError, match="at most 2 items"):
        submit("a", "b", "c")
    emulator.settings(max_body_bytes=100)
    with pytest.raises(anthropic.ContentTooLargeError) as error:
        submit("a", "b")
    assert error.value.type == "request_too_large"
    assert emulator.batches() == []


SCHEMA_FORMAT = {"type": "json_schema", "schema": {"type": "object", "additionalProperties": False}}
PNG = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png(3, 2)).decode()}
TOOL = {"name": "look", "input_schema": {"type": "object"}}


def user(*content):
    return {"messages": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": None}, "model: Field required"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens: 0 is not supported"),
        ({"max_tokens": "9"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": 64_001}, "max_tokens: 64001 > 64000"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages must have non-empty"),
        ({"messages": [{"role": "user", "content": " "}]}, "text content blocks must contain non-whitespace"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name: Extra inputs"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0: role 'system' must follow"),
        ({"system": [{"type": "image", "source": PNG}]}, "system.0.type: Input should be 'text'"),
        ({"system": [{"type": "text", "text": ""}]}, "system.0.text: text content blocks must be non-empty"),
        (user({"type": "text", "text": "\n"}), "text content blocks must contain non-whitespace text"),
        (user({"type": "text"}), "messages.0.content.0.text.text: Field required"),
        (user({"type": "document", "source": PNG}), "base64.media_type: Input should be 'application/pdf'"),
        (user({"type": "texts", "text": "x"}), "does not match any of the expected tags"),
        (user({"type": "image"}), "messages.0.content.0.image.source: Field required"),
        (user({"type": "image", "source": {**PNG, "data": ""}}), "base64.data: Field required"),
        (
            user({"type": "image", "source": {**PNG, "data": 7}}),
            "base64.data: Input should be a valid string",
        ),
        (user({"type": "text", "text": "x", "cache_control": {"type": "forever"}}), "cache_control"),
        ({"stream": True}, "stream"),
        ({"speed": "fast"}, "speed"),
        ({"fallbacks": [{"model": "x"}]}, "fallbacks"),
        ({"betas": ["x"]}, "betas: Extra inputs are not permitted"),
        ({"extra_body": {}}, "extra_body: Extra inputs are not permitted"),
        ({"extra_headers": {}}, "extra_headers: Extra inputs are not permitted"),
        ({"temperature": 0.5}, "temperature"),
        ({"top_k": 3}, "top_k"),
        ({"output_config": {"format": {"type": "yaml"}}}, "output_config.format.type"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#/$defs/none"}}}},
            "output_config.format.schema: the schema is not valid",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "#"}}}},
            "output_config.format.schema: Circular reference detected",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "budget_tokens"),
        (
            {"model": "claude-opus-5-5", "tools": [TOOL], "tool_choice": {"type": "any"}},
            "tool_choice.type: 'any'",
        ),
        ({"messages": [{"role": "user", "content": "x " * 500_000}]}, "prompt is too long"),
    ],
)
def test_wrong_params_become_an_errored_line(submit, results_of, params, message):
    batch = submit(("bad", params), "good")
    results = results_of(batch.id)
    assert results["good"].type == "succeeded"
    assert results["bad"].error.error.type == "invalid_request_error"
    assert message in results["bad"].error.error.message


@pytest.mark.parametrize("model", ["claude-nonsense", "claude-3-5-haiku-20241022"])
def test_unknown_and_retired_models_become_not_found_lines(submit, results_of, model):
    error = results_of(submit(("bad", {"model": model})).id)["bad"].error
    assert (error.error.type, error.error.message) == ("not_found_error", f"model: {model}")
    assert error.request_id.startswith("req_")


@pytest.mark.parametrize(
    "params",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
        user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": ""}]}),
        {"system": "Be brief.", "stop_sequences": ["END"], "metadata": {"user_id": "u"}},
        user({"type": "image", "source": PNG}, {"type": "text", "text": "What is it?"}),
        user({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048},
        {"output_config": {"format": SCHEMA_FORMAT}},
        {"inference_geo": "us", "service_tier": "auto"},
    ],
)
def test_right_params_succeed(submit, results_of, params):
    assert results_of(submit(("ok", params)).id)["ok"].type == "succeeded"


def test_sampling_parameters_are_allowed_under_the_older_version(submit, results_of):
    old = {"anthropic-version": "2023-06-01"}
    assert results_of(submit(("ok", {"temperature": 0.5}), extra_headers=old).id)["ok"].type == "succeeded"


def test_the_extended_output_beta_raises_the_limit_for_the_whole_batch(submit, results_of):
    beta = {"anthropic-beta": "output-300k-2026-03-24"}
    results = results_of(submit(("ok", {"max_tokens": 300_000}), extra_headers=beta).id)
    assert results["ok"].type == "succeeded"


def test_a_beta_has_keys_of_its_own(submit, results_of):
    later = {"role": "system", "content": "b", "clear_at": "never"}
    params = {"messages": [{"role": "user", "content": "a"}, later], "output_config": {"task_budget": {}}}
    assert results_of(submit(("a", params)).id)["a"].type == "errored"
    beta = submit(("a", params), extra_headers={"anthropic-beta": "x-2026-01-01"})
    assert results_of(beta.id)["a"].type == "succeeded"


def test_the_synchronous_endpoint_checks_the_same_and_answers_at_once(client):
    question = [{"role": "user", "content": "Hello?"}]
    reply = client.messages.create(model="claude-haiku-4-5", max_tokens=500, messages=question)
    assert reply.usage.service_tier == "standard"
    assert "Hello?" in reply.content[0].text
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        client.messages.create(model="claude-haiku-4-5", max_tokens=100_000, messages=question, timeout=30)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="claude-nonsense", max_tokens=1, messages=question)


def test_count_tokens_agrees_with_the_usage_of_the_answer(client, submit, results_of):
    usage = results_of(submit("a").id)["a"].message.usage
    question = [{"role": "user", "content": "Say something about a."}]
    counted = client.messages.count_tokens(model="claude-haiku-4-5", messages=question)
    assert counted.input_tokens == usage.input_tokens


def test_models_tell_limits_and_lifecycle(client):
    model = client.models.retrieve("claude-haiku-4-5")
    assert model.id == "claude-haiku-4-5-20251001"
    assert model.capabilities.batch.supported
    assert (model.lifecycle, model.max_tokens) == ("active", 64_000)
    listed = {m.id for m in client.models.list(limit=3)}
    assert "claude-opus-5-5" in listed
    assert "claude-3-5-haiku-20241022" not in listed
    retired = client.models.list(lifecycle=["retired"]).data
    assert {m.lifecycle for m in retired} == {"retired"}
    assert all(m.retires_at for m in retired)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-nonsense")


def test_an_unknown_path_answers_the_error_envelope(client):
    with pytest.raises(anthropic.NotFoundError) as error:
        client.get("/v1/nothing", cast_to=object)
    assert error.value.type == "not_found_error"


def test_models_retire_when_the_installed_sdk_says() -> None:
    from anthropic._data import DEPRECATED_MODELS

    def day(text: str) -> str:
        plain = re.sub(r"(?<=\d)(st|nd|rd|th)", "", text)
        return datetime.datetime.strptime(f"{plain} +0000", "%B %d, %Y %z").date().isoformat()

    known = {model.id: model.retires for model in CATALOGUE}
    said = {name: day(text) for name, text in DEPRECATED_MODELS.items() if name in known}
    assert said
    assert said == {name: known[name] for name in said}


def fields(field, **more):
    return {
        "type": "object",
        "properties": {"a": field},
        "required": ["a"],
        "additionalProperties": False,
        **more,
    }


def many(count, field, required):
    properties = {f"f{number}": field for number in range(count)}
    return fields({}, properties=properties, required=list(properties) if required else [])


OR_NULL = {"type": ["string", "null"]}
NODE = fields({"type": "array", "items": {"$ref": "#/$defs/Node"}})


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "object", "properties": {}}, "'additionalProperties' must be explicitly set to false"),
        (fields({"type": "object", "additionalProperties": {"type": "integer"}}), "must be explicitly set"),
        (fields({"type": "integer", "minimum": 3}), "For 'integer' type, properties minimum are not"),
        (fields({"type": "string", "maxLength": 3}), "properties maxLength are not supported"),
        (fields({"type": "string", "format": "decimal"}), "format 'decimal' is not supported"),
        (fields({"type": "string", "pattern": "(?=x)y"}), "lookaround"),
        (fields({"type": "array", "items": {"type": "string"}, "minItems": 2}), "'minItems' values other"),
        (fields({}), "needs a type"),
        (fields(True), "a schema is an object"),
        (fields({"enum": [[1]]}), "Complex types in enums"),
        (fields({"$ref": "other.json"}), "External references"),
        (
            fields({"allOf": [{"$ref": "#/$defs/X"}]}, **{"$defs": {"X": {"type": "string"}}}),
            "allOf with $ref",
        ),
        (fields({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": NODE}}), "Circular reference detected"),
        (many(25, {"type": "string"}, required=False), "too many optional parameters (25)"),
        (many(17, OR_NULL, required=True), "too many parameters with union types (17"),
    ],
)
def test_schemas_that_the_api_does_not_compile_are_refused(submit, results_of, schema, message):
    config = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    result = results_of(submit(("bad", config)).id)["bad"]
    assert message in result.error.error.message


@pytest.mark.parametrize(
    "schema",
    [many(24, {"type": "string"}, required=False), many(16, OR_NULL, required=True)],
    ids=["24 optional fields", "16 unions"],
)
def test_schemas_at_the_limits_are_taken(submit, results_of, schema):
    config = {"output_config": {"format": {"type": "json_schema", "schema": schema}}, "max_tokens": 4000}
    assert results_of(submit(("good", config)).id)["good"].type == "succeeded"


@pytest.mark.parametrize(
    ("strict", "more", "message"),
    [
        ([fields({"type": "integer", "minimum": 3})], {}, "tools.0.custom.input_schema: For 'integer' type"),
        ([fields({"type": "string"})] * 21, {}, "Too many strict tools (21)"),
        ([many(9, {"type": "string"}, required=False)] * 3, {}, "too many optional parameters (27)"),
        (
            [many(9, OR_NULL, required=True)],
            {"output_config": {"format": SCHEMA_FORMAT | {"schema": many(8, OR_NULL, required=True)}}},
            "union types (17",
        ),
    ],
)
def test_the_schemas_of_strict_tools_count_together_with_that_of_the_answer(
    submit, results_of, strict, more, message
):
    def tools(**flag):
        return {
            "tools": [{"name": f"t{n}", "input_schema": one, **flag} for n, one in enumerate(strict)],
            "max_tokens": 4000,
        }

    results = results_of(submit(("bad", tools(strict=True) | more), ("good", tools())).id)
    assert message in results["bad"].error.error.message
    assert results["good"].type == "succeeded"


def text_document(cited):
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    return {"type": "document", "source": source, "citations": {"enabled": cited}}


def test_citations_are_for_all_documents_or_none_and_not_beside_a_schema(submit, results_of):
    both = user(text_document(True), text_document(False))
    schema = {"output_config": {"format": SCHEMA_FORMAT}}
    batch = submit(
        ("all", user(text_document(True), text_document(True))),
        ("both", both),
        ("schema", user(text_document(True)) | schema),
        ("none", user(text_document(False)) | schema),
    )
    results = results_of(batch.id)
    assert (results["all"].type, results["none"].type) == ("succeeded", "succeeded")
    assert "all or none" in results["both"].error.error.message
    assert "together with citations" in results["schema"].error.error.message
