"""Messages, their blocks and those of the system prompt: what the API refuses of them, whatever the model.

Sources: what the SDK's types say is required, and the API's messages, as users report them: "text content
blocks must be non-empty" and "must contain non-whitespace text" (anthropics/claude-code#49171, #23440; of
system dimagi/open-chat-studio#1969), "messages.0.name: Extra inputs are not permitted"
(microsoft/autogen#3034), "media_type: Input should be 'image/jpeg', …" (anthropics/claude-code#8184), "role
'system' must precede an 'assistant' message or end the array" (anthropics/claude-code#73821), which comes
"immediately after a user turn" (https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-8).
Kinds of blocks that nobody here knows are sent, and so are unknown keys of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batches.requests.descriptions import describe
from airflow_claude_batch.batches.requests.sdk_words import known_to_the_sdk, named
from airflow_claude_batch.batches.requests.strict_schemas import Problem

ROLES = ("user", "assistant", "system")
MESSAGE_KEYS = ("role", "content")
MEDIA_TYPES = {
    "image": ("image/jpeg", "image/png", "image/gif", "image/webp"),
    "document": ("application/pdf",),
}
"""Of base64, by the kind of block."""

_TURNS = ("user", "assistant")
_SOURCE = 'it is a mapping such as {"type": "base64", "media_type": …, "data": …}'


def say_text_only(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all messages are text of the user or the assistant, and nothing else, as nearly all are."""
    for message in messages:  # a plain loop: this runs for every record that is no template's
        if type(message["content"]) is not str or len(message) > 2 or message["role"] not in _TURNS:
            return False
    return True


def problem_of_messages(messages: Sequence[Mapping[str, Any]], *, betas: bool) -> Problem | None:
    """What is wrong with messages of which each has a role, and a content that is text or blocks.

    Args:
        messages: Of one request.
        betas: Whether beta features are asked for, with which there may be more keys, and other places.
    """
    for number, message in enumerate(messages):
        problem, content = None, message["content"]
        if len(message) > 2 or message["role"] not in _TURNS:
            problem = _problem_of_message(messages, number, betas)
        if problem is None and type(content) is not str:
            problem = _problem_of_blocks(content, ".content")
        if problem is not None:
            return problem.within(f"messages[{number}]")
    return None


def problems_of_system(system: Any) -> Iterator[Problem]:
    """What is wrong with the blocks of the system prompt."""
    for number, block in enumerate(system if isinstance(system, (list, tuple)) else ()):
        where, form = f"system[{number}]", 'the blocks of system are text: {"type": "text", "text": …}'
        if not isinstance(block, dict):
            yield Problem(where, describe(block), form)
        elif block.get("type") != "text":
            yield Problem(f"{where}.type", named(block.get("type")), form)
        elif not isinstance(block.get("text"), str) or not block["text"]:
            yield Problem(f"{where}.text", describe(block.get("text")), "text that is not empty")


def unknown_key(given: Mapping[str, Any], known: Sequence[str], name: str) -> str | None:
    """The first key that is neither known here nor to the SDK; None where there is none."""
    for key in given:
        if key not in known and key not in known_to_the_sdk()[name]:
            return key
    return None


def _problem_of_message(messages: Sequence[Mapping[str, Any]], number: int, betas: bool) -> Problem | None:
    message, following = messages[number], messages[number + 1 : number + 2]
    role = message["role"]
    if role not in ROLES and role not in known_to_the_sdk()["role"]:
        return Problem(
            ".role", named(role), "one of user, assistant; instructions go into the parameter system"
        )
    if betas:
        return None
    if (unknown := unknown_key(message, MESSAGE_KEYS, "message")) is not None:
        rule = "a message has a role and a content; another key needs a newer anthropic package or betas"
        return Problem("", f"the key {named(unknown)}", rule)
    if role == "system" and (number == 0 or (following and following[0]["role"] == "user")):
        rule = (
            "the API takes that after a message of the user, and before one of the assistant or at the end; "
            "what holds from the beginning goes into the parameter system"
        )
        return Problem(".role", "'system'", rule)
    return None


def _problem_of_blocks(blocks: Sequence[Any], where: str, *, inside: bool = False) -> Problem | None:
    """Of the blocks of a message, or of those inside one of them, where a text may be empty."""
    for number, block in enumerate(blocks):
        if problem := _problem_of_block(block, inside=inside):
            return problem.within(f"{where}[{number}]")
    return None


def _problem_of_block(block: Any, *, inside: bool) -> Problem | None:
    if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
        found = block.get("type") if isinstance(block, dict) else block
        return Problem(".type", describe(found), 'a block has a type: {"type": "text", "text": …}')
    if kind == "text":
        text = block.get("text")
        if not isinstance(text, str) or not (inside or (text and not text.isspace())):
            return Problem(".text", describe(text), "text that is not blank; or leave the block out")
    elif kind in MEDIA_TYPES:
        return _problem_of_source(block.get("source"), kind)
    elif kind == "tool_result" and isinstance(block.get("content"), (list, tuple)):
        return _problem_of_blocks(block["content"], ".content", inside=True)
    return None


def _problem_of_source(source: Any, kind: str) -> Problem | None:
    if not isinstance(source, dict):
        return Problem(".source", describe(source), _SOURCE)
    if not isinstance(source.get("type"), str):
        return Problem(".source.type", describe(source.get("type")), _SOURCE)
    if source["type"] == "content" and isinstance(source.get("content"), (list, tuple)):
        return _problem_of_blocks(source["content"], ".source.content", inside=True)
    if source["type"] != "base64":
        return None
    media_type, data = source.get("media_type"), source.get("data")
    if media_type not in MEDIA_TYPES[kind] and media_type not in known_to_the_sdk()[kind]:
        rule = f"one of {', '.join(MEDIA_TYPES[kind])}" if kind == "image" else "application/pdf, as base64"
        return Problem(".source.media_type", named(media_type), rule)
    if not isinstance(data, str) or not data:
        return Problem(".source.data", describe(data), "the file's content in base64")
    return None
