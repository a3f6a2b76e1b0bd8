from __future__ import annotations

import decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pydantic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to, read_both, submit_all


class Rating(pydantic.BaseModel):
    stars: int = pydantic.Field(ge=1, le=5)
    reason: str = pydantic.Field(max_length=400)


JSON_SCHEMA = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1, "maximum": 5}, "reason": {"type": "string"}},
    "required": ["stars", "reason"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("given", [Rating, JSON_SCHEMA])
def test_bounds_that_the_api_drops_are_checked_on_the_answer(given: Any) -> None:
    schema = OutputSchema.of(given)
    config = schema.output_config()
    assert config["format"]["type"] == "json_schema"
    assert "maximum" not in config["format"]["schema"]["properties"]["stars"]
    assert schema.parse('{"stars": 5, "reason": "good"}') == ({"stars": 5, "reason": "good"}, None)
    value, fault = schema.parse('{"stars": 9, "reason": "good"}')
    assert value is None
    assert "stars" in str(fault)
    assert "not JSON" in str(schema.parse("five stars")[1])
    assert "reason" in str(schema.parse('{"stars": 3}')[1])


@pytest.mark.parametrize("given", ["Rating", {"type": "nonsense"}, 5, pydantic.BaseModel])
def test_what_is_no_schema_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="output_schema"):
        OutputSchema.of(given)


def test_what_is_wrong_in_a_schema_has_a_place() -> None:
    wrong = {"type": "object", "properties": {"total": {"type": "array", "items": {"type": "strin"}}}}
    with pytest.raises(ConfigurationError, match=r"at properties\.total\.items\.type: 'strin'"):
        OutputSchema.of(wrong)


def test_a_pattern_and_a_bound_that_only_pydantic_knows_are_left_to_the_model() -> None:
    class Person(pydantic.BaseModel):
        name: Annotated[str, pydantic.Field(pattern=r"^\p{Lu}\p{L}+$", description="first name")]
        share: Annotated[decimal.Decimal, pydantic.Field(max_digits=400)]

    schema = OutputSchema.of(Person)
    wanted = schema.output_config()["format"]["schema"]["properties"]["name"]
    assert r"\p{Lu}" in wanted["description"]
    assert "first name" in wanted["description"]
    good, bad = ({"name": name, "share": 1} for name in ("Änne", "änne"))
    assert schema.parse(msgspec.json.encode(good).decode()) == (good, None)
    assert schema.parse(msgspec.json.encode(bad).decode())[0] is None
    recorded = OutputSchema.of(msgspec.json.decode(msgspec.json.encode(schema.json_schema)))
    assert recorded.parse(msgspec.json.encode(good).decode()) == (good, None)


def test_a_model_whose_schema_no_later_task_could_use_is_refused() -> None:
    class Odd(pydantic.BaseModel):
        name: str = pydantic.Field(json_schema_extra={"minLength": "three"})

    with pytest.raises(ConfigurationError, match="not a valid JSON Schema"):
        OutputSchema.of(Odd)


def test_a_schema_reads_no_file(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("{}")
    schema = OutputSchema.of({"properties": {"a": {"$ref": (tmp_path / "text.json").as_uri()}}})
    with pytest.raises(ConfigurationError, match=r"out of the schema; put its definition in \$defs"):
        schema.parse('{"a": 5}')


def asked(count: int, schema: OutputSchema) -> list[dict[str, Any]]:
    config = schema.output_config()
    return [
        {"custom_id": f"r-{n}", "prompt": f"Rate {n}", "max_tokens": 2000, "output_config": config}
        for n in range(count)
    ]


def test_answers_are_parsed_and_invalid_ones_are_apart(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    schema = OutputSchema.of(JSON_SCHEMA)
    message = {
        "content": [{"type": "text", "text": '{"stars": 7, "reason": "very\\n good"}'}],
        "model": "claude-haiku-4-5",
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 10},
    }
    lines = [
        {
            "text": msgspec.json.encode(
                {"custom_id": i, "result": {"type": "succeeded", "message": m}}
            ).decode()
        }
        for i, m in [
            ("r-0", message),
            ("r-1", message | {"content": [{"type": "text", "text": '{"stars": 4,\n"reason": "ok"}'}]}),
            ("r-2", message | {"content": [], "stop_reason": "refusal"}),
        ]
    ]
    url = submit_all(root, api, asked(3, schema))
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    delivery = delivery_to(tmp_path / "out", api, reading=Reading(output_schema=schema))
    summary = deliver(root, url, delivery, emulator)
    succeeded, errored = read_both(tmp_path / "out")
    assert succeeded["r-1"]["output"] == {"stars": 4, "reason": "ok"}
    assert (errored["r-0"]["outcome"], errored["r-0"]["error_type"]) == ("invalid", "output_schema")
    assert errored["r-0"]["retryable"] is False
    assert errored["r-0"]["result"]["message"] == message
    assert errored["r-2"]["error_type"] == "refusal"
    assert summary["errors"] == {"output_schema": 1, "refusal": 1}
    assert summary["error_samples"] == {}, "no answer may get into XCom"


def test_an_invalid_answer_is_asked_for_again_on_request(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    schema = OutputSchema.of(
        JSON_SCHEMA | {"properties": {"stars": {"type": "integer"}, "reason": {"type": "string"}}}
    )
    cut = {"custom_ids": ["r-0"], "outcome": "max_tokens", "tries": 1}
    emulator.settings(outcomes={"failures": [cut]})
    url = submit_all(root, api, asked(3, schema))
    reading = Reading(output_schema=schema, resubmit_invalid=True)
    summary = deliver(
        root, url, delivery_to(tmp_path / "out", api, reading=reading, resubmit_rounds=1), emulator
    )
    assert (summary["counts"]["succeeded"], summary["resubmitted"]) == (3, 1)
