"""What is the same: the fingerprint of what determines an answer.

It is taken over the parameters as they are sent, defaults included, whatever the order of their keys; over
the betas; and over the ``prompt_version``, where the user gave one. It leaves out what changes no answer:
the custom_id and the user's columns, ``metadata``, ``service_tier``, and marks of the prompt cache. A text
and the only text block of a list are the same, since a mark turns one into the other.

A fingerprint is the SHA-256 of that, its length and the first bytes of the first message: two requests that
ever had the same hash would still have to begin alike and be equally long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from airflow_claude_batch.batches.requests.request import Request, with_prompt

DIGEST_BYTES, LENGTH_BYTES, HEAD_BYTES = 32, 4, 12
CHECK_BYTES = LENGTH_BYTES + HEAD_BYTES
"""What is compared besides the digest: length and first bytes."""
FINGERPRINT_BYTES = DIGEST_BYTES + CHECK_BYTES
KEY_BYTES = 8
"""The first bytes of a digest, which the index of a store is sorted by."""

_LEFT_OUT = frozenset({"cache_control", "metadata", "service_tier"})
_NOT_PLAIN = _LEFT_OUT | {"tools"}
_canonical = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode
_sha256 = hashlib.sha256


class Fingerprints:
    """Takes the fingerprints of a job's requests.

    Args:
        betas: Beta features of its batches.
        version: What else tells its requests from others of the same words; None for nothing.
    """

    def __init__(self, betas: Sequence[str], version: str | None = None) -> None:
        self._salt = _canonical([sorted(betas), version]) if betas or version is not None else b""
        self._shared: Mapping[str, Any] | None = None
        self._start: bytes | None = None

    def of(self, request: Request) -> bytes:
        """The fingerprint of a request; less work where it is like the one before but for its prompt."""
        shared = request.shared
        if shared is None:
            return self(request.line, request.params)
        if shared is not self._shared:
            self._shared, params = shared, with_prompt(shared, "")
            self._start = None if _only_text(params) is None else _without_text(params)
        if self._start is None:
            return self(request.line, request.params)
        return self._fingerprint(self._start + request.prompt.encode(), request.prompt)

    def __call__(self, line: bytes, params: Mapping[str, Any] | None) -> bytes:
        """The fingerprint of a request.

        Args:
            line: As it is sent.
            params: The parameters in it; None to read them from the line.
        """
        if params is None:
            params = _decode(line)["params"]
        text = _only_text(params)
        if text is None:
            params = _normalised(params)
            text = _only_text(params)
        if text is None:
            content, head = _canonical(params), _first_text(params)
        else:  # nearly all: the text need not be made JSON once more
            content, head = _without_text(params) + text.encode(), text
        return self._fingerprint(content, head)

    def _fingerprint(self, content: bytes, head: str) -> bytes:
        digest = _sha256(content + self._salt).digest()
        start = head[:HEAD_BYTES].encode()[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
        return digest + len(content).to_bytes(LENGTH_BYTES, "big") + start


def as_text(fingerprint: bytes) -> bytes:
    """A fingerprint as it is stored beside a request; its beginning is the record's ``request_digest``."""
    return fingerprint.hex().encode()


def from_text(text: str) -> bytes:
    """The fingerprint that `as_text` wrote."""
    return bytes.fromhex(text)


def _without_text(params: Mapping[str, Any]) -> bytes:
    return _canonical({**params, "messages": None})


def _first_text(params: Mapping[str, Any]) -> str:
    content = params["messages"][0]["content"]
    if isinstance(content, str):
        return content
    texts = (block.get("text") for block in content if block.get("type") == "text")
    text = next(texts, "")
    return text if isinstance(text, str) else ""


def _only_text(params: Mapping[str, Any]) -> str | None:
    """The user's one message, where there is nothing else that could be written in another way."""
    messages = params["messages"]
    if len(messages) != 1 or not _NOT_PLAIN.isdisjoint(params):
        return None
    message = messages[0]
    content = message["content"]
    if type(content) is not str or len(message) != 2 or message["role"] != "user":
        return None
    return content if type(params.get("system", "")) is str else None


def _normalised(params: Mapping[str, Any]) -> dict[str, Any]:
    """Only what counts, and one form of what can be written in two."""
    kept = {key: value for key, value in params.items() if key not in _LEFT_OUT}
    kept["messages"] = [
        {**message, "content": _content(message["content"])} for message in params["messages"]
    ]
    if kept.get("system") is not None:
        kept["system"] = _content(kept["system"])
    if isinstance(kept.get("tools"), (list, tuple)):
        kept["tools"] = [_unmarked(tool) for tool in kept["tools"]]
    return kept


def _content(content: Any) -> Any:
    """Text, or blocks without marks."""
    if not isinstance(content, (list, tuple)):
        return content
    blocks = [_block(block) for block in content]
    if len(blocks) == 1 and isinstance(blocks[0], dict) and blocks[0].keys() == {"type", "text"}:
        text = blocks[0]["text"]
        return text if isinstance(text, str) else blocks
    return blocks


def _block(block: Any) -> Any:
    """A block without its mark and those of blocks in it; what a tool was called with is data, and stays."""
    block = _unmarked(block)
    if not isinstance(block, dict):
        return block
    if isinstance(block.get("content"), (list, tuple)):  # of a tool's result, a search result
        block = {**block, "content": _content(block["content"])}
    source = block.get("source")
    if isinstance(source, dict) and isinstance(source.get("content"), (list, tuple)):  # of a document
        block = {**block, "source": {**source, "content": _content(source["content"])}}
    return block


def _unmarked(thing: Any) -> Any:
    if isinstance(thing, dict) and "cache_control" in thing:
        return {key: value for key, value in thing.items() if key != "cache_control"}
    return thing
