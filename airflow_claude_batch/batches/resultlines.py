"""The lines of a results file, decoded no further than needed.

``{"custom_id": …, "result": {"type": "succeeded" | "errored" | "canceled" | "expired", …}}``, in any
order. Types are compared as text: one that does not exist yet must come out as itself. (The SDK's
own decoder turns an unknown type into the first one that it knows.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec


class Result(msgspec.Struct):
    """What became of one request; message and error are kept as JSON."""

    type: str
    message: msgspec.Raw = msgspec.Raw(b"")
    error: msgspec.Raw = msgspec.Raw(b"")


class ResultLine(msgspec.Struct):
    """One line of the results file."""

    custom_id: str
    result: Result


class Block(msgspec.Struct):
    """A content block; only text blocks are looked into."""

    type: str = ""
    text: str = ""


class CacheCreation(msgspec.Struct):
    """Tokens written to the prompt cache, by lifetime of the entry."""

    ephemeral_5m_input_tokens: int | None = 0
    ephemeral_1h_input_tokens: int | None = 0


class ServerToolUse(msgspec.Struct):
    """Calls of tools that the API runs itself."""

    web_search_requests: int | None = 0


class Usage(msgspec.Struct):
    """Tokens of one answer."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cache_creation_input_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    inference_geo: str | None = None


class Message(msgspec.Struct):
    """An answer, as far as records need it; usage is kept as JSON too."""

    content: list[Block] = []
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"")


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class ErrorEnvelope(msgspec.Struct):
    """The ``error`` of an errored line; the error proper is nested in it once more."""

    error: _Error = msgspec.field(default_factory=_Error)
    request_id: str | None = None


decode_line = msgspec.json.Decoder(ResultLine).decode
decode_message = msgspec.json.Decoder(Message).decode
decode_usage = msgspec.json.Decoder(Usage).decode
decode_error = msgspec.json.Decoder(ErrorEnvelope).decode


def split_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines of a download, blank ones left out; a last line without an end is given as it is."""
    rest: list[bytes] = []
    for block in blocks:
        if b"\n" not in block:
            rest.append(block)
            continue
        lines = block.split(b"\n")
        rest.append(lines[0])
        yield from filter(None, (b"".join(rest), *lines[1:-1]))
        rest = [lines[-1]]
    if last := b"".join(rest):
        yield last


def read_line(line: bytes) -> ResultLine | None:
    """A decoded line; None for one that is cut off or damaged beyond reading.

    A line with invalid UTF-8 is read with replacement characters: its answer is paid for.
    """
    try:
        return decode_line(line)
    except msgspec.DecodeError:
        pass
    try:
        return decode_line(line.decode("utf-8", errors="replace").encode())
    except msgspec.DecodeError:
        return None


def read_custom_ids(blocks: Iterable[bytes]) -> Iterator[str]:
    """The custom_ids of a results file."""
    for line in split_lines(blocks):
        if (row := read_line(line)) is not None:
            yield row.custom_id
