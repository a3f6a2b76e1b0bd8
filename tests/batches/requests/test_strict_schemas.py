"""Schemas that requests bring along, which are sent as they are: refused in the evening, and never rewritten.

What is refused here is refused by the emulator, too, which has the rules from the documentation by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from airflow_claude_batch import trial
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to, submit_all

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 4000}
TEXT = {"type": "string"}
OR_NULL = {"type": ["string", "null"]}


def of(field: Any, **more: Any) -> dict[str, Any]:
    closed = {"required": ["a"], "additionalProperties": False}
    return {"type": "object", "properties": {"a": field}, **closed, **more}


def wide(count: int, field: Any, *, required: bool) -> dict[str, Any]:
    fields = {f"f{number}": field for number in range(count)}
    return of(TEXT, properties=fields, required=list(fields) if required else [])


def asked(schema: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


def tools(*schemas: Any, strict: bool = True) -> dict[str, Any]:
    named = [{"name": f"t{n}", "input_schema": schema} for n, schema in enumerate(schemas)]
    return {"tools": [tool | ({"strict": True} if strict else {}) for tool in named]}


NODE = of({"type": "array", "items": {"$ref": "#/$defs/Node"}})
ONE = of({"$ref": "#/$defs/Other"})
OTHER = of({"anyOf": [{"$ref": "#/$defs/One"}, {"type": "null"}]})
REFUSED: list[tuple[Any, str]] = [
    (of(True), r"\.a = any value"),
    (of({}), r"\.a = any value"),
    (of({"title": "A"}), r"\.a = any value"),
    (of({"properties": {"x": TEXT}}), r"\.a = no type"),
    (of({"type": "text"}), r"\.a = an unknown type"),
    (of({"type": "integer", "minimum": 3}), r"\.a = minimum: .*type integer; .*output_schema"),
    (of({"type": "array", "items": {"type": "string", "maxLength": 3}}), r"\.a\[\] = maxLength"),
    (of({"type": "array", "items": TEXT, "minItems": 2}), r"\.a = minItems: the API takes 0 and 1"),
    (of({"type": "array", "items": TEXT, "maxItems": 2}), r"\.a = maxItems"),
    (of({"oneOf": [TEXT, {"type": "integer"}]}), r"\.a = oneOf: the API takes anyOf"),
    (of({"anyOf": [TEXT, {"type": "number", "multipleOf": 5}]}), r"\.a\.anyOf\[1\] = multipleOf"),
    (of(TEXT, additionalProperties=True), "an object without additionalProperties: false"),
    ({"type": "object", "properties": {"a": TEXT}}, "an object without additionalProperties: false"),
    (of({"type": "object", "additionalProperties": {"type": "integer"}}), r"\.a = an object with any keys"),
    (of({"type": "object", "patternProperties": {"x": TEXT}}), r"\.a = an object with any keys"),
    (of({"enum": [{"x": 1}]}), r"\.a = an enum of objects"),
    (of({"type": "string", "format": "decimal"}), r"\.a = an unknown format"),
    (of({"type": "string", "pattern": r"\bx"}), r"\.a = pattern: .*word boundaries"),
    (of({"$ref": "#/$defs/Gone"}), r"\.a = a reference that leads nowhere"),
    (of({"$ref": "https://example.com/a.json"}), r"\.a = a reference that leads nowhere"),
    (of({"allOf": [{"$ref": "#/$defs/X"}]}, **{"$defs": {"X": TEXT}}), "allOf with a reference"),
    (of({"$ref": "#"}), r"contains itself \(# → #\): the API takes no recursive schemas"),
    (of({"$ref": "#/$defs/Node"}, **{"$defs": {"Node": NODE}}), "contains itself"),
    (of(TEXT, **{"$defs": {"One": ONE, "Other": OTHER}}), "contains itself"),
    (of({"not": TEXT}), r"\.a = not"),
    (of({"enum": []}), r"\.a = a choice of nothing"),
    (of({"anyOf": []}), r"\.a = a choice of nothing"),
    (wide(25, TEXT, required=False), "25 optional fields: the API takes 24"),
    (wide(17, OR_NULL, required=True), r"17 fields of several types \(or null\): the API takes 16"),
]


@pytest.mark.parametrize(("schema", "rule"), REFUSED)
def test_a_schema_is_refused_in_arguments_in_records_and_in_strict_tools(schema: Any, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"message_params.*output_config\.format\.schema.*{rule}"):
        RequestBuilder(Recipe(prompt="{{ x }}"), DEFAULTS | asked(schema))
    build = RequestBuilder(Recipe(), DEFAULTS)
    prompt = {"messages": [{"role": "user", "content": "x"}]}
    for record in ({"prompt": "x", **asked(schema)}, {"params": {**prompt, **asked(schema)}}):
        for index in (7, 8):  # the second time from what is remembered
            with pytest.raises(InputError, match=rf"record {index}: output_config\.format\.schema.*{rule}"):
                build({"custom_id": "a", **record}, index)
    with pytest.raises(InputError, match=r"record 9: .*tools\[1\]\.input_schema"):
        build({"custom_id": "a", "prompt": "x", **tools(of(TEXT), schema)}, 9)
    assert build({"custom_id": "a", "prompt": "x", **tools(schema, strict=False)}, 10).params is not None


@pytest.mark.parametrize(("schema", "rule"), REFUSED)
def test_the_emulator_refuses_what_is_refused_here(schema: Any, rule: str, emulator: Emulator) -> None:
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    body = {**DEFAULTS, "messages": [{"role": "user", "content": "x"}]}
    for more in (asked(schema), tools(schema)):
        with pytest.raises(anthropic.BadRequestError):
            client.post("/v1/messages", body={**body, **more}, cast_to=object)


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (tools(*[of(TEXT)] * 21), "21 strict tools: the API takes 20"),
        (tools(*[wide(9, TEXT, required=False)] * 3), r"tools\[0\].* \+ tools\[2\].* = 27 optional fields"),
        (
            {**tools(wide(9, OR_NULL, required=True)), **asked(wide(8, OR_NULL, required=True))},
            r"output_config.*tools\[0\].* = 17 fields of several types",
        ),
        ({"output_config": {"format": {"type": "json"}}}, 'it is {"type": "json_schema"'),
        ({"output_config": {"format": "json_schema"}}, 'it is {"type": "json_schema"'),
        ({"output_format": asked(of(TEXT))["output_config"]["format"]}, "output_format.*as output_config"),
    ],
)
def test_the_limits_hold_for_all_schemas_of_a_request_together(more: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        RequestBuilder(Recipe(), DEFAULTS | more)
    build = RequestBuilder(Recipe(), DEFAULTS)
    full = {"params": {"messages": [{"role": "user", "content": "x"}], **more}}
    with pytest.raises(InputError, match=rf"record 3: .*{rule}"):
        build({"custom_id": "a", **full}, 3)


def test_what_output_schema_asks_for_counts_together_with_the_tools_of_a_record() -> None:
    config = OutputSchema.of(wide(20, TEXT, required=False)).output_config()
    build = RequestBuilder(Recipe(), DEFAULTS | {"output_config": config})
    record = {"custom_id": "a", "prompt": "x"}
    assert build({**record, **tools(wide(4, TEXT, required=False))}, 0).custom_id == "a"
    with pytest.raises(InputError, match="25 optional fields"):
        build({**record, **tools(wide(5, TEXT, required=False))}, 0)


TAKEN = [
    wide(24, TEXT, required=False),
    wide(16, OR_NULL, required=True),
    of({"$ref": "#/definitions/Money"}, definitions={"Money": {"type": "number"}}),
    of({"allOf": [{"type": "integer"}]}),
    of({"type": "string", "pattern": r"^(?:a|b)\d+$", "default": "a1", "examples": ["a2"]}),
    of({"enum": ["a", 1, None]}, title="T", description="D"),
    of({"type": "array", "items": of({"type": "string", "format": "date"}), "minItems": 1}),
    of(
        {"$ref": "#/$defs/A"},
        **{"$defs": {"A": of({"$ref": "#/$defs/B"}), "B": of({"$ref": "#/$defs/C"}), "C": TEXT}},
    ),
]


def test_what_is_taken_goes_as_it_is_and_is_answered(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    rows = [
        {"custom_id": f"r-{n}", "prompt": "x", "max_tokens": 4000, **asked(schema)}
        for n, schema in enumerate(TAKEN)
    ]
    build = RequestBuilder(Recipe(), DEFAULTS)
    for row, schema in zip(rows, TAKEN, strict=True):
        sent = json.loads(build(row, 0).line)["params"]["output_config"]
        assert sent == asked(schema)["output_config"]
    summary = deliver(root, submit_all(root, api, rows), delivery_to(tmp_path, api), emulator)
    assert summary["counts"]["succeeded"] == len(TAKEN)


def test_a_trial_refuses_it_too(emulator: Emulator) -> None:
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    with pytest.raises(ConfigurationError, match="minimum"):
        trial.run(
            ["x"],
            model="claude-haiku-4-5",
            max_tokens=10,
            message_params=asked(of({"type": "integer", "minimum": 1})),
            client=client,
        )
    assert emulator.journal(method="POST") == []
