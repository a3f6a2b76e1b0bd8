"""The lines of a results file, decoded no further than needed.

``{"custom_id": …, "result": {"type": "succeeded" | "errored" | "canceled" | "expired", …}}``, in any
order. Types are compared as text: one that does not exist yet must come out as itself. (The SDK's
own decoder turns an unknown type into the first one that it knows.)
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, pairwise
from typing import Annotated, Any, NamedTuple

import msgspec

NOTHING = msgspec.Raw(b"")
PIECE = 1 << 15
"""Bytes of a text that are looked at at a time."""


class Block(msgspec.Struct, gc=False):
    """A content block; text blocks and calls of the user's tools are looked into."""

    type: str = ""
    text: msgspec.Raw = NOTHING
    """As JSON: it goes into the record as it is, so it is neither decoded nor encoded."""
    name: str | None = None
    """Of a ``tool_use`` block: the tool."""
    input: msgspec.Raw = NOTHING
    """Of a ``tool_use`` block, as JSON."""
    citations: Any = None
    """Of a text block."""


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


class Reused(msgspec.Struct, gc=False):
    """Where an answer comes from that was not asked for."""

    batch_id: str | None
    """The batch that gave it; None where it was a single call."""
    answered_at: str
    """When, in ISO 8601."""


class ResultLine(msgspec.Struct, gc=False):
    """One line of the results file."""

    custom_id: str
    result: Result
    reused: Reused | None = None
    """Where the answer comes from, if it was given to another request; not the API's."""


class CacheCreation(msgspec.Struct, gc=False):
    """Tokens written to the prompt cache, by lifetime of the entry."""

    ephemeral_5m_input_tokens: int | None = 0
    ephemeral_1h_input_tokens: int | None = 0


class ServerToolUse(msgspec.Struct, gc=False):
    """Calls of tools that the API runs itself."""

    web_search_requests: int | None = 0


Tokens = Annotated[int, msgspec.Meta(le=(1 << 63) - 1)]
"""As many as Parquet holds."""


class Usage(msgspec.Struct, gc=False):
    """Tokens of one answer."""

    input_tokens: Tokens | None = 0
    output_tokens: Tokens | None = 0
    cache_creation_input_tokens: Tokens | None = 0
    cache_read_input_tokens: Tokens | None = 0
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    inference_geo: str | None = None
    service_tier: str | None = None


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


_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_DEEP = re.compile(rb'{"custom_id": ?"([\w-]+)", ?"result": ?{(?:"type": ?"(\w+)")?')
"""The beginning of a line, as the API writes it."""
_decode_line = msgspec.json.Decoder(ResultLine).decode
_decode_lines = msgspec.json.Decoder(ResultLine).decode_lines
decode_error = msgspec.json.Decoder(ErrorEnvelope).decode
_decode_usage = msgspec.json.Decoder(Usage).decode
_decode_usages = msgspec.json.Decoder(Usage).decode_lines
_decode_whole = msgspec.json.Decoder(_WholeResult).decode
_decode_any = msgspec.json.Decoder().decode
_decode_type = msgspec.json.Decoder(_ResultType).decode
_decode_message = msgspec.json.Decoder(_WholeMessage).decode


class Lines:
    """Some lines of a results file, decoded. Where each begins and ends is found out only when asked for.

    Args:
        rows: What the lines say, in their order.
        data: The same lines as they came, each with its end; or what makes them.
    """

    __slots__ = ("_data", "_starts", "rows")

    def __init__(self, rows: list[ResultLine], data: bytes | Callable[[], bytes]) -> None:
        self.rows = rows
        self._data = data
        self._starts: list[int] = []

    @property
    def data(self) -> bytes:
        """The lines as they came, each with its end."""
        if not isinstance(self._data, bytes):
            self._data = self._data()
        return self._data

    @property
    def texts(self) -> list[bytes]:
        """Each line, with its end."""
        return [self.data[start:end] for start, end in pairwise(self._places())]

    def select(self, chosen: Sequence[bool]) -> Lines:
        """Those that are chosen."""
        return Lines(list(compress(self.rows, chosen)), lambda: self._cut(bytes(chosen)))

    def _cut(self, chosen: bytes) -> bytes:
        """Chosen lines; what lies side by side is copied as one piece."""
        data, starts, pieces = self.data, self._places(), []
        first = chosen.find(1)
        while first >= 0:
            behind = chosen.find(0, first)
            behind = len(chosen) if behind < 0 else behind
            pieces.append(data[starts[first] : starts[behind]])
            first = chosen.find(1, behind)
        return b"".join(pieces)

    def _places(self) -> list[int]:
        """Where each line starts, and where the last one ends."""
        if not self._starts:
            data, end, starts = self.data, 0, [0]
            while end := data.find(b"\n", end) + 1:
                starts.append(end)
            self._starts = starts
        return self._starts


class ReadLines(NamedTuple):
    """What could be read of some lines, and what could not."""

    lines: Lines
    line_count: int
    """How many lines there are, blank ones included."""
    numbers: Sequence[int]
    """Which of them each row is, counted from 0."""
    damaged: list[int]
    """Those that hold something, and not one result."""


