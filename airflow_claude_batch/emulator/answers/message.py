"""What the emulated model says: the same answer for the same custom_id and params.

Prose quotes the beginning of the last user message, so that a join by the wrong custom_id shows. With
``output_config.format`` the text is JSON that satisfies the schema.
"""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_claude_batch.emulator.answers.schema import SchemaWriter
from airflow_claude_batch.emulator.answers.usage import CHARS_PER_TOKEN, CacheUse, input_tokens, text_tokens

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.api.models import Model
    from airflow_claude_batch.emulator.control.settings import Settings

_SENTENCES = [
    "Usage grew steadily over the period, with the strongest days in the middle of the week.",
    "Most of the activity came from a small group of regular members.",
    "Two integrations were added, and both have been in daily use since.",
    "Support requests stayed low and were answered within a day.",
    "The number of exports doubled, mainly because of the new monthly report.",
    "One dashboard accounts for about a third of all views.",
    "There is room to grow: several invited members have not signed in yet.",
    "Storage is well within the plan, and no limit was reached.",
    "Compared with the period before, sessions were shorter but more frequent.",
    "A short training on filters would probably save the team some time.",
    "No unusual sign-ins were seen.",
    "The plan fits the present use; a change is not needed this quarter.",
    "Errors were rare and all of them were resolved without help.",
    "The next review should look at the automated jobs, which run more often than needed.",
]
_QUOTE_CHARS = 80
_SHORTEST_CHARS, _LONGEST_CHARS = 250, 900
_REFUSAL_TOKENS = 5


def _filler() -> str:
    chooser = random.Random(14)
    return " ".join(chooser.choice(_SENTENCES) for _ in range(600))


