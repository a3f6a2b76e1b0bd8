"""A prompt that uses no column: refused where it tries to, named where it is likely a mistake."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch import ClaudeBatchOperator, Documents
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.operators.conftest import Try
from tests.pdfs import pdf

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 50}
ROWS = [
    {"custom_id": f"r-{number}", "id": number, "text": "A secret.", "Order No.": "7", "label": "x"}
    for number in range(3)
]


def prompts(template: str, rows: list[Any], **recipe: Any) -> list[str]:
    build = RequestBuilder(Recipe(prompt=template, surroundings={"airflow": {"ds": "d"}}, **recipe), DEFAULTS)
    return [build(row, index).prompt for index, row in enumerate(rows)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "address", ["s3://c@b/prompts/a.md", "/opt/prompts/a.md", " ./a.txt\n", "s3://b/{{ airflow.ds }}.md"]
)
def test_the_address_of_a_prompt_is_not_sent_as_the_prompt(address: str) -> None:
    with pytest.raises(ConfigurationError, match="The prompt is an address"):
        prompts(address, ROWS)
    assert prompts(f"Is {address} a good name?", ROWS[:1])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{text}", "{{ text }}"),
        ("{ text }", "{{ text }}"),
        ("{text!r}", "{{ text }}"),
        ("{text:>20}", "{{ text }}"),
        ("{text[0]}", "{{ text }}"),
        ("{Order No.}", "{{ record['Order No.'] }}"),
        ("${text}", "{{ text }}"),
        ("$text", "{{ text }}"),
        ("%(text)s", "{{ text }}"),
    ],
)
def test_a_placeholder_of_another_language_that_names_a_column_is_refused(written: str, meant: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        prompts(f"Sum up: {written}.", ROWS)
    assert f"{written} in it is sent as it is written: the column is {meant};" in str(caught.value)
    assert "secret" not in str(caught.value)
    literal = f"{{{{ {written!r} }}}}"
    assert f"write {literal}." in str(caught.value)
    assert prompts(f"Sum up: {literal}.", ROWS[:1]) == [f"Sum up: {written}."]


@pytest.mark.parametrize(
    "template",
    [
        "Sum up:",
        "Sum up {other}, $5 or 100 %.",
        'Answer as {"label": "good"}',
        "Answer as {label: good or bad}",
        "{% raw %}{{ text }}{% endraw %}",
        "{# {text} #}Sum up:",
        "As of {{ airflow.ds }}:",
        "{% set name = 'x' %}{{ name }}",
    ],
)
def test_rows_that_all_ask_the_same_are_said_once(template: str, caplog: pytest.LogCaptureFixture) -> None:
    assert len(set(prompts(template, ROWS, custom_id="id"))) == 1
    [warning] = warnings(caplog)
    assert "all records ask the same" in warning
    assert "['Order No.', 'label', 'text']; {{ text }} in the prompt" in warning


@pytest.mark.parametrize(
    ("template", "rows"),
    [
        ("Sum up:", ROWS[:1]),
        ("Tell a joke.", [{"custom_id": "a"}, {"custom_id": "b"}]),
        ("{{ text }} as {label}", ROWS),
        ("{{ record }}", ROWS),
        ("{% for key in record %}{{ record[key] }}{% endfor %}", ROWS),
        ("{% if text %}long{% else %}short{% endif %}", ROWS),
    ],
)
def test_what_uses_columns_or_has_none_is_silent(
    template: str, rows: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(prompts(template, rows)) == len(rows)
    assert not warnings(caplog)


def test_texts_are_the_column_prompt(caplog: pytest.LogCaptureFixture) -> None:
    assert prompts("Sum up:", ["one", "two", "three"]) == ["Sum up:"] * 3
    assert "{{ prompt }} in the prompt" in warnings(caplog)[0]


def operator(tmp_path: Path, requests: Any, prompt: str) -> ClaudeBatchOperator:
    place = (tmp_path / "jobs").as_uri()
    return ClaudeBatchOperator(
        task_id="ask", requests=requests, prompt=prompt, storage_path=place, **DEFAULTS
    )


def test_nothing_is_sent_for_a_placeholder_of_another_language(emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"Nothing was sent.*{{ text }}"):
        operator(tmp_path, ROWS, "Sum up: {text}").execute(Try(task_id="ask").context)
    assert not emulator.journal(method="POST", path=CREATE)


def test_one_question_about_many_documents_is_asked_silently(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.settings(duration=0)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(3):
        (inbox / f"{number}.pdf").write_bytes(pdf())
    ask = operator(tmp_path, Documents(inbox.as_uri()), "What is the total?")
    assert ask.execute(Try(task_id="ask").context)["counts"]["succeeded"] == 3
    assert "ask the same" not in caplog.text


def test_rows_that_all_ask_the_same_are_named_in_the_log_of_the_task(
    emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.settings(duration=0)
    summary = operator(tmp_path, ROWS, "Sum up:").execute(Try(task_id="ask").context)
    assert summary["counts"]["succeeded"] == 3
    assert caplog.text.count("ask the same") == 1
    assert "secret" not in caplog.text
