"""`trial.run` understands what it is given as an operator does, or refuses it before anything is paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import pytest

from airflow_claude_batch import trial
from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.test_on_time import MODEL, rows


def run(emulator: Emulator, requests: Any, **options: Any) -> dict[str, Any]:
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    return trial.run(requests, **{**MODEL, "client": client, **options})


async def asynchronous() -> Any:
    yield {"prompt": "Hi"}


@pytest.mark.parametrize("requests", ["Hello", lambda: "Hello", {"prompt": "Hi"}, None, b"Hi", asynchronous])
def test_what_has_no_records_is_not_taken_to_pieces_and_asked(emulator: Emulator, requests: Any) -> None:
    with pytest.raises(InputError, match="records are wanted"):
        run(emulator, requests)
    assert emulator.journal() == []


@pytest.mark.parametrize("kind", [str, Path, lambda path: [str(path)]])
def test_addresses_are_those_of_files(emulator: Emulator, tmp_path: Path, kind: Any) -> None:
    file, system = tmp_path / "rows.jsonl", tmp_path / "system.md"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(3)))
    system.write_text("Be brief. " * 100)
    with_system = run(emulator, kind(file), system=str(system))
    without = run(emulator, kind(file))
    assert with_system["counts"]["succeeded"] == without["counts"]["succeeded"] == 3
    assert with_system["usage"]["input_tokens"] > without["usage"]["input_tokens"] + 300


def test_chunks_of_records_are_taken_apart(emulator: Emulator) -> None:
    assert run(emulator, [rows(5)[:2], rows(5)[2:]], records=4)["trial"]["of"] == 5


@pytest.mark.parametrize(
    "given",
    [
        {"records": 0},
        {"records": None},
        {"records": True},
        {"pick": "any"},
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"system": "prompts/x.md"},
        {"client": "key"},
    ],
)
def test_an_argument_that_breaks_a_rule_is_named_before_anything_is_sent(
    emulator: Emulator, given: dict[str, Any]
) -> None:
    [name] = given
    with pytest.raises(ConfigurationError, match=f"{name} is .*Nothing was sent"):
        run(emulator, rows(3), **given)
    assert emulator.journal() == []


def test_numbers_may_be_text_as_in_an_operator(emulator: Emulator) -> None:
    assert run(emulator, rows(3), records="2", concurrency="8")["counts"]["succeeded"] == 2


def test_what_only_batches_take_is_not_tried_by_single_calls(emulator: Emulator) -> None:
    with pytest.raises(ConfigurationError, match="batches only"):
        run(emulator, rows(3), message_params={"betas": ["output-300k-2026-03-24"]})
    assert emulator.journal() == []


def test_a_missing_key_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        trial.run(rows(2), **MODEL)
