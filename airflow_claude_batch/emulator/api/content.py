"""Validation of messages and their content blocks, and of those of the system prompt, in the API's words.

Sources: the types of messages, blocks and sources in the SDK 2.14 (what is ``Required`` there, and the words
of its ``Literal`` types), and the API's own messages where users report them:
https://github.com/anthropics/claude-code/issues/49171 (empty text), …/23440 (blank text), …/8184 (media
types), …/73821 (where a message of the system may be), https://github.com/dimagi/open-chat-studio/issues/1969
(empty text in system), https://github.com/microsoft/autogen/issues/3034 (unknown keys).
"""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.emulator.api.errors import invalid

_ROLES = ("user", "assistant", "system")
_BLOCKS = frozenset(
    [
        "text",
        "image",
        "document",
        "search_result",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "tool_reference",
        "container_upload",
        "mcp_tool_use",
        "mcp_tool_result",
        "browser_state",
        "compaction",
    ]
)
_IN_RESULTS = frozenset(["text", "image", "document", "search_result", "tool_reference", "browser_state"])
_IN_DOCUMENTS = frozenset(["text", "image"])
_BETA_MESSAGE_KEYS = ("clear_at", "output_config")  # BetaSystemMessageParam
_SOURCES = {
    "image": {"base64": "data", "url": "url", "file": "file_id"},
    "document": {"base64": "data", "url": "url", "file": "file_id", "text": "data", "content": "content"},
}
_MEDIA_TYPES = {
    "image": ("image/jpeg", "image/png", "image/gif", "image/webp"),  # Base64ImageSourceParam
    "document": ("application/pdf",),  # Base64PDFSourceParam
}


def check_messages(params: dict[str, Any], *, betas: bool = False) -> None:
    """Check roles and content blocks of ``messages``."""
    messages = params.get("messages")
    if messages is None:
        raise invalid("messages: Field required")
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    for index, message in enumerate(messages):
        _check_message(message, f"messages.{index}", betas)
    for index, message in enumerate(messages):
        if message["role"] == "system":
            _check_place(messages, index)


def _check_message(message: Any, where: str, betas: bool) -> None:
    if not isinstance(message, dict):
        raise invalid(f"{where}: Input should be a valid dictionary")
    if "role" not in message:
        raise invalid(f"{where}.role: Field required")
    if message["role"] not in _ROLES:
        raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
    for key in message:
        if key not in ("role", "content") and not (betas and key in _BETA_MESSAGE_KEYS):
            raise invalid(f"{where}.{key}: Extra inputs are not permitted")
    _check_content(message.get("content"), where)


def _check_place(messages: list[dict[str, Any]], index: int) -> None:
    """A message of the system comes "immediately after a user turn" (whats-new-claude-4-8)."""
    if index == 0:
        raise invalid(f"messages.{index}: role 'system' must follow a 'user' message")
    if index + 1 < len(messages) and messages[index + 1]["role"] == "user":
        raise invalid(f"messages.{index}: role 'system' must precede an 'assistant' message or end the array")


def _check_content(content: Any, where: str) -> None:
    if content is None:
        raise invalid(f"{where}.content: Field required")
    if isinstance(content, str):
        if not content:
            raise invalid(f"{where}: all messages must have non-empty content")
        _check_not_blank(content)  # "shorthand for an array of one content block of type text"
        return
    if not isinstance(content, list):
        raise invalid(f"{where}.content: Input should be a valid list")
    if not content:
        raise invalid(f"{where}: all messages must have non-empty content")
    for index, block in enumerate(content):
        _check_block(block, f"{where}.content.{index}")


def _check_not_blank(text: str) -> None:
    if text.isspace():
        raise invalid("messages: text content blocks must contain non-whitespace text")


def _check_block(block: Any, where: str) -> None:
    _check_kind(block, where, _BLOCKS)
    if block["type"] == "text":
        _check_text(block, where)
        _check_not_blank(block["text"])
    if block["type"] == "tool_result" and isinstance(block.get("content"), list):
        for index, part in enumerate(block["content"]):
            _check_kind(part, f"{where}.tool_result.content.{index}", _IN_RESULTS)
    if block.get("cache_control") is not None:
        check_cache_control(block["cache_control"], f"{where}.cache_control")


def _check_kind(block: Any, where: str, kinds: frozenset[str]) -> None:
    if not isinstance(block, dict):
        raise invalid(f"{where}: Input should be a valid dictionary")
    kind = block.get("type")
    if kind is None:
        raise invalid(f"{where}.type: Field required")
    if kind not in kinds:
        raise invalid(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags"
        )
    if kind == "text" and not isinstance(block.get("text"), str):
        raise invalid(f"{where}.text.text: Field required")
    if kind in _SOURCES:
        _check_source(block.get("source"), kind, f"{where}.{kind}.source")


def _check_text(block: dict[str, Any], where: str) -> None:
    if not block["text"]:
        raise invalid(f"{where}.text: text content blocks must be non-empty")


def _check_source(source: Any, kind: str, where: str) -> None:
    if not isinstance(source, dict):
        raise invalid(f"{where}: Field required")
    fields = _SOURCES[kind]
    source_type = source.get("type")
    if source_type not in fields:
        raise invalid(
            f"{where}: Input tag '{source_type}' found using 'type' does not match any of the expected tags"
        )
    needed = fields[source_type]
    if not source.get(needed):
        raise invalid(f"{where}.{source_type}.{needed}: Field required")
    if source_type == "content" and isinstance(source["content"], list):
        for index, part in enumerate(source["content"]):
            _check_kind(part, f"{where}.content.content.{index}", _IN_DOCUMENTS)
    if source_type == "base64" and not isinstance(source["data"], str):
        raise invalid(f"{where}.base64.data: Input should be a valid string")
    if source_type == "base64" and not source.get("media_type"):
        raise invalid(f"{where}.base64.media_type: Field required")
    known = _MEDIA_TYPES[kind]
    if source_type == "base64" and source["media_type"] not in known:
        raise invalid(f"{where}.base64.media_type: Input should be {' or '.join(map(repr, known))}")


def check_cache_control(control: Any, where: str) -> None:
    """Check a ``cache_control``, wherever it is."""
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        raise invalid(f"{where}: Input tag should be 'ephemeral'")
    if control.get("ttl", "5m") not in ("5m", "1h"):
        raise invalid(f"{where}.ttl: Input should be '5m' or '1h'")


def check_system(system: Any) -> None:
    """Check ``system``: text, or a list of text blocks."""
    if isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid list")
    for index, block in enumerate(system):
        where = f"system.{index}"
        if isinstance(block, dict) and block.get("type") not in (None, "text"):
            raise invalid(f"{where}.type: Input should be 'text'")
        _check_kind(block, where, _BLOCKS)
        _check_text(block, where)
        if block.get("cache_control") is not None:
            check_cache_control(block["cache_control"], f"{where}.cache_control")
