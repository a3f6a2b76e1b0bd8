"""What an answer is: tool calls, empty and cut off answers, citations, the user's own check, labels."""

from __future__ import annotations

import json
import operator
import traceback
from pathlib import Path
from typing import Any

import pydantic
import pytest

from airflow_claude_batch import __version__
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import CheckError
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.results import read_errored, read_succeeded, to_arrow
from tests.batches.delivering import deliver, delivery_to, message_line, read_both, submit_all
from tests.batches.helpers import records

TOOL = {
    "name": "record_total",
    "input_schema": {
        "type": "object",
        "properties": {"total": {"type": "integer"}},
        "required": ["total"],
        "additionalProperties": False,
    },
}


def with_tool(count: int) -> list[dict[str, Any]]:
    choice = {"type": "tool", "name": "record_total"}
    return [record | {"tools": [TOOL], "tool_choice": choice} for record in records(count)]


def call(name: str, value: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": value}


def test_a_tool_call_is_the_output_and_is_checked_against_the_tools_own_schema(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, with_tool(5))
    lines = [
        message_line("r-0", [call("record_total", {"total": "many"})], "tool_use"),
        message_line("r-1", [call("delete_all", {})], "tool_use"),
        message_line(
            "r-2",
            [{"type": "text", "text": "Both."}, *[call("record_total", {"total": n}) for n in (1, 2)]],
            "tool_use",
        ),
        message_line("r-3", [call("record_total", {})], "max_tokens"),
    ]
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    succeeded, errored = read_both(tmp_path / "out")
    assert succeeded["r-4"]["tool"] == "record_total"
    assert isinstance(succeeded["r-4"]["output"]["total"], int)
    assert succeeded["r-2"]["output"] == [{"tool": "record_total", "input": {"total": n}} for n in (1, 2)]
    assert {key: record["error_type"] for key, record in errored.items()} == {
        "r-0": "tool_use",
        "r-1": "tool_use",
        "r-3": "max_tokens",
    }
    assert summary["counts"]["invalid"] == 3
    assert summary["empty"] == 0


def test_a_tool_call_has_to_fit_the_output_schema_where_one_was_asked_for(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, with_tool(1))
    bounded = {"type": "object", "properties": {"total": {"type": "string"}}}
    reading = Reading(output_schema=OutputSchema.of(bounded))
    deliver(root, url, delivery_to(tmp_path / "out", api, reading=reading), emulator)
    assert read_both(tmp_path / "out")[1]["r-0"]["outcome"] == "invalid"


LEADING_NOWHERE = [
    "#/$defs/Gone",
    "#/$defs/Circle",
    "#/required/a",
    "other.json",
    "file://{folder}/text.json",
]


@pytest.mark.parametrize("reference", LEADING_NOWHERE)
def test_a_tools_schema_opens_no_file_and_refuses_nothing_where_it_leads_nowhere(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, reference: str
) -> None:
    (tmp_path / "text.json").write_text('{"type": "string"}')
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": reference.format(folder=tmp_path)}},
        "required": ["a"],
        "$defs": {"Circle": {"$ref": "#/$defs/Circle"}},
    }
    tool = {"name": "note", "input_schema": schema}
    url = submit_all(root, api, [record | {"tools": [tool]} for record in records(1)])
    line = message_line("r-0", [call("note", {"a": 5})], "tool_use")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert read_both(tmp_path / "out")[0]["r-0"]["output"] == {"a": 5}


def test_what_is_wrong_with_a_call_is_said_in_short(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, with_tool(1))
    line = message_line("r-0", [call("record_total", {"total": "many" * 1000})], "tool_use")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert len(read_both(tmp_path / "out")[1]["r-0"]["message"]) <= 200


