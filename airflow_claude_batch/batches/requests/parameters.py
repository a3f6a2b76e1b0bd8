"""Parameters of the Messages API: which there are, and what would be refused only when a batch has ended."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError

MESSAGE_PARAMETERS = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
"""Keys of a short record that are Messages API parameters; every other key is the user's own."""

REFUSED_PARAMETERS = {
    "stream": "batches do not stream; remove it",
    "speed": "batches have no speed setting; remove it",
    "fallbacks": "batches take no fallbacks; remove it",
    "betas": "betas belong to the whole batch; set message_params={'betas': [...]} on the operator",
    "extra_body": "batches take no extra_body; put the parameters into params",
    "extra_headers": "batches take no extra_headers; remove it",
    "extra_query": "batches take no extra_query; remove it",
    "temperature": "not accepted since API version 2026-10-21; remove it",
    "top_p": "not accepted since API version 2026-10-21; remove it",
    "top_k": "not accepted since API version 2026-10-21; remove it",
}
"""What batches refuse, and the way out. The API would report it only when the batch has ended."""

_MAPPING = (dict, "a mapping")
_LIST = ((list, tuple), "a list")
_KINDS_OF: dict[str, tuple[Any, str]] = {
    "system": ((str, list, tuple), "text or a list of blocks"),
    "stop_sequences": _LIST,
    "tools": _LIST,
    "metadata": _MAPPING,
    "output_config": _MAPPING,
    "thinking": _MAPPING,
    "tool_choice": _MAPPING,
}
"""What parameters are that a table's columns could be taken for."""

_PLAIN = (str, int, float, list, tuple, dict)
"""What is no object that becomes a mapping or a list when it is made JSON."""
_OF_ITS_OWN = "it would be overruled by the argument of that name; give that"
NO_DEFAULTS = {
    **{key: rule for key, rule in REFUSED_PARAMETERS.items() if key != "betas"},
    **dict.fromkeys(("model", "max_tokens", "system", "prompt", "custom_id"), _OF_ITS_OWN),
    "messages": "each record has its own, or a prompt; what all share is system, or the template's",
    "params": "write what is in it one level higher",
}
"""What is no parameter that all requests can have, and the way out."""

_refused = REFUSED_PARAMETERS.keys()


def check_names(params: Mapping[str, Any], place: str = "message_params[{!r}]") -> None:
    """Refuse what can be no parameter of all requests, by its name alone.

    Args:
        params: As the user gave them, without those that have an argument of their own.
        place: Where they stand, for the message.

    Raises:
        ConfigurationError: Naming the key and the way out.
    """
    for key in params:
        if key in NO_DEFAULTS:
            raise ConfigurationError(f"{place.format(key)}: {NO_DEFAULTS[key]}. Nothing was sent.")


def check_defaults(
    params: Mapping[str, Any], betas: Sequence[str] = (), place: str = "message_params[{!r}]"
) -> None:
    """Refuse parameters of all requests that would make each of them a 400 when the batch ends.

    Args:
        params: As the user gave them, without those that have an argument of their own.
        betas: Beta features, with which there may be parameters that nobody here knows.
        place: Where they stand, for the message.

    Raises:
        ConfigurationError: Naming the key and the way out.
    """
    check_names(params, place)
    known = MESSAGE_PARAMETERS | _known_to_the_sdk()
    for key in params if not betas else ():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            meant = f" Is {near[0]} meant?" if near else ""
            raise ConfigurationError(
                f"{place.format(key)}: no parameter of the Messages API.{meant} A new one needs a newer "
                "anthropic package; one of a beta needs betas. Nothing was sent."
            )
    for key, value in params.items():
        kinds, form = _KINDS_OF.get(key, (object, ""))
        if isinstance(value, _PLAIN) and not isinstance(value, kinds):
            raise ConfigurationError(f"{place.format(key)}: it is {form}. Nothing was sent.")


def _known_to_the_sdk() -> frozenset[str]:
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

    return frozenset(MessageCreateParamsNonStreaming.__annotations__)


def problems_of(params: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """What is wrong with a request: where, what is there, and the rule."""
    model, max_tokens = params.get("model"), params.get("max_tokens")
    if not isinstance(model, str) or not model:
        way_out = "set it in the record, on the operator, or as model in the connection's extra"
        yield "model", model, f"a model id is required; {way_out}"
    if type(max_tokens) is not int or max_tokens < 1:
        yield "max_tokens", max_tokens, "a whole number of at least 1 is required"
    yield from _problems_of_messages(params.get("messages"))
    for key, (kinds, form) in _KINDS_OF.items():
        if key in params and not isinstance(params[key], kinds):
            yield key, params[key], f"a parameter of the Messages API; it is {form}"
    if not _refused.isdisjoint(params):
        for key in sorted(_refused & params.keys()):
            yield key, params[key], REFUSED_PARAMETERS[key]


def _problems_of_messages(messages: Any) -> Iterator[tuple[str, Any, str]]:
    if not isinstance(messages, (list, tuple)) or not messages:
        yield "messages", messages, "a list of at least one message is required"
        return
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            rule = 'a message is a mapping with "role" and "content"'
            yield f"messages[{number}]", message, rule
        elif not _says_something(content := message.get("content")):
            rule = "text that is not blank, or a list of blocks (mappings), not empty"
            yield f"messages[{number}].content", content, rule


def _says_something(content: Any) -> bool:
    if isinstance(content, str):
        return bool(content) and not content.isspace()
    return (
        isinstance(content, (list, tuple)) and bool(content) and all(isinstance(one, dict) for one in content)
    )
