"""What the API would refuse when the batch has ended is refused before; what it may take is not."""

from __future__ import annotations

import time
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.message_rules import MessageRules
from airflow_claude_batch.batches.requests.sdk_words import known_to_the_sdk
from airflow_claude_batch.emulator.testing import Emulator

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 2_000}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
CACHED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
LONG = {"type": "ephemeral", "ttl": "2h"}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"thinking": {"type": "enabled", "budget_tokens": 512}}, "thinking.budget_tokens = 512: .*1024"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens = nothing"),
    ({"thinking": {"budget_tokens": 1500}}, "thinking.type = nothing"),
    ({"output_config": {"effort": "hgh"}}, "output_config.effort = 'hgh': one of low, medium"),
    ({"tools": [TOOL], "tool_choice": {"type": "all"}}, "tool_choice.type = 'all': one of auto, any"),
    ({"tools": [TOOL], "tool_choice": {}}, "tool_choice.type = nothing"),
    ({"tools": ["look"]}, r"tools\[0\] = text of 4 characters"),
    ({"tools": [TOOL, {"name": "x"}]}, r"tools\[1\].input_schema = nothing"),
    ({"tools": [{"input_schema": {"type": "object"}}]}, r"tools\[0\].name = nothing"),
    ({"stop_sequences": ["a", 1]}, r"stop_sequences\[1\] = a number"),
    ({"system": [CACHED] * 5}, r"system\[4\].cache_control = cache_control number 5: the API takes 4"),
    ({"tools": [{**TOOL, "cache_control": LONG}]}, r"tools\[0\].cache_control.ttl = '2h': one of 5m, 1h"),
    ({"cache_control": LONG}, "cache_control.ttl = '2h'"),
    ({"system": [{"type": "text", "text": ""}]}, r"system\[0\].text = text of 0 characters"),
    ({"system": [CACHED, {"type": "text"}]}, r"system\[1\].text = nothing"),
    ({"system": [{"text": "Sort."}]}, r"system\[0\].type = nothing: the blocks of system are text"),
    ({"system": [{"type": "image", "source": {"type": "url", "url": "x"}}]}, r"system\[0\].type = 'image'"),
    ({"system": ["Sort."]}, r"system\[0\] = text of 5 characters"),
    ({"output_config": {"efort": "low"}}, "output_config = the key 'efort': it has effort and format"),
    ({"output_config": {"effort": "low", "schema": {}}}, "output_config = the key 'schema'"),
    (
        {"output_config": {"task_budget": {"type": "tokens", "total": 9}}},
        "output_config = the key 'task_budget': .*betas",
    ),
]
BASE64 = {"type": "base64", "data": "aGk="}


def one(block: Any, **more: Any) -> list[Any]:
    return [{"role": "user", "content": [block], **more}]


def turns(*roles: str) -> list[Any]:
    return [{"role": role, "content": "Hi"} for role in roles]


