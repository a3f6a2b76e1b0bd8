from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid

import msgspec
import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.requests.request import RequestEncoder

normalise = RequestEncoder({"model": "claude-haiku-4-5", "max_tokens": 100})


def fault_of(record: object, normaliser: RequestEncoder = normalise) -> str:
    with pytest.raises(InputError) as caught:
        normaliser(record, 7)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("system", 5, "text or a list of blocks"),
        ("tools", "search", "a list"),
        ("stop_sequences", "END", "a list"),
        ("metadata", "u-1", "a mapping"),
        ("output_config", "json", "a mapping"),
    ],
)
def test_a_column_that_is_taken_for_a_parameter_and_is_none_is_refused(
    name: str, value: object, form: str
) -> None:
    rule = rf"record 7: {name} = .*: a parameter of the Messages API; it is {form}"
    assert re.search(rule, fault_of({"custom_id": "a", "prompt": "Hi", name: value}))


def test_what_a_record_says_of_its_output_leaves_the_schema_that_all_have() -> None:
    usual = {"effort": "low", "format": {"type": "json_schema", "schema": {}}}
    encode = RequestEncoder({"model": "m", "max_tokens": 5, "output_config": usual})
    message = [{"role": "user", "content": "x"}]
    own = {"effort": "high"}
    for record in (
        {"prompt": "x", "output_config": own},
        {"params": {"messages": message, "output_config": own}},
    ):
        params = encode({"custom_id": "a", **record}, 0).params
        assert params is not None
        assert params["output_config"] == {**usual, "effort": "high"}
    assert own == {"effort": "high"}
    assert encode.defaults["output_config"] == usual


def test_a_short_record_becomes_a_request_and_keeps_its_own_columns() -> None:
    request = normalise({"custom_id": "a", "prompt": "Hi", "stop_sequences": ["."], "account": 5}, 0)
    assert json.loads(request.line) == {
        "custom_id": "a",
        "params": {
            "model": "claude-haiku-4-5",
            "max_tokens": 100,
            "stop_sequences": ["."],
            "messages": [{"role": "user", "content": "Hi"}],
        },
    }
    assert msgspec.json.decode(request.columns or b"") == {"account": 5}


def test_a_full_record_is_sent_as_it_is_with_defaults_only_where_it_is_silent() -> None:
    params = {"max_tokens": 5, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    request = normalise({"custom_id": "a", "params": params}, 0)
    assert json.loads(request.line)["params"] == {"model": "claude-haiku-4-5", **params}
    assert request.columns is None


@pytest.mark.parametrize(
    "content", ["", " \n", [], ["a", "b"], [{"type": "text", "text": "Hi"}, "b"], {"type": "text"}, 5]
)
def test_a_message_that_says_nothing_or_is_none_is_refused(content: object) -> None:
    rule = r"messages\[0\].content = .*: text that is not blank, or a list of blocks"
    assert re.search(rule, fault_of({"custom_id": "a", "prompt": content}))
    messages = [{"role": "user", "content": content}]
    assert re.search(rule, fault_of({"custom_id": "a", "params": {"messages": messages}}))


@pytest.mark.parametrize("defaults", [{"system": "half \ud800"}, {"metadata": {"user_id": "\udfff"}}])
def test_a_default_that_json_cannot_hold_is_refused_by_its_name(defaults: dict[str, object]) -> None:
    [name] = defaults
    with pytest.raises(InputError, match=rf"default {name} = .*: not JSON; .*lone surrogates"):
        RequestEncoder(defaults)


def test_a_none_in_a_record_means_the_default() -> None:
    request = normalise({"custom_id": "a", "prompt": "Hi", "model": None, "system": None}, 0)
    assert json.loads(request.line)["params"]["model"] == "claude-haiku-4-5"
    assert "system" not in json.loads(request.line)["params"]


@pytest.mark.parametrize("custom_id", ["", "ä", "a b", "a" * 65, "a/b", None, 5, "a\n"])
def test_an_illegal_custom_id_is_named_with_its_value_and_the_rule(custom_id: object) -> None:
    message = fault_of({"custom_id": custom_id, "prompt": "Hi"})
    assert "record 7: custom_id = " in message
    assert "1 to 64 letters, digits, hyphens or underscores" in message


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({"max_tokens": 0}, "max_tokens = a number"),
        ({"max_tokens": True}, "max_tokens = true or false"),
        ({"max_tokens": "100"}, "max_tokens = text of 3 characters"),
        ({"model": ""}, "model = text of 0 characters"),
        ({"prompt": ""}, "messages[0].content = text of 0 characters"),
        ({"prompt": None, "messages": []}, "messages = a list of 0 items"),
        ({"prompt": None, "messages": [{"content": "x"}]}, "messages[0] = "),
        ({"prompt": None}, "record keys = "),
        ({"messages": [{"role": "user", "content": "x"}]}, "prompt = text of 2 characters"),
        ({"stream": True}, "stream = true or false"),
        ({"temperature": 0.5}, "temperature = a number"),
        ({"betas": ["x"]}, "betas = "),
        ({"params": [1]}, "params = a list of 1 items"),
        ({"params": {"messages": [{"role": "user", "content": "x"}]}}, "prompt = text of 2 characters"),
    ],
)
def test_what_would_fail_only_hours_later_is_refused_at_once(record: dict[str, object], where: str) -> None:
    assert where in fault_of({"custom_id": "a", "prompt": "Hi", **record})


def test_missing_model_and_max_tokens_name_the_way_out() -> None:
    message = fault_of({"custom_id": "a", "prompt": "Hi"}, RequestEncoder({}))
    assert "model = nothing" in message
    assert "the connection's extra" in message
    assert "max_tokens = nothing" in message


def test_a_default_that_batches_refuse_is_refused_before_any_record() -> None:
    with pytest.raises(InputError, match="default stream"):
        RequestEncoder({"stream": True})


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("inf"), "score[1].x"),
        (b"bytes", "score[1].x"),
        ({1, 2}, "score[1].x"),
        ({5: "x"}, "score[1].x"),
    ],
)
def test_a_value_that_is_not_json_is_refused_with_its_path(value: object, path: str) -> None:
    assert f"record 7: {path} = " in fault_of({"custom_id": "a", "prompt": "Hi", "score": [0, {"x": value}]})


def test_dates_uuids_and_decimals_become_text() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=1))
    columns = {
        "at": datetime.datetime(2026, 11, 22, 1, 2, 3, tzinfo=zone),
        "day": datetime.date(2026, 11, 22),
        "id": uuid.UUID(int=1),
        "sum": decimal.Decimal("1.10"),
    }
    request = normalise({"custom_id": "a", "prompt": "Hi", **columns}, 0)
    assert msgspec.json.decode(request.columns or b"") == {
        "at": "2026-11-22T01:02:03+01:00",
        "day": "2026-11-22",
        "id": "00000000-0000-0000-0000-000000000001",
        "sum": "1.10",
    }


@pytest.mark.parametrize("value", ["\ud800"])
def test_what_the_encoder_cannot_write_is_a_fault_and_not_a_crash(value: object) -> None:
    assert "not JSON" in fault_of({"custom_id": "a", "prompt": "Hi", "metadata": {"x": value}})


@pytest.mark.parametrize("record", ["Hi", 5, None, ["Hi"]])
def test_something_that_is_no_record_is_refused(record: object) -> None:
    assert "a record is a mapping" in fault_of(record)


def test_a_long_prompt_is_not_repeated_in_the_message() -> None:
    assert len(fault_of({"custom_id": "a b", "prompt": "secret " * 1000, "messages": [{}]})) < 1000
