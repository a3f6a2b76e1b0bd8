"""Validation of Messages API params, as it happens after a batch was accepted: one request at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.emulator.answers.schema import problem_with
from airflow_claude_batch.emulator.api.content import check_cache_control, check_messages, check_system
from airflow_claude_batch.emulator.api.errors import ApiError, invalid
from airflow_claude_batch.emulator.api.media import check_citations, check_media
from airflow_claude_batch.emulator.api.models import Model, find_model
from airflow_claude_batch.emulator.api.schema_rules import excess, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STABLE = frozenset(
    [
        "model",
        "max_tokens",
        "messages",
        "system",
        "metadata",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "service_tier",
        "inference_geo",
        "cache_control",
        "container",
        "diagnostics",
        "user_profile_id",
        "stream",
        "speed",
    ]
)
_BETA = frozenset(
    ["mcp_servers", "context_management", "compaction", "prefill", "billing_policy", "fallbacks"]
)
# Source: OutputConfigParam and BetaOutputConfigParam of the SDK 2.14.
_OUTPUT_CONFIG = frozenset(["effort", "format"])
_BETA_OUTPUT_CONFIG = frozenset(["task_budget"])
_REFUSED_IN_BATCHES = ("stream", "speed", "fallbacks", "thread", "fallback_credit_token")
_REFUSED_HERE = ("stream",)
_PLACE = {True: "the Message Batches API", False: "the emulator"}
_SAMPLING = ("temperature", "top_p", "top_k")
_VERSION_WITHOUT_SAMPLING = "2026-10-21"
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_MAX_BREAKPOINTS = 4
_EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
_EXTENDED_OUTPUT_TOKENS = 300_000


class Headers:
    """What the headers of a whole batch mean for its params: ``anthropic-version`` and ``anthropic-beta``."""

    def __init__(self, version: str, betas: frozenset[str] = frozenset()) -> None:
        self.version = version
        self.betas = betas


def check_params(params: Any, headers: Headers, *, batch: bool = True) -> Model:
    """Check the params of one request and return its model.

    Raises:
        ApiError: ``invalid_request_error`` or ``not_found_error``, in the API's words.
    """
    if not isinstance(params, dict):
        raise invalid("params: Input should be a valid dictionary")
    _check_keys(params, headers, batch)
    model = _model(params)
    _check_max_tokens(params, model, headers, batch)
    check_messages(params, betas=bool(headers.betas))
    check_media(params, model)
    check_citations(params)
    for key, check in _OPTIONAL_CHECKS.items():
        if key in params:
            check(params[key], params, model)
    _check_counts(params)
    _check_prefill(params)
    return model


def check_for_count(params: Any) -> Model:
    """The part of the checks that ``count_tokens`` makes: model and messages."""
    if not isinstance(params, dict):
        raise invalid("body: Input should be a valid dictionary")
    model = _model(params)
    check_messages(params)
    check_media(params, model)
    return model


def _check_keys(params: dict[str, Any], headers: Headers, batch: bool) -> None:
    refused = _REFUSED_IN_BATCHES if batch else _REFUSED_HERE
    for key in refused:
        if params.get(key):
            raise invalid(f"{key}: {key} is not supported in {_PLACE[batch]}")
    allowed = _STABLE | _BETA if headers.betas else _STABLE
    for key in params:
        if key not in allowed:
            raise invalid(f"{key}: Extra inputs are not permitted")
    config = params.get("output_config")
    allowed = _OUTPUT_CONFIG | _BETA_OUTPUT_CONFIG if headers.betas else _OUTPUT_CONFIG
    for key in config if isinstance(config, dict) else ():
        if key not in allowed:
            raise invalid(f"output_config.{key}: Extra inputs are not permitted")
    if headers.version >= _VERSION_WITHOUT_SAMPLING:
        for key in _SAMPLING:
            if key in params:
                raise invalid(f"{key}: {key} is not supported under anthropic-version {headers.version}")


def _model(params: dict[str, Any]) -> Model:
    name = params.get("model")
    if name is None:
        raise invalid("model: Field required")
    if not isinstance(name, str):
        raise invalid("model: Input should be a valid string")
    model = find_model(name)
    if model.lifecycle == "retired":
        raise ApiError(404, f"model: {name}")
    return model


def _check_max_tokens(params: dict[str, Any], model: Model, headers: Headers, batch: bool) -> None:
    max_tokens = params.get("max_tokens")
    if max_tokens is None:
        raise invalid("max_tokens: Field required")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        raise invalid("max_tokens: Input should be a valid integer")
    if max_tokens == 0 and batch:
        raise invalid("max_tokens: 0 is not supported in the Message Batches API")
    if max_tokens < 0:
        raise invalid("max_tokens: must be greater than or equal to 1")
    extended = batch and _EXTENDED_OUTPUT_BETA in headers.betas
    limit = max(_EXTENDED_OUTPUT_TOKENS, model.max_tokens) if extended else model.max_tokens
    if max_tokens > limit:
        raise invalid(
            f"max_tokens: {max_tokens} > {limit}, which is the maximum allowed number of output tokens for"
            f" {model.id}"
        )


def _check_output_config(config: Any, params: dict[str, Any], model: Model) -> None:
    if not isinstance(config, dict):
        raise invalid("output_config: Input should be a valid dictionary")
    if config.get("effort") not in (None, *_EFFORTS):
        raise invalid("output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'")
    output_format = config.get("format")
    if output_format is None:
        return
    if not isinstance(output_format, dict) or output_format.get("type") != "json_schema":
        raise invalid("output_config.format.type: Input should be 'json_schema'")
    if not isinstance(output_format.get("schema"), dict):
        raise invalid("output_config.format.schema: Field required")
    schema = _check_compiles(output_format["schema"], "output_config.format.schema")
    if problem := problem_with(schema):
        raise invalid(f"output_config.format.schema: {problem}")
    if not model.structured_outputs:
        raise invalid(f"output_config.format: {model.id} does not support structured outputs")


def _check_compiles(schema: Any, where: str) -> bytes:
    encoded = msgspec.json.encode(schema)
    if problem := refusal(encoded):
        raise invalid(f"{where}: {problem}")
    return encoded


def _check_counts(params: dict[str, Any]) -> None:
    """The limits of "Schema complexity limits", which hold for all schemas of a request together."""
    tools = [tool for tool in params.get("tools") or () if tool.get("strict")]
    schemas = [tool["input_schema"] for tool in tools if "input_schema" in tool]
    output_format = (params.get("output_config") or {}).get("format")
    if output_format:
        schemas.append(output_format["schema"])
    if problem := excess(tuple(msgspec.json.encode(schema) for schema in schemas), len(tools)):
        raise invalid(problem)


def _check_prefill(params: dict[str, Any]) -> None:
    """A begun answer does not go with JSON outputs (source: structured-outputs, "Feature compatibility")."""
    last = params["messages"][-1]
    content = last["content"]
    is_text = isinstance(content, str) or all(block.get("type") == "text" for block in content)
    if last["role"] == "assistant" and is_text and (params.get("output_config") or {}).get("format"):
        raise invalid("output_config.format: prefilling the assistant's message is not supported with it")


def _check_tools(tools: Any, params: dict[str, Any], model: Model) -> None:
    if not isinstance(tools, list):
        raise invalid("tools: Input should be a valid list")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{index}: Input should be a valid dictionary")
        if tool.get("type") in (None, "custom"):
            for key in ("name", "input_schema"):
                if key not in tool:
                    raise invalid(f"tools.{index}.custom.{key}: Field required")
            if tool.get("strict"):
                _check_compiles(tool["input_schema"], f"tools.{index}.custom.input_schema")


def _check_tool_choice(choice: Any, params: dict[str, Any], model: Model) -> None:
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise invalid("tool_choice: Input tag should be one of 'auto', 'any', 'tool', 'none'")
    if choice["type"] in ("any", "tool"):
        if model.newest:
            raise invalid(
                f"tool_choice.type: '{choice['type']}' (forced tool use) is not supported by {model.id}"
            )
        if not params.get("tools"):
            raise invalid("tool_choice: may only be specified while providing tools")


def _check_thinking(thinking: Any, params: dict[str, Any], model: Model) -> None:
    if not isinstance(thinking, dict) or thinking.get("type") not in (
        "enabled",
        "disabled",
        "adaptive",
        "between_tools",
    ):
        raise invalid(
            "thinking: Input tag should be one of 'enabled', 'disabled', 'adaptive', 'between_tools'"
        )
    if thinking["type"] == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
        if budget >= params["max_tokens"]:
            raise invalid("max_tokens: must be greater than thinking.budget_tokens")


def _check_stop_sequences(sequences: Any, params: dict[str, Any], model: Model) -> None:
    if not isinstance(sequences, list) or not all(isinstance(s, str) for s in sequences):
        raise invalid("stop_sequences: Input should be a valid list of strings")


def _check_breakpoints(control: Any, params: dict[str, Any], model: Model) -> None:
    if control is not None:
        check_cache_control(control, "cache_control")


def _check_system(system: Any, params: dict[str, Any], model: Model) -> None:
    check_system(system)


_OPTIONAL_CHECKS: dict[str, Callable[[Any, dict[str, Any], Model], None]] = {
    "system": _check_system,
    "output_config": _check_output_config,
    "tools": _check_tools,
    "tool_choice": _check_tool_choice,
    "thinking": _check_thinking,
    "stop_sequences": _check_stop_sequences,
    "cache_control": _check_breakpoints,
}


def check_breakpoint_count(count: int) -> None:
    """Raise if a request has more cache breakpoints than the API takes."""
    if count > _MAX_BREAKPOINTS:
        raise invalid(
            f"A maximum of {_MAX_BREAKPOINTS} blocks with cache_control may be provided. Found {count}."
        )


def prompt_blocks(params: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """All pieces of a prompt in the cache's order (tools, system, messages), with their ``cache_control``."""
    for tool in params.get("tools") or ():
        yield tool, tool.get("cache_control")
    system = params.get("system") or ()
    for block in [system] if isinstance(system, str) else system:
        yield block, block.get("cache_control") if isinstance(block, dict) else None
    for message in params["messages"]:
        content = message["content"]
        for block in [content] if isinstance(content, str) else content:
            yield block, block.get("cache_control") if isinstance(block, dict) else None
