"""Token counts and prompt-cache accounting.

Text counts about four characters to a token; images and PDFs by their size. Cached prefixes follow the
API's rules: order tools, system, messages; a breakpoint covers everything before it; nothing below the
model's minimum; entries live 5 minutes or 1 hour after their last use, on the emulated clock, across batches.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_claude_batch.emulator.api.params import check_breakpoint_count, prompt_blocks

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.api.models import Model

CHARS_PER_TOKEN = 4
_BASE_TOKENS = 8
_IMAGE_TOKENS = 1_600
_PDF_PAGE_TOKENS = 2_250
_PDF_PAGE_BASE64_CHARS = 80_000
_TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}


class CacheUse(NamedTuple):
    """How the cache split one request's input, in tokens."""

    read: int = 0
    write_5m: int = 0
    write_1h: int = 0

    @property
    def cached(self) -> int:
        return self.read + self.write_5m + self.write_1h


NO_CACHE = CacheUse()


def text_tokens(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


def input_tokens(params: dict[str, Any]) -> int:
    """All tokens of a prompt, however the cache splits them."""
    return _BASE_TOKENS + sum(_piece_tokens(piece) for piece, _ in prompt_blocks(params))


def _piece_tokens(piece: Any) -> int:
    if isinstance(piece, str):
        return text_tokens(len(piece))
    kind = piece.get("type")
    if kind == "text":
        return text_tokens(len(piece["text"]))
    if kind == "image":
        return _IMAGE_TOKENS
    if kind == "document":
        return _document_tokens(piece["source"])
    return text_tokens(len(msgspec.json.encode(piece)))


def _document_tokens(source: dict[str, Any]) -> int:
    if source["type"] == "base64":
        return _PDF_PAGE_TOKENS * max(1, len(source["data"]) // _PDF_PAGE_BASE64_CHARS)
    if source["type"] == "text":
        return text_tokens(len(source["data"]))
    if source["type"] == "content":
        return text_tokens(len(msgspec.json.encode(source["content"])))
    return _PDF_PAGE_TOKENS


class _Breakpoint(NamedTuple):
    prefix: bytes
    tokens: int
    ttl: str


def _breakpoints(params: dict[str, Any], model: Model) -> list[_Breakpoint]:
    found: list[_Breakpoint] = []
    digest = hashlib.blake2b(model.id.encode(), digest_size=16)
    tokens = 0
    last_control = params.get("cache_control")
    pieces = list(prompt_blocks(params))
    for index, (piece, control) in enumerate(pieces):
        if control is None and index == len(pieces) - 1:
            control = last_control
        digest.update(msgspec.json.encode(_without_control(piece)))
        tokens += _piece_tokens(piece)
        if control:
            found.append(_Breakpoint(digest.digest(), tokens, control.get("ttl", "5m")))
    check_breakpoint_count(len(found))
    return [point for point in found if point.tokens >= model.cache_minimum]


def _without_control(piece: Any) -> Any:
    if isinstance(piece, dict) and "cache_control" in piece:
        return {key: value for key, value in piece.items() if key != "cache_control"}
    return piece


class PromptCache:
    """The prefixes that are cached, each with the emulated time at which it goes stale."""

    def __init__(self) -> None:
        self._stale_at: dict[bytes, float] = {}

    def use(self, params: dict[str, Any], model: Model, now: float, *, may_read: bool) -> CacheUse:
        """Read and write what one request's breakpoints name, at emulated time ``now``."""
        read = written = 0
        writes = {"5m": 0, "1h": 0}
        points = _breakpoints(params, model)
        if may_read:
            for point in points:
                if self._stale_at.get(point.prefix, 0.0) > now:
                    read = point.tokens
        written = read
        for point in points:
            if point.tokens > written:
                writes[point.ttl] += point.tokens - written
                written = point.tokens
            self._stale_at[point.prefix] = now + _TTL_SECONDS[point.ttl]
        return CacheUse(read, writes["5m"], writes["1h"])
