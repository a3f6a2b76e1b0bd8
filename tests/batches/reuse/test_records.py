"""What a reused answer looks like when it is delivered: to the byte what it was when it was new."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.reuse import sources
from airflow_claude_batch.batches.storage import Folder
from tests.batches.reuse.nights import Nights, rows

TOOL = {"name": "count", "input_schema": {"type": "object", "properties": {"to": {"type": "integer"}}}}
CITATION = {"type": "char_location", "cited_text": "one", "document_index": 0, "start_char_index": 0}
CONTENTS: list[list[dict[str, Any]]] = [
    [{"type": "text", "text": '“one” – naïve, 一, \n\t\\ "quoted" \u2028'}],
    [{"type": "text", "text": "Both."}, {"type": "tool_use", "id": "t", "name": "count", "input": {"to": 3}}],
    [{"type": "text", "text": "one", "citations": [CITATION]}, {"type": "text", "text": " and two"}],
    [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "three"}],
]


def answer_with(nights: Nights, *messages: bytes) -> None:
    """Let requests be answered so, the first r-0."""
    lines = [
        b'{"custom_id":"r-%d","result":{"type":"succeeded","message":%b}}' % (number, message)
        for number, message in enumerate(messages)
    ]
    encoded = [{"base64": base64.b64encode(line).decode()} for line in lines]
    nights.emulator.fault("raw_lines", times=None, lines=encoded, position="start")


def message(content: list[dict[str, Any]]) -> bytes:
    usage = {"input_tokens": 7, "output_tokens": 5, "server_tool_use": None}
    stop_reason = "tool_use" if content[-1]["type"] == "tool_use" else "end_turn"
    return msgspec.json.encode(
        {"model": "claude-haiku-4-5", "content": content, "stop_reason": stop_reason, "usage": usage}
    )


def night_to(nights: Nights, night: int, requests: Any, **options: Any) -> Path:
    """A night with its own kind of output; returns the file of its succeeded records."""
    output = open_directory(Folder.at(nights.out(night).as_uri()), **options)
    nights.run(night, requests, output=output)
    [file] = [one for one in (nights.out(night) / "succeeded").iterdir() if one.stat().st_size]
    return file


@pytest.mark.parametrize("block", [1, sources.BLOCK])
@pytest.mark.parametrize("format", ["jsonl", "raw"])
def test_lines_of_reused_answers_are_those_of_the_new_ones_and_say_where_they_come_from(
    nights: Nights, format: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK", block)
    answer_with(nights, *map(message, CONTENTS))
    requests = [{**row, "tools": [TOOL]} for row in rows(range(50))]
    first = night_to(nights, 1, requests, format=format).read_bytes()
    second = night_to(nights, 2, requests, format=format).read_bytes()
    [batch] = nights.emulator.batches()
    reused = re.escape(f'"reused":{{"batch_id":"{batch["id"]}","answered_at":"').encode()
    origins = re.findall(b"," + reused + rb'[^"]{20,32}"}(?=}\n)', second)
    assert len(origins) == 50
    without = second.replace(origins[0], b"")
    assert without == re.sub(rb'"cost_usd":[^,]+,', b'"cost_usd":0.0,', first)
    assert len(without.splitlines()) == 50


def test_rows_of_reused_answers_are_those_of_the_new_ones(nights: Nights) -> None:
    answer_with(nights, *map(message, CONTENTS))
    requests = [{**row, "tools": [TOOL]} for row in rows(range(50))]
    options: dict[str, Any] = {"format": "parquet", "include_message": True, "include_reused": True}
    first, second = (pq.read_table(night_to(nights, n, requests, **options)).to_pylist() for n in (1, 2))
    [batch] = nights.emulator.batches()
    assert {row["reused"]["batch_id"] for row in second} == {batch["id"]}
    assert [row | {"cost_usd": None, "reused": None} for row in second] == [
        row | {"cost_usd": None} for row in first
    ]


def test_bytes_that_are_no_text_are_kept_as_they_came_and_mended_in_records(nights: Nights) -> None:
    broken = message([{"type": "text", "text": "a~b"}]).replace(b"~", b"\xff")
    answer_with(nights, broken)
    first = night_to(nights, 1, rows(range(3)), format="raw").read_bytes()
    assert broken in first
    assert broken in night_to(nights, 2, rows(range(3)), format="raw").read_bytes()
    nights.run(3, rows(range(3)))
    assert nights.records(3)[0]["r-0"]["text"] == "a\ufffdb"