ANSWER = (
    '{"custom_id":"r-%d","result":{"type":"succeeded","message":{"content":[%s],"stop_reason":"end_turn",'
    '"model":"claude-haiku-4-5","usage":{"input_tokens":1000000000000000000000,"output_tokens":1}}}}'
)
DEEP = "[" * 100_000
ODD = [
    f'{{"type":"text","text":"{DEEP}"}}',
    f'{{"type":"tool_use","id":"t","name":"record_total","input":{{"total":{DEEP}{"]" * len(DEEP)}}}}}',
    '{"type":"tool_use","id":"t","name":"record_total","input":{"total":1e999}}',
    '{"type":"text","text":null}',
    '{"type":"text","text":["a"]}',
    '{"type":"text","text":"a"},{"type":"text","text":5}',
    '{"type":"text","text":"{}","citations":[{"cited_text":"a","start_char_index":1e30}]}',
    '{"type":"text","text":"{}","citations":[{"cited_text":"a","start_char_index":1000000000000000000000}]}',
]


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
@pytest.mark.parametrize("checked", [True, False])
def test_an_answer_that_nothing_can_read_costs_its_own_record_only(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any, checked: bool
) -> None:
    url = submit_all(root, api, with_tool(len(ODD) + 1))
    lines = [{"text": ANSWER % (number, content)} for number, content in enumerate(ODD)]
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    output = open_directory(Folder.at((tmp_path / "out").as_uri()), format=format)
    reading = Reading(output_schema=OutputSchema.of({"type": "object"}) if checked else None)
    delivery = delivery_to(tmp_path / "out", api, output=output, reading=reading)
    summary = deliver(root, url, delivery, emulator)
    succeeded = {"r-6", "r-7", "r-8"} | (set() if checked else {"r-0"})
    if format == "raw":  # what nobody looks into goes through
        assert summary["counts"]["succeeded"] == len(succeeded) + (not checked)
        return
    assert {record["custom_id"] for record in read_succeeded(summary)} == succeeded
    errored = {record["custom_id"]: record for record in read_errored(summary)}
    assert errored.keys() == {f"r-{number}" for number in range(len(ODD) + 1)} - succeeded
    assert errored["r-2"]["error_type"] == "tool_use"
    for unknown in ("r-1", "r-3", "r-4", "r-5"):
        assert "unknown shape" in errored[unknown]["message"]
    assert DEEP in errored["r-1"]["result"]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("empty", "empty"),
        ("thinking_only", "empty"),
        ("blank", "empty"),
        ("pause_turn", "pause_turn"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("max_tokens", "max_tokens"),
        ("refusal", "refusal"),
    ],
)
def test_answers_that_are_none_are_counted_apart_warned_of_and_fail_on_request(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, outcome: str, kind: str
) -> None:
    emulator.settings(outcomes={"failures": [{"custom_ids": ["r-0"], "outcome": outcome}]})
    url = submit_all(root, api, [record | {"max_tokens": 400} for record in records(3)])
    summary = deliver(root, url, delivery_to(tmp_path / "a", api), emulator)
    assert summary["counts"]["succeeded"] == 3
    assert summary["empty"] == (kind == "empty")
    assert summary["stop_reasons"].get(kind, 0) == (kind != "empty")
    assert [warning.rpartition("(")[2] for warning in summary["warnings"]] == [f"{kind})"]
    reading = Reading(count_as_failed=(kind,))
    deliver(root, url, delivery_to(tmp_path / "b", api, reading=reading), emulator)
    assert read_both(tmp_path / "b")[1]["r-0"]["error_type"] == kind


INVISIBLE = ["\u200b", " \ufeff\u2060\n", "\u00ad\u200d", "\u2800\u3164", "\ufe0f\U000e0101", "\x00\x7f\x85"]


@pytest.mark.parametrize("text", INVISIBLE)
def test_an_answer_of_which_nothing_can_be_seen_is_empty(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, text: str
) -> None:
    url = submit_all(root, api, records(2))
    seen = [
        message_line(f"r-{n}", [{"type": "text", "text": text + more}], "end_turn")
        for n, more in enumerate(["", "–"])
    ]
    emulator.fault("raw_lines", times=None, lines=seen, position="start")
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["empty"] == 1