def read_lines(data: bytes) -> ReadLines:
    """Decode whole lines.

    Args:
        data: Lines as they came; the last may lack its end.
    """
    if data.endswith(b"\n"):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            rows = _decode_lines(data)
            # The decoder takes results as they follow each other, two in a line as well.
            if bytes([line[0] for line in io.BytesIO(data)]) == b"{" * len(rows):
                return ReadLines(Lines(rows, data), len(rows), range(len(rows)), [])
    readable, damaged, all_lines = dict[int, tuple[bytes, ResultLine]](), list[int](), data.split(b"\n")
    for number, text in enumerate(all_lines):
        if not text.strip():
            continue
        if (line := read_line(text)) is None:
            damaged.append(number)
        else:
            readable[number] = line
    lines = Lines(
        [row for _, row in readable.values()], b"\n".join([*(text for text, _ in readable.values()), b""])
    )
    return ReadLines(lines, len(all_lines) - 1, list(readable), damaged)


def whole_lines(blocks: Iterable[bytes], size: int = 1 << 19) -> Iterator[bytes]:
    """Cut a download into blocks that end where a line ends; the last one is given as it is.

    Args:
        blocks: The bytes as they come.
        size: Bytes that are gathered for a block.

    Yields:
        Some whole lines.
    """
    held: list[bytes | memoryview] = []
    length = 0
    broken: Exception | None = None
    try:
        for block in blocks:
            length += len(block)
            end = block.rfind(b"\n") + 1 if length >= size else 0
            if not end:
                held.append(block)
                continue
            view = memoryview(block)
            yield b"".join([*held, view[:end]])
            held, length = [view[end:]], len(block) - end
    except Exception as error:  # noqa: BLE001  # raised below; what came before it counts
        broken = error
    if rest := b"".join(held):
        yield rest
    if broken is not None:
        raise broken


def as_utf_8(data: bytes) -> bytes:
    """The same bytes with what is no valid UTF-8 replaced, for those who carry texts through unread."""
    if data.isascii():
        return data
    view, start, length = memoryview(data), 0, len(data)
    try:
        # In pieces, because memory for a text as long as a block is asked of the system each time.
        while start < length:
            end = min(start + PIECE, length)
            while end < length and data[end] & 0b1100_0000 == 0b1000_0000:  # amidst a character
                end += 1
            str(view[start:end], "utf-8")
            start = end
    except UnicodeDecodeError:
        return data.decode("utf-8", errors="replace").encode()
    return data


def read_line(line: bytes) -> tuple[bytes, ResultLine] | None:
    """A line and what it says; None for one that is cut off or damaged beyond reading.

    One of an unknown shape is read as far as its custom_id and its type. What JSON can hold and UTF-8
    cannot (half a surrogate pair) is replaced in the line that is returned.
    """
    try:
        return line, _decode_line(line)
    except msgspec.ValidationError:
        row = _read_unknown(line)
        return None if row is None else (line, row)
    except RecursionError:
        deep = _read_deep(line)
        return None if deep is None else (line, deep)
    except msgspec.DecodeError:
        mended = _mend(line)
        return None if mended is None or mended == line else read_line(mended)


def _mend(line: bytes) -> bytes | None:
    """The same JSON with all its text in UTF-8; None for what is no JSON."""
    try:
        text = json.dumps(json.loads(line.decode(errors="replace")), ensure_ascii=False)
    except (ValueError, RecursionError):
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


def _read_deep(line: bytes) -> ResultLine | None:
    """One of more levels than any decoder follows; None where it does not end, as one that is cut off."""
    begin, brackets = _DEEP.match(line), _STRING.sub(b"", line)
    opened = brackets.count(b"{"), brackets.count(b"[")
    if begin is None or opened != (brackets.count(b"}"), brackets.count(b"]")):
        return None
    return ResultLine(custom_id=begin[1].decode(), result=Result(type=(begin[2] or b"unknown").decode()))


def whole_result(line: bytes) -> msgspec.Raw:
    """The ``result`` of a readable line, as the API sent it; the line as text, where it cannot be decoded."""
    try:
        result = _decode_whole(line).result or msgspec.Raw(b"null")
        _decode_any(result)
    except (msgspec.DecodeError, RecursionError):  # too many levels, or a number that is out of all range
        return _as_text(line)
    return result


def whole_message(line: bytes) -> msgspec.Raw:
    """The ``message`` of a readable succeeded line, as the API sent it; a line of too many levels as text."""
    try:
        return _decode_message(_decode_whole(line).result).message
    except RecursionError:
        return _as_text(line)


def _as_text(line: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(line.decode(errors="replace")))


def read_error(error: msgspec.Raw) -> ErrorEnvelope:
    """The error of an errored line; an empty one where its shape is not known."""
    try:
        return decode_error(error)
    except msgspec.DecodeError:
        return ErrorEnvelope()


def read_usage(usage: msgspec.Raw) -> Usage | None:
    """The usage of an answer; None where there is none that can be read."""
    try:
        return _decode_usage(usage)
    except msgspec.DecodeError:
        return None


def read_usages(messages: Sequence[Message]) -> list[Usage]:
    """The usages of answers, all zero where there is none that can be read."""
    if not messages:
        return []
    usages = [message.usage for message in messages]
    with contextlib.suppress(msgspec.DecodeError):
        decoded = _decode_usages(b"\n".join(usages))
        if len(decoded) == len(usages):
            return decoded
    return [read_usage(usage) or Usage() for usage in usages]


def read_custom_ids(blocks: Iterable[bytes]) -> Iterator[str]:
    """The custom_ids of a results file."""
    for data in whole_lines(blocks):
        for row in read_lines(data).lines.rows:
            yield row.custom_id
