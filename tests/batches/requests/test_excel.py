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


def test_a_cell_that_is_merged_with_one_before_it_is_a_fault_of_its_row(tmp_path: Path) -> None:
    rows = [["team", "text"], ["red", "a"], [None, "b"], ["blue", "c"], ["Section", None], [None, "d"]]
    found = read(workbook(tmp_path / "a.xlsx", rows, "A2:A3", "A5:B5"))
    assert found[0] == {"team": "red", "text": "a"}
    assert [one.where.partition(".xlsx ")[2] for one in (found[1], found[3])] == [
        "row 3, column 'team'",
        "row 5, column 'text'",
    ]
    assert all(one.value == "a merged cell" and not one.ends for one in (found[1], found[3]))
    assert [found[2], found[4]] == [{"team": "blue", "text": "c"}, {"team": None, "text": "d"}]


def test_merged_cells_that_say_nothing_of_a_record_are_passed_over(tmp_path: Path) -> None:
    rows = [["team", "text"], ["red", "a"], [None, None], [None, "b"]]
    records = [{"team": "red", "text": "a"}, {"team": None, "text": "b"}]
    assert read(workbook(tmp_path / "a.xlsx", rows, "A2:A3", "B2:B3", "C1:D9")) == records
    blank = read(workbook(tmp_path / "b.xlsx", [["team", "text"], [None, "a"], [None, "b"]], "A2:A3"))
    assert blank == [{"team": None, "text": "a"}, {"team": None, "text": "b"}]
