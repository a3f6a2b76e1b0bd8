"""Every text of the page has its German, French and Dutch, with the same values in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import airflow_claude_batch.plugins
from airflow_claude_batch.batches.results.output_records import OUTCOMES

PLUGINS = Path(airflow_claude_batch.plugins.__file__).parent
SOURCE = {file.name: file.read_text() for file in (PLUGINS / "ui" / "src").iterdir()}
SAYING = ("_reason", "_in_flight", "_over", "_by_errors")
"""Functions of attention.py that say something."""
ROW = re.compile(r'^  (?:"(?P<quoted>[^"]*)"|(?P<bare>\w+)): \[(?P<others>.*)\],$', re.MULTILINE)
CATALOGUE = {
    row["quoted"] or row["bare"]: re.findall(r'"([^"]*)"', row["others"])
    for row in ROW.finditer(SOURCE["catalogue.ts"])
}


def arguments(source: str, start: int) -> list[str]:
    """String literals among a call's arguments, not those within arguments."""
    depth, found, at = 1, [], start
    while depth:
        if source[at] in "({[":
            depth += 1
        elif source[at] in ")}]":
            depth -= 1
        elif source[at] == '"':
            end = source.index('"', at + 1)
            if depth == 1:
                found.append(source[at + 1 : end])
            at = end
        at += 1
    return found


def written() -> set[str]:
    """What is handed to a translating function as it is."""
    calls = (
        arguments(text, call.end())
        for text in SOURCE.values()
        for call in re.finditer(r"(?<!\w)(?:t|tx|plural)\(", text)
    )
    says = (re.findall(r'says="([^"]+)"', text) for text in SOURCE.values())
    return {text for some in [*calls, *says] for text in some if re.search("[a-z]", text)}


def named() -> set[str]:
    """What is translated where it is shown: names of columns, states, choices."""
    found: set[str] = set()
    for text in SOURCE.values():
        found |= set(re.findall(r'(?:\bname|label|meaning): "([^"]+)"', text))
    for name in ("RESULTS", "PERIODS", "MEANINGS", "HEADS"):
        for text in SOURCE.values():
            for body in re.findall(rf"const {name}[^=]*= {{(.*?)}}", text, re.DOTALL):
                found |= set(re.findall(r': "([^"]+)"', body))
    return {text for text in found if len(text) > 1} | set(OUTCOMES)


def of_the_server() -> set[str]:
    """Reasons and advice of what needs attention."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PLUGINS / "attention.py").read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in SAYING:
            docstring = ast.get_docstring(node)
            found |= {
                one.value
                for one in ast.walk(node)
                if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value != docstring
            }
    sentences = {text for text in found if re.match(r"[A-Z{].* ", text)}
    open_ones = {text for text in sentences if not text.endswith((".", ": {error}."))}
    return sentences - open_ones | {f"{text}{end}" for text in open_ones for end in (".", ": {error}.")}


@pytest.mark.parametrize("source", [written, named, of_the_server])
def test_every_text_has_its_row(source) -> None:
    texts = source()
    assert len(texts) > 10
    assert sorted(texts - CATALOGUE.keys()) == []


def test_a_translation_holds_the_values_of_the_english_text() -> None:
    def values(text: str) -> list[str]:
        return sorted(re.findall(r"{\w+}", text))

    assert len(CATALOGUE) > 200
    assert [key for key, others in CATALOGUE.items() if len(others) != 3 or not all(others)] == []
    assert [
        (key, other) for key, others in CATALOGUE.items() for other in others if values(key) != values(other)
    ] == []


def test_no_row_is_of_a_text_that_is_gone() -> None:
    texts = written() | named() | of_the_server()
    everything = "\n".join(text for name, text in SOURCE.items() if name != "catalogue.ts")
    left = {key for key in CATALOGUE.keys() - texts if f'"{key}"' not in everything}
    dynamic = re.compile(r"Costs? by \w+|a (day|month)|(up for |upstream |no )?\w+|Succeeded|Errored|Summary")
    assert sorted(key for key in left if not dynamic.fullmatch(key)) == []
