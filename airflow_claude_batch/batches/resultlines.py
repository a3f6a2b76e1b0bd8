"""The lines of a results file, decoded no further than needed.

``{"custom_id": …, "result": {"type": "succeeded" | "errored" | "canceled" | "expired", …}}``, in any
order. Types are compared as text: one that does not exist yet must come out as itself. (The SDK's
own decoder turns an unknown type into the first one that it knows.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import cast

import msgspec

NOTHING = msgspec.Raw(b"")


class Block(msgspec.Struct, gc=False):
    """A content block; only text blocks are looked into."""

    type: str = ""
    text: msgspec.Raw = NOTHING
    """As JSON: it goes into the record as it is, so it is neither decoded nor encoded."""


class Message(msgspec.Struct, gc=False):
    """An answer, as far as records need it; usage is kept as JSON."""

    content: list[Block]
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NOTHING


class Result(msgspec.Struct, gc=False):
    """What became of one request; the error is kept as JSON."""

    type: str
    message: Message | None = None
    """The answer of a succeeded request; None where its shape is not known to this release."""
    error: msgspec.Raw = NOTHING


class ResultLine(msgspec.Struct, gc=False):
    """One line of the results file."""

    custom_id: str
    result: Result


class _LeanMessage(msgspec.Struct, gc=False):
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NOTHING


class _LeanResult(msgspec.Struct, gc=False):
    type: str
    message: _LeanMessage | None = None
    error: msgspec.Raw = NOTHING


class _LeanLine(msgspec.Struct, gc=False):
    custom_id: str
    result: _LeanResult


class CacheCreation(msgspec.Struct, gc=False):
    """Tokens written to the prompt cache, by lifetime of the entry."""

    ephemeral_5m_input_tokens: int | None = 0
    ephemeral_1h_input_tokens: int | None = 0


class ServerToolUse(msgspec.Struct, gc=False):
    """Calls of tools that the API runs itself."""

    web_search_requests: int | None = 0


class Usage(msgspec.Struct, gc=False):
    """Tokens of one answer."""

    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cache_creation_input_tokens: int | None = 0
    cache_read_input_tokens: int | None = 0
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    inference_geo: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class ErrorEnvelope(msgspec.Struct):
    """The ``error`` of an errored line; the error proper is nested in it once more."""

    error: _Error = msgspec.field(default_factory=_Error)
    request_id: str | None = None


class _WholeResult(msgspec.Struct):
    custom_id: str
    result: msgspec.Raw = NOTHING


class _WholeMessage(msgspec.Struct):
    message: msgspec.Raw = NOTHING


class _ResultType(msgspec.Struct):
    type: str = "unknown"


decode_line = msgspec.json.Decoder(ResultLine).decode
decode_without_content: Callable[[bytes], ResultLine] = cast(
    "Callable[[bytes], ResultLine]", msgspec.json.Decoder(_LeanLine).decode
)
"""Like :data:`decode_line`, for those who never look at ``message.content``; there is none then."""
decode_usage = msgspec.json.Decoder(Usage).decode
decode_error = msgspec.json.Decoder(ErrorEnvelope).decode
_decode_whole = msgspec.json.Decoder(_WholeResult).decode
_decode_type = msgspec.json.Decoder(_ResultType).decode
_decode_message = msgspec.json.Decoder(_WholeMessage).decode


def split_lines(blocks: Iterable[bytes], size: int = 1 << 17, *, mend: bool = False) -> Iterator[list[bytes]]:
    """Lines of a download, by the list, without blank ones; a last line without an end is given as it is.

    :param size: bytes that are gathered before they are split
    :param mend: replace what is no valid UTF-8, for those who carry texts through unread
    """
    check: Callable[[bytes], bytes] = _valid if mend else bytes
    rest: list[bytes] = []
    held, split_at = 0, size
    broken: Exception | None = None
    try:
        for block in blocks:
            rest.append(block)
            held += len(block)
            if held < split_at:
                continue
            lines = check(b"".join(rest)).split(b"\n")
            rest = [lines.pop()]
            held = len(rest[0])
            # A line longer than that is joined a few times, not once for each block.
            split_at = max(size, 2 * held)
            if lines:
                yield [line for line in lines if line]
    except Exception as error:  # noqa: BLE001  # raised below; what came before it counts
        broken = error
    yield [line for line in check(b"".join(rest)).split(b"\n") if line]
    if broken is not None:
        raise broken


def _valid(data: bytes) -> bytes:
    """The same bytes as long as they are valid UTF-8, up to their last end of line."""
    if data.isascii():
        return data
    end = data.rfind(b"\n") + 1 or len(data)
    try:
        str(memoryview(data)[:end], "utf-8")
    except UnicodeDecodeError:
        return data[:end].decode("utf-8", errors="replace").encode() + data[end:]
    return data


def read_line(line: bytes) -> tuple[bytes, ResultLine] | None:
    """A line and what it says; None for one that is cut off or damaged beyond reading.

    One of an unknown shape is read as far as its custom_id and its type. What JSON can hold and UTF-8
    cannot (half a surrogate pair) is replaced in the line that is returned.
    """
    try:
        return line, decode_line(line)
    except msgspec.ValidationError:
        row = _read_unknown(line)
        return None if row is None else (line, row)
    except msgspec.DecodeError:
        mended = _mend(line)
        return None if mended is None or mended == line else read_line(mended)


def _mend(line: bytes) -> bytes | None:
    """The same JSON with all its text in UTF-8; None for what is no JSON."""
    try:
        text = json.dumps(json.loads(line.decode(errors="replace")), ensure_ascii=False)
    except ValueError:
        return None
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _read_unknown(line: bytes) -> ResultLine | None:
    try:
        whole = _decode_whole(line)
    except msgspec.DecodeError:
        return None
    try:
        kind = _decode_type(whole.result).type
    except msgspec.DecodeError:
        kind = "unknown"
    return ResultLine(custom_id=whole.custom_id, result=Result(type=kind))


def whole_result(line: bytes) -> msgspec.Raw:
    """The ``result`` of a readable line, as the API sent it."""
    return _decode_whole(line).result or msgspec.Raw(b"null")


def whole_message(line: bytes) -> msgspec.Raw:
    """The ``message`` of a readable succeeded line, as the API sent it."""
    return _decode_message(whole_result(line)).message


def read_error(error: msgspec.Raw) -> ErrorEnvelope:
    """The error of an errored line; an empty one where its shape is not known."""
    try:
        return decode_error(error)
    except msgspec.DecodeError:
        return ErrorEnvelope()


def read_usage(usage: msgspec.Raw) -> Usage | None:
    """The usage of an answer; None where there is none that can be read."""
    try:
        return decode_usage(usage)
    except msgspec.DecodeError:
        return None


def read_custom_ids(blocks: Iterable[bytes]) -> Iterator[str]:
    """The custom_ids of a results file."""
    for lines in split_lines(blocks):
        for line in lines:
            if (readable := read_line(line)) is not None:
                yield readable[1].custom_id
