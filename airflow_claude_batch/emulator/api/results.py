"""The download of results: shuffled, made while it is sent, kept for the next one, spoilt by fault rules."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.emulator.answers.message import message
from airflow_claude_batch.emulator.answers.outcomes import result_line
from airflow_claude_batch.emulator.answers.usage import NO_CACHE
from airflow_claude_batch.emulator.api.connection import close_after_sending
from airflow_claude_batch.emulator.api.models import CATALOGUE
from airflow_claude_batch.emulator.control.faults import (
    CutResults,
    DamageLines,
    DuplicateLines,
    Omit,
    RawLine,
    RawLines,
    ResultsFault,
)
from airflow_claude_batch.emulator.control.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import Receive, Scope, Send

    from airflow_claude_batch.emulator.api.batch import Batch

_BLOCK_LINES = 256
_KEPT_BYTES = 512 * 1024 * 1024
_INLINE_LINES = 16

Line = int | bytes
"""A line of a download: the index of a request, or the bytes themselves."""


class BlockCache:
    """Encoded blocks of lines, the least recently used dropped beyond a size."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0

    def clear(self) -> None:
        """Drop all blocks."""
        self._blocks.clear()
        self._size = 0

    def get(self, batch: Batch, number: int, lines: Sequence[Line]) -> bytes:
        """The block of this number, made if need be."""
        key = (batch.id, number)
        block = self._blocks.get(key)
        if block is None:
            block = encode(batch, lines)
            self._blocks[key] = block
            self._size += len(block)
            while self._size > _KEPT_BYTES:
                self._size -= len(self._blocks.popitem(last=False)[1])
        else:
            self._blocks.move_to_end(key)
        return block


def encode(batch: Batch, lines: Sequence[Line]) -> bytes:
    return b"".join(result_line(batch, line) if isinstance(line, int) else line for line in lines)


class ResultsResponse:
    """Streams a batch's result lines as an ASGI response."""

    def __init__(self, batch: Batch, cache: BlockCache, faults: list[ResultsFault]) -> None:
        self._batch = batch
        self._cache = cache
        self._lines: list[Line] = list(range(len(batch.custom_ids)))
        random.Random(batch.id).shuffle(self._lines)
        self._spoilt = bool(faults)
        self._dropped = False
        for fault in sorted(faults, key=lambda fault: isinstance(fault, CutResults)):
            self._spoil(fault)

    def _spoil(self, fault: ResultsFault) -> None:
        batch, lines = self._batch, self._lines
        if isinstance(fault, Omit):
            omitted = {i for i, custom_id in enumerate(batch.names) if custom_id in set(fault.custom_ids)}
            self._lines = [line for line in lines if line not in omitted]
        elif isinstance(fault, DamageLines):
            damaged = {i for i, custom_id in enumerate(batch.names) if custom_id in set(fault.custom_ids)}
            self._lines = [
                _damaged(encode(batch, [line]), fault.how) if line in damaged else line for line in lines
            ]
        elif isinstance(fault, DuplicateLines):
            wanted = set(fault.custom_ids)
            again = [i for i in lines if isinstance(i, int) and batch.names[i] in wanted]
            self._lines = [*lines, *(again if wanted else lines[: fault.count])]
        elif isinstance(fault, RawLines):
            self._insert([_raw_line(line) for line in fault.lines], fault.position)
        else:
            self._cut(fault)

    def _insert(self, extra: list[bytes], position: str) -> None:
        if position == "start":
            self._lines[:0] = extra
        elif position == "end":
            self._lines += extra
        else:
            gap = len(self._lines) // (len(extra) + 1)
            for number, line in reversed(list(enumerate(extra, 1))):
                self._lines.insert(number * gap, line)

    def _cut(self, fault: CutResults) -> None:
        at = int(len(self._lines) * fault.fraction)
        kept = self._lines[:at]
        if fault.mid_line and at < len(self._lines):
            whole = encode(self._batch, self._lines[at : at + 1])
            kept.append(whole[: len(whole) // 2])
        self._lines = kept
        self._dropped = not fault.clean_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/x-jsonl")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for block in self._blocks():
            await send({"type": "http.response.body", "body": block, "more_body": True})
        if self._dropped:
            await close_after_sending(scope, receive)
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _blocks(self) -> AsyncIterator[bytes]:
        for number, start in enumerate(range(0, len(self._lines), _BLOCK_LINES)):
            lines = self._lines[start : start + _BLOCK_LINES]
            if len(lines) <= _INLINE_LINES:
                yield self._block(number, lines)
            else:
                yield await asyncio.to_thread(self._block, number, lines)

    def _block(self, number: int, lines: Sequence[Line]) -> bytes:
        if self._spoilt:
            return encode(self._batch, lines)
        return self._cache.get(self._batch, number, lines)


def _raw_line(line: RawLine) -> bytes:
    if line.base64 is not None:
        return base64.b64decode(line.base64) + b"\n"
    if line.size is not None:
        params = {"messages": [{"role": "user", "content": "-"}], "max_tokens": line.size}
        settings = Settings(answer_bytes=line.size)
        result = {
            "type": "succeeded",
            "message": message(line.custom_id, params, CATALOGUE[0], 0, settings, NO_CACHE),
        }
        return msgspec.json.encode({"custom_id": line.custom_id, "result": result}) + b"\n"
    return (line.text or "").encode() + b"\n"


def _damaged(line: bytes, how: str) -> bytes:
    half = len(line) // 2
    if how == "half":
        return line[:half] + b"\n"
    if how == "garbled":
        return bytes(byte ^ 0x80 for byte in line[:-1]) + b"\n"
    if how == "joined":
        return line[:-1]
    if how == "torn":
        return line[:half] + b"\n" + line[half:]
    result = msgspec.json.decode(line)
    result.pop("custom_id")
    return msgspec.json.encode(result | ({"custom_id": "nobody"} if how == "other_id" else {})) + b"\n"
