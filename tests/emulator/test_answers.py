"""Answers, usage and prompt cache."""

from __future__ import annotations

import json

import jsonschema
import pytest

SCHEMAS = {
    "report": {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "score": {"type": "integer"},
            "share": {"type": "number"},
            "day": {"type": "string", "format": "date"},
            "mood": {"enum": ["good", "bad"]},
            "version": {"const": 2},
            "note": {"type": ["string", "null"]},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "owner": {"anyOf": [{"$ref": "#/$defs/person"}, {"type": "null"}]},
        },
        "required": ["title", "score", "share", "day", "mood", "version", "note", "tags", "owner"],
        "additionalProperties": False,
        "$defs": {
            "person": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "active": {"type": "boolean"}},
                "required": ["name", "active"],
                "additionalProperties": False,
            }
        },
    },
    "list": {"type": "array", "items": {"type": "number"}, "minItems": 1},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_json_answers_satisfy_the_schema(submit, results_of, name):
    schema = SCHEMAS[name]
    config = {"output_config": {"format": {"type": "json_schema", "schema": schema}}, "max_tokens": 60_000}
    results = results_of(submit(*[(f"r-{n}", config) for n in range(25)]).id)
    texts = {result.message.content[0].text for result in results.values()}
    for text in texts:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    assert len(texts) > 1


BOUNDED = {
    "code": ({"type": "string", "pattern": r"^[A-Z]{3}-\d{2,4}(\.[^a-y]+)?$"}, {}),
    "currency": ({"type": "string", "pattern": "^(EUR|USD|GBP)$"}, {}),
    "score": ({"type": "integer", "description": "{minimum: 1, maximum: 5}"}, {"minimum": 1, "maximum": 5}),
    "share": (
        {"type": "number", "description": "Of {all}.\n\n{exclusiveMinimum: 0, maximum: 1.5}"},
        {"exclusiveMinimum": 0, "maximum": 1.5},
    ),
    "name": (
        {"type": "string", "description": "{maxLength: 3, minLength: 2}"},
        {"minLength": 2, "maxLength": 3},
    ),
    "tags": (
        {"type": "array", "items": {"type": "string"}, "description": "{minItems: 4, uniqueItems: True}"},
        {"minItems": 4},
    ),
}


def test_answers_keep_to_patterns_and_to_bounds_that_descriptions_say(submit, results_of):
    schema = {
        "type": "object",
        "properties": {name: sent for name, (sent, _) in BOUNDED.items()},
        "required": list(BOUNDED),
        "additionalProperties": False,
    }
    config = {"output_config": {"format": {"type": "json_schema", "schema": schema}}, "max_tokens": 60_000}
    for result in results_of(submit(*[(f"r-{n}", config) for n in range(25)]).id).values():
        answer = json.loads(result.message.content[0].text)
        for name, (sent, meant) in BOUNDED.items():
            jsonschema.validate(answer[name], sent | meant)


def test_prose_quotes_the_prompt_and_is_the_same_in_every_batch(submit, results_of):
    first = results_of(submit("account-7", "account-8").id)
    second = results_of(submit("account-7").id)
    assert "account-7" in first["account-7"].message.content[0].text
    assert first["account-7"].message == second["account-7"].message
    assert first["account-7"].message.content != first["account-8"].message.content


def test_a_tiny_max_tokens_cuts_the_answer(submit, results_of):
    message = results_of(submit(("a", {"max_tokens": 10})).id)["a"].message
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 10)
    assert len(message.content[0].text) == 40


def test_answers_can_be_given_a_size(emulator, submit, results_of):
    emulator.settings(answer_bytes=3000, answer_bytes_by_id={"big": 50_000})
    results = results_of(submit("a", "big").id)
    assert len(results["a"].message.content[0].text.encode()) == 3000
    assert len(results["big"].message.content[0].text.encode()) == 50_000


def test_usage_is_plausible_and_billed_as_batch(submit, results_of):
    usage = results_of(submit(("a", {"messages": [{"role": "user", "content": "x" * 4000}]})).id)[
        "a"
    ].message.usage
    assert 1000 <= usage.input_tokens <= 1020
    assert usage.service_tier == "batch"
    assert usage.cache_read_input_tokens == usage.cache_creation_input_tokens == 0


def cached(ttl, text="shared context " * 2000):
    block = {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}
    return {"system": [block]}


def split(results):
    usages = [result.message.usage for result in results.values()]
    return sorted((u.cache_creation_input_tokens, u.cache_read_input_tokens) for u in usages)


def test_the_first_request_writes_a_shared_prefix_and_the_others_read_it(submit, results_of):
    results = results_of(submit(*[(f"r-{n}", cached("5m")) for n in range(4)]).id)
    assert split(results) == [(0, 7500), (0, 7500), (0, 7500), (7500, 0)]


def test_a_warm_up_batch_makes_all_of_the_next_one_read(emulator, submit, results_of):
    warm = results_of(submit(("warm-up", cached("1h"))).id)["warm-up"].message.usage
    assert warm.cache_creation.ephemeral_1h_input_tokens == 7500
    emulator.advance(50 * 60)
    assert split(results_of(submit(*[(f"r-{n}", cached("1h")) for n in range(3)]).id)) == [(0, 7500)] * 3


def test_cached_prefixes_go_stale(emulator, submit, results_of):
    results_of(submit(("warm-up", cached("5m"))).id)
    emulator.advance(301)
    assert split(results_of(submit(("late", cached("5m"))).id)) == [(7500, 0)]


def test_a_prefix_below_the_minimum_is_not_cached(submit, results_of):
    assert (
        split(results_of(submit(("a", cached("5m", "short")), ("b", cached("5m", "short"))).id))
        == [(0, 0)] * 2
    )


def test_cache_hits_can_be_best_effort(emulator, submit, results_of):
    emulator.settings(cache_hit_share=0.5)
    usages = split(results_of(submit(*[(f"r-{n}", cached("5m")) for n in range(100)]).id))
    assert 25 < sum(1 for _, read in usages if read) < 75
