"""What spreadsheets show and what their files hold."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from airflow_claude_batch.batches.requests.files import read_files
from airflow_claude_batch.batches.storage import Folder

ROWS = [["id", "text", "lang"], [1, "a", "en"], [2, "b", "de"]]


def workbook(path: Path, rows: list[list[Any]], *merged: str) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for area in merged:
        book.active.merge_cells(area)
    book.save(path)
    return path


def with_size(path: Path, size: str) -> None:
    """Have a workbook's only sheet say of itself that it is so large."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    parts[sheet] = re.sub(rb'<dimension ref="[^"]*"', f'<dimension ref="{size}"'.encode(), parts[sheet])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def read(path: Path) -> list[Any]:
    return list(read_files([Folder.at(path.as_uri())]))


@pytest.mark.parametrize("size", ["A1", "A1:C2", "A1:B3", "A1:Z99"])
def test_all_rows_and_columns_are_read_whatever_size_the_sheet_says_it_has(tmp_path: Path, size: str) -> None:
    path = workbook(tmp_path / "a.xlsx", ROWS)
    with_size(path, size)
    assert read(path) == [{"id": 1, "text": "a", "lang": "en"}, {"id": 2, "text": "b", "lang": "de"}]