_FILLER = _filler()
_STARTS = [0, *(i + 2 for i in range(len(_FILLER) // 2) if _FILLER.startswith(". ", i))]


class Answer(NamedTuple):
    """Text, why it ended, and its length in tokens."""

    text: str
    stop_reason: str
    output_tokens: int


def answer(
    custom_id: str,
    params: dict[str, Any],
    seed: int,
    settings: Settings,
    *,
    cut: bool = False,
    given: str | None = None,
) -> Answer:
    """The answer to one request.

    Args:
        custom_id: Of the request.
        params: Of the request.
        seed: What decides an answer that is made up.
        settings: Of the emulator.
        cut: End it at ``max_tokens``, however long that is.
        given: The answer's text, where somebody wants a certain one.
    """
    size = settings.answer_bytes_by_id.get(custom_id)
    if size is not None:
        text = filler(size, seed)
        return Answer(text, "end_turn", text_tokens(len(text)))
    text = _made_up(custom_id, params, seed, settings) if given is None else given
    max_tokens: int = params["max_tokens"]
    if cut:
        return Answer(text[: min(len(text) // 2, max_tokens * CHARS_PER_TOKEN)], "max_tokens", max_tokens)
    tokens = max(1, text_tokens(len(text)))
    if tokens > max_tokens:
        return Answer(text[: max_tokens * CHARS_PER_TOKEN], "max_tokens", max_tokens)
    return Answer(text, "end_turn", tokens)


def _made_up(custom_id: str, params: dict[str, Any], seed: int, settings: Settings) -> str:
    output_format = (params.get("output_config") or {}).get("format")
    if output_format:
        return msgspec.json.encode(SchemaWriter(output_format["schema"], seed).value()).decode()
    if settings.answer_bytes is not None:
        return filler(settings.answer_bytes, seed)
    return _prose(custom_id, params, seed)


def filler(size: int, seed: int) -> str:
    """Plausible ASCII prose of exactly ``size`` bytes."""
    start = _STARTS[seed % len(_STARTS)]
    return " ".join([_FILLER[start:], *[_FILLER] * (size // len(_FILLER) + 1)])[:size]


def _prose(custom_id: str, params: dict[str, Any], seed: int) -> str:
    length = _SHORTEST_CHARS + seed % (_LONGEST_CHARS - _SHORTEST_CHARS)
    start = _STARTS[seed % len(_STARTS)]
    end = _FILLER.find(". ", start + length) + 1
    return f"On “{_quote(params)}” ({custom_id}): {_FILLER[start:end]}"


def _quote(params: dict[str, Any]) -> str:
    content = params["messages"][-1]["content"]
    if not isinstance(content, str):
        texts = [block["text"] for block in content if block.get("type") == "text"]
        content = texts[-1] if texts else f"the {content[0]['type']}"
    return " ".join(content[: 2 * _QUOTE_CHARS].split())[:_QUOTE_CHARS]


def seed_of(custom_id: str, raw_params: Any) -> int:
    """The number that decides an answer: a checksum over custom_id and params."""
    return zlib.crc32(raw_params, zlib.crc32(custom_id.encode()))


def message(
    custom_id: str,
    params: dict[str, Any],
    model: Model,
    seed: int,
    settings: Settings,
    cache: CacheUse,
    *,
    service_tier: str = "batch",
    shape: str = "",
    given: str | None = None,
) -> dict[str, Any]:
    """A whole ``Message`` object with its usage.

    ``shape`` is an outcome that is an answer, ``given`` the answer's text where somebody wants a certain one.
    """
    refused = shape == "refusal"
    reply = (
        Answer("", "refusal", _REFUSAL_TOKENS)
        if refused
        else answer(custom_id, params, seed, settings, cut=shape in _CUT, given=given)
    )
    if shape in ("pause_turn", "model_context_window_exceeded"):
        reply = reply._replace(stop_reason=shape)
    details = {"type": "refusal", "category": "general_harms", "explanation": None} if refused else None
    content = _content(params, reply, seed, shape, given)
    if content and content[-1]["type"] == "tool_use":
        reply = reply._replace(stop_reason="tool_use")
    return {
        "id": f"msg_01{seed:08x}{zlib.adler32(custom_id.encode()):08x}",
        "type": "message",
        "role": "assistant",
        "model": model.id,
        "content": content,
        "stop_reason": reply.stop_reason,
        "stop_sequence": None,
        "stop_details": details,
        "container": None,
        "usage": _usage(params, reply, cache, service_tier),
    }


_CUT = ("max_tokens", "model_context_window_exceeded")


def _content(
    params: dict[str, Any], reply: Answer, seed: int, shape: str, given: str | None
) -> list[dict[str, Any]]:
    thinking = {"type": "thinking", "thinking": "Let me see.", "signature": f"sig{seed:08x}"}
    shapes: dict[str, list[dict[str, Any]]] = {
        "refusal": [],
        "empty": [],
        "thinking_only": [thinking],
        "blank": [{"type": "text", "text": " \n\n", "citations": None}],
    }
    if shape in shapes:
        return shapes[shape]
    tool = _forced_tool(params)
    if tool is not None and not shape:
        schema = tool["input_schema"]
        value = SchemaWriter(schema, seed).value() if given is None else msgspec.json.decode(given)
        return [{"type": "tool_use", "id": f"toolu_01{seed:08x}", "name": tool["name"], "input": value}]
    return [{"type": "text", "text": reply.text, "citations": _citations(params)}]


def _forced_tool(params: dict[str, Any]) -> dict[str, Any] | None:
    """The tool that ``tool_choice`` asks for.

    Source: https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use
    """
    choice = params.get("tool_choice") or {}
    tools = [tool for tool in params.get("tools") or () if "input_schema" in tool]
    if choice.get("type") == "any":
        return tools[0] if tools else None
    if choice.get("type") == "tool":
        return next((tool for tool in tools if tool["name"] == choice.get("name")), None)
    return None


def _citations(params: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The first sentence of each text document that is to be cited.

    Source: https://platform.claude.com/docs/en/build-with-claude/citations
    """
    content = params["messages"][-1]["content"]
    documents = [block for block in content if isinstance(block, dict) and block.get("type") == "document"]
    found = []
    for index, document in enumerate(documents):
        if not (document.get("citations") or {}).get("enabled") or document["source"]["type"] != "text":
            continue
        text = document["source"]["data"]
        end = text.find(".") + 1 or len(text)
        found.append(
            {
                "type": "char_location",
                "cited_text": text[:end],
                "document_index": index,
                "document_title": document.get("title"),
                "start_char_index": 0,
                "end_char_index": end,
                "file_id": None,
            }
        )
    return found or None


def _usage(params: dict[str, Any], reply: Answer, cache: CacheUse, service_tier: str) -> dict[str, Any]:
    searches = any(str(tool.get("type", "")).startswith("web_search") for tool in params.get("tools") or ())
    return {
        "input_tokens": input_tokens(params) - cache.cached,
        "output_tokens": reply.output_tokens,
        "cache_creation_input_tokens": cache.write_5m + cache.write_1h,
        "cache_read_input_tokens": cache.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": cache.write_5m,
            "ephemeral_1h_input_tokens": cache.write_1h,
        },
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0} if searches else None,
        "service_tier": service_tier,
        "inference_geo": params.get("inference_geo") or "global",
    }
