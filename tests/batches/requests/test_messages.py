"""Faults name place, type, length and rule; what the data holds is in none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.files import read_files
from airflow_claude_batch.batches.storage import Folder

CANARY = "KANARIENVOGEL"
DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10}


def fault(tmp_path: Path, rows: Any, **recipe: Any) -> str:
    reader = DocumentReader(locate=Folder.at, access=DocumentAccess([tmp_path.as_uri()]))
    folder = Folder.at(f"file://{tmp_path}/job")
    with pytest.raises(InputError) as caught:
        spool(rows, folder, defaults=DEFAULTS, recipe=Recipe(documents=reader, **recipe))
    return str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        {"custom_id": "a", "prompt": CANARY, "messages": [{"role": "user", "content": CANARY}]},
        {"custom_id": "a", "prompt": [CANARY, {5: CANARY}]},
        {"custom_id": "a", "prompt": CANARY, "max_tokens": CANARY},
        {"custom_id": "a", "prompt": CANARY, "temperature": CANARY},
        {"custom_id": "a", "messages": CANARY},
        {"custom_id": "a", "messages": [CANARY]},
        {"custom_id": "a", "messages": [{"role": "user", "content": {CANARY: CANARY}}]},
        {"custom_id": "a", "params": CANARY},
        {"custom_id": "a", "params": {}, "prompt": CANARY},
        {"custom_id": "a", "prompt": CANARY + "\ud800"},
        {"custom_id": "a", "prompt": "Hi", "note": {CANARY}},
        {"custom_id": "a", "prompt": "Hi", "note": CANARY.encode()},
        {"custom_id": "a", "prompt": "Read.", "documents": CANARY},
        {"custom_id": "a", "prompt": "Read.", "documents": {"uri": CANARY, "note": CANARY}},
        {"custom_id": "a", "prompt": "Read.", "documents": [[CANARY]]},
        {"custom_id": "a", "prompt": [CANARY], "documents": [{"file_id": "file_1"}]},
        [CANARY],
        CANARY.encode(),
    ],
)
def test_no_fault_of_a_record_holds_its_content(tmp_path: Path, record: Any) -> None:
    assert CANARY not in fault(tmp_path, [record])


@pytest.mark.parametrize(
    "prompt",
    ["{{ [].index(note) }}", "{{ {}[note] }}", "{{ note.missing }}", "{{ note + 5 }}", "{{ missing }}"],
)
def test_no_fault_of_a_template_holds_a_columns_value(tmp_path: Path, prompt: str) -> None:
    assert CANARY not in fault(tmp_path, [{"custom_id": "a", "note": CANARY}], prompt=prompt)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", f'{{"custom_id": "a", "prompt": "{CANARY}" {CANARY}}}\n'),
        ("b.jsonl", f'"{CANARY}"\n'),
        ("c.csv", f'custom_id,prompt\na,"{CANARY}" {CANARY}\n'),
        ("d.csv", f"custom_id,prompt\na,{CANARY},{CANARY}\n"),
        ("e.parquet", CANARY),
    ],
)
def test_no_fault_of_a_file_holds_its_content(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert CANARY not in fault(tmp_path, read_files([Folder.at(f"file://{tmp_path}/{name}")]))


def test_a_document_that_cannot_be_sent_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text(CANARY)
    rows = [{"custom_id": "a", "prompt": "Read.", "documents": [f"file://{tmp_path}/a.bin"]}]
    message = fault(tmp_path, rows)
    assert "a.bin" in message
    assert CANARY not in message