def test_signs_that_stand_for_others_are_seen(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    lines = [
        message_line(f"r-{number}", [{"type": "text", "text": text}], "end_turn")
        for number, text in enumerate("\u0600\u06dd\U000110bd")
    ]
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["empty"] == 0


def test_more_than_a_tenth_failed_is_warned_of(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failures = [{"custom_ids": ["r-0", "r-1"], "error_type": "invalid_request_error"}]
    emulator.settings(outcomes={"failures": failures})
    url = submit_all(root, api, [record | {"max_tokens": 400} for record in records(8)])
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["warnings"] == ["2 of 8 requests failed (25%): 2 x invalid_request_error"]


def test_citations_say_what_is_quoted_and_where(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "Paid in May. All of it."}
    document = {"type": "document", "title": "Bill", "source": source, "citations": {"enabled": True}}
    content = [document, {"type": "text", "text": "When was it paid?"}]
    url = submit_all(root, api, [{"custom_id": "r-0", "messages": [{"role": "user", "content": content}]}])
    for format in ("jsonl", "parquet"):
        output = open_directory(Folder.at((tmp_path / format).as_uri()), format=format)  # type: ignore[arg-type]
        deliver(root, url, delivery_to(tmp_path / format, api, output=output), emulator)
        record = to_arrow(str(tmp_path / format)).to_pylist()[0]
        (citation,) = record["citations"]
        assert (citation["quote"], citation["document"]) == ("Paid in May.", "Bill")
        assert (citation["document_index"], citation["start_char"], citation["end_char"]) == (0, 0, 12)
        assert (citation["start_text"], citation["end_text"]) == (0, len(record["text"]))


def test_quotes_in_fields_are_found_in_what_was_sent(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "The sum of\n12 EUR is due."}
    content = [{"type": "document", "title": "Bill", "source": source}, {"type": "text", "text": "How much?"}]
    url = submit_all(root, api, [{"custom_id": "r-0", "messages": [{"role": "user", "content": content}]}])
    answer = {"total": 12, "total_quote": "sum of 12 EUR", "items": [{"quote": "never said"}]}
    line = message_line("r-0", [{"type": "text", "text": json.dumps(answer)}], "end_turn")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    reading = Reading(
        output_schema=OutputSchema.of({"type": "object"}), quotes=("total_quote", "items.quote")
    )
    deliver(root, url, delivery_to(tmp_path / "out", api, reading=reading), emulator)
    found, lost = read_both(tmp_path / "out")[0]["r-0"]["citations"]
    assert (found["document"], found["start_char"], found["end_char"]) == ("Bill", 4, 17)
    assert lost == {"quote": "never said", "field": "items.quote"}


def test_what_the_users_check_names_is_invalid(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    reading = Reading(user_check=lambda record: "odd" if record["input"]["n"] == 1 else None)
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, reading=reading), emulator)
    record = read_both(tmp_path / "out")[1]["r-1"]
    assert (record["outcome"], record["error_type"], record["message"]) == ("invalid", "check", "odd")
    assert record["model"].startswith("claude-haiku-4-5")
    assert summary["counts"]["succeeded"] == 2


def quotes(record: dict[str, Any]) -> str | None:
    raise ValueError(f"odd: {record['text']}")


def reads(record: dict[str, Any]) -> str | None:
    try:
        return str(json.loads(f"{{{record['text']}"))
    except ValueError as error:
        error.add_note(record["text"])
        raise LookupError(record["text"]) from error


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (lambda record: record["no such"], r"KeyError for the answer of r-0 \(.*test_answers.py, line \d+\)"),
        (lambda record: json.loads(record["text"]), r"JSONDecodeError .*test_answers.py, line \d+\)"),
        (quotes, r"ValueError for the answer of r-0 \(.*test_answers.py, line \d+\)"),
        (reads, r"LookupError for the answer of r-0 \(.*test_answers.py, line \d+\)"),
        (operator.itemgetter("no such"), r"KeyError for the answer of r-0\. Correct"),
        (lambda record: True, "returned a bool for the answer of r-0"),
    ],
)
def test_a_check_that_fails_itself_is_named_without_the_answer(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, check: Any, words: str
) -> None:
    url = submit_all(root, api, records(1))
    line = message_line("r-0", [{"type": "text", "text": "4711 euros"}], "end_turn")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    with pytest.raises(CheckError, match=words) as caught:
        deliver(root, url, delivery_to(tmp_path / "out", api, reading=Reading(user_check=check)), emulator)
    assert "4711" not in "".join(traceback.format_exception(caught.value))


class Odd(pydantic.BaseModel):
    total: int

    @pydantic.field_validator("total")
    @classmethod
    def look_up(cls, total: int) -> str:
        return {1: "one"}[total]


def test_a_validator_that_fails_itself_is_named_without_the_answer(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(1))
    line = message_line("r-0", [{"type": "text", "text": '{"total": 4711}'}], "end_turn")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    reading = Reading(output_schema=OutputSchema.of(Odd))
    with pytest.raises(
        CheckError, match=r"Odd raised KeyError for the answer of r-0 \(.*test_answers"
    ) as caught:
        deliver(root, url, delivery_to(tmp_path / "out", api, reading=reading), emulator)
    assert "4711" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_every_record_says_what_was_asked_by_which_prompt_and_version(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any
) -> None:
    emulator.settings(outcomes={"failures": [{"custom_ids": ["r-1"], "error_type": "invalid_request_error"}]})
    rows = [*records(2), {"custom_id": "again", "prompt": "Summarise 0"}]
    url = submit_all(root, api, rows)
    with open_job(root, url) as job, job.change() as ledger:
        ledger.prompt_version = "v3"
    output = open_directory(Folder.at((tmp_path / "out").as_uri()), format=format)
    deliver(root, url, delivery_to(tmp_path / "out", api, output=output), emulator)
    found = [
        record
        for set_ in ("succeeded", "errored")
        for record in to_arrow(str(tmp_path / "out"), set_).to_pylist()  # type: ignore[arg-type]
    ]
    assert {(record["prompt_version"], record["version"]) for record in found} == {("v3", __version__)}
    digests = {record["custom_id"]: record["request_digest"] for record in found}
    assert digests["r-0"] == digests["again"] != digests["r-1"]