REFUSED_MESSAGES: list[tuple[list[Any], str]] = [
    (one({"type": "text", "text": ""}), r"messages\[0\].content\[0\].text = text of 0 characters"),
    (one({"type": "text", "text": " \n"}), r"content\[0\].text = text of 2 characters: .*not blank"),
    (one({"type": "text"}), r"content\[0\].text = nothing"),
    (one({"text": "Hi"}), r"content\[0\].type = nothing: a block has a type"),
    (one({"type": "image"}), r"content\[0\].source = nothing"),
    (one({"type": "image", "source": {"data": "aGk="}}), r"source.type = nothing"),
    (one({"type": "image", "source": BASE64}), r"source.media_type = nothing: one of image/jpeg, image/png"),
    (one({"type": "document", "source": BASE64}), r"source.media_type = nothing: application/pdf"),
    (
        one({"type": "image", "source": {**BASE64, "media_type": "image/jpg"}}),
        "media_type = 'image/jpg': one of image/jpeg",
    ),
    (
        one({"type": "document", "source": {**BASE64, "media_type": "text/plain"}}),
        "media_type = 'text/plain': application/pdf",
    ),
    (
        one({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
        r"source.data = nothing",
    ),
    (
        one({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": BASE64}]}),
        r"content\[0\].content\[0\].source.media_type = nothing",
    ),
    (
        one(
            {
                "type": "document",
                "source": {"type": "content", "content": [{"type": "image", "source": BASE64}]},
            }
        ),
        r"content\[0\].source.content\[0\].source.media_type = nothing",
    ),
    (turns("usr"), r"messages\[0\].role = 'usr': one of user, assistant"),
    (turns("user", "model"), r"messages\[1\].role = 'model'"),
    (turns("system", "user"), r"messages\[0\].role = 'system': .*parameter system"),
    (turns("user", "system", "user"), r"messages\[1\].role = 'system'"),
    (
        [{"role": "user", "content": "Hi", "name": "Ada"}],
        r"messages\[0\] = the key 'name': .*role and a content",
    ),
    (one({"type": "text", "text": "Hi"}, id="msg_1"), r"messages\[0\] = the key 'id'"),
]
OF_TWO: list[tuple[dict[str, Any], str]] = [
    (
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
        r"budget_tokens = 2000: .*max_tokens \(2000\)",
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice = 'any': there are no tools"),
]


def built(defaults: dict[str, Any], record: dict[str, Any], prompt: str | None = None) -> Any:
    build = RequestBuilder(Recipe(prompt=prompt), {**DEFAULTS, **defaults})
    return build({"custom_id": "a", "prompt": "Hi", **record}, 7).params


@pytest.mark.parametrize(("params", "words"), REFUSED)
def test_what_breaks_a_rule_is_refused_in_defaults_and_in_records(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"message_params.*{words}"):
        built(params, {})
    with pytest.raises(InputError, match=f"record 7: {words}"):
        built({}, params)


@pytest.mark.parametrize(("params", "words"), OF_TWO)
def test_what_two_parameters_come_to_is_judged_where_both_are_known(
    params: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"message_params.*{words}"):
        built(params, {}, prompt="{{ prompt }}")
    with pytest.raises(InputError, match=f"record 7: .*{words}"):
        built(params, {})
    assert built(params, {"tools": [TOOL], "max_tokens": 3_000})


@pytest.mark.parametrize(("messages", "words"), REFUSED_MESSAGES)
def test_messages_that_break_a_rule_are_refused_in_both_forms_of_records(
    messages: list[Any], words: str
) -> None:
    with pytest.raises(InputError, match=f"record 7: .*{words}"):
        built({}, {"prompt": None, "messages": messages})
    with pytest.raises(InputError, match=f"record 7: .*{words}"):
        RequestBuilder(Recipe(), DEFAULTS)({"custom_id": "a", "params": {"messages": messages}}, 7)


@pytest.mark.parametrize(
    "messages",
    [
        turns("user", "system"),
        turns("user", "assistant", "user", "system", "assistant"),
        one({"type": "of_tomorrow", "text": ""}),
        one({"type": "text", "text": "Hi", "of_tomorrow": 1}),
        one({"type": "image", "source": {"type": "of_tomorrow"}}),
        one({"type": "document", "source": {"type": "text", "data": "Hi"}}),
        one({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": ""}]}),
        one({"type": "tool_result", "tool_use_id": "t"}),
        one({"type": "document", "source": {"type": "content", "content": "Hi"}}),
    ],
)
def test_messages_that_the_api_may_take_are_sent(messages: list[Any]) -> None:
    assert built({}, {"prompt": None, "messages": messages})["messages"] == messages


def test_with_betas_there_may_be_other_keys() -> None:
    messages = [*turns("user"), {"role": "system", "content": "Hi", "clear_at": "never"}, *turns("user")]
    config = {"task_budget": {"type": "tokens", "total": 9_000}}
    record = {"custom_id": "a", "messages": messages, "output_config": config}
    build = RequestBuilder(Recipe(betas=True), DEFAULTS)
    assert (build(record, 0).params or {}).items() >= {"messages": messages, "output_config": config}.items()
    with pytest.raises(InputError, match="role = 'usr'"):
        build({"custom_id": "a", "messages": turns("usr")}, 1)


@pytest.mark.parametrize(
    "params",
    [params for params, _ in REFUSED + OF_TWO if "cache_control" not in str(params.values())]
    + [{"messages": messages} for messages, _ in REFUSED_MESSAGES],
)
def test_the_api_refuses_it_too(emulator: Emulator, api: BatchesApi, params: dict[str, Any]) -> None:
    whole = {**DEFAULTS, "messages": [{"role": "user", "content": "Hi"}], **params}
    with pytest.raises(anthropic.BadRequestError):
        api.send_one(whole, [])


def test_breakpoints_of_defaults_and_messages_count_together() -> None:
    messages = [{"role": "user", "content": [CACHED, CACHED]}, {"role": "assistant", "content": "Ah"}]
    last = {"role": "user", "content": [CACHED]}
    defaults = {"system": [CACHED], "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]}
    assert built(defaults, {"prompt": None, "messages": messages})
    with pytest.raises(InputError, match=r"messages\[2\].content\[0\].cache_control = .*number 5"):
        built(defaults, {"prompt": None, "messages": [*messages, last]})
    with pytest.raises(InputError, match=r"messages\[0\].content\[0\].cache_control.ttl"):
        built({}, {"prompt": [{**CACHED, "cache_control": LONG}]})


@pytest.mark.parametrize(
    "params",
    [
        {"thinking": {"type": "of_tomorrow", "depth": 3}},
        {"thinking": {"type": "enabled", "budget_tokens": 1_500.0}},
        {"thinking": {"type": "enabled", "budget_tokens": 9_000}, "tools": [TOOL]},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}, {**TOOL, "of_tomorrow": 1}]},
        {"tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}], "tool_choice": {"type": "any"}},
        {"mcp_servers": [{"name": "x"}], "tool_choice": {"type": "tool", "name": "y"}},
        {"tool_choice": {"type": "none"}, "output_config": {"effort": None}},
        {"system": [{**CACHED, "of_tomorrow": 1}], "stop_sequences": ["END"], "cache_control": None},
    ],
)
def test_what_the_api_may_take_is_sent(params: dict[str, Any]) -> None:
    assert built(params, {}).items() >= {k: v for k, v in params.items() if v is not None}.items()
    assert built({}, params)


def test_words_that_a_newer_sdk_knows_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(known_to_the_sdk()["effort"]) >= {"low", "max"}
    assert set(known_to_the_sdk()["tool_choice"]) >= {"auto", "tool"}
    assert set(known_to_the_sdk()["ttl"]) >= {"5m", "1h"}
    monkeypatch.setitem(known_to_the_sdk(), "effort", ["utmost"])
    assert built({"output_config": {"effort": "utmost"}}, {})


def test_what_all_requests_have_is_looked_at_once() -> None:
    rules, tools = MessageRules(), [TOOL] * 2_000
    rules.check_defaults({**DEFAULTS, "tools": tools}, are_all=False)
    begun = time.process_time()
    for _ in range(20_000):
        rules.check({**DEFAULTS, "tools": tools, "messages": [{"role": "user", "content": "Hi"}]}, 0)
    assert time.process_time() - begun < 2
