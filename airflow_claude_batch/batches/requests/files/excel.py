"""The sheet of an Excel file (.xlsx): its first row names the columns.

A cell is text, a number, true or false, or ISO 8601 text for dates and times. A formula is its stored value;
one without, and an error such as ``#N/A``, is a fault of its row.
"""

from __future__ import annotations

import datetime
import importlib.util
import re
import zipfile
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any, cast

from airflow_claude_batch.batches.errors import missing_package
from airflow_claude_batch.batches.requests.files.excel_texts import Texts, open_workbook
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.rows import Broken, Row, UnreadableFileError, pick, shown
from airflow_claude_batch.batches.requests.files.stored import Stored

MOST_BYTES = 1_000_000_000
"""Of the whole file, unpacked: Excel's limit of 1,048,576 rows, of about a kilobyte."""
MOST_TEXTS = 100_000_000
"""Bytes of the texts of all cells, which are on disk together."""
TEXTS = "xl/sharedStrings.xml"
_FORMULA = re.compile(rb"<(?:[\w.-]+:)?f[\s/>]")
_MERGED = re.compile(rb"<(?:[\w.-]+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]+)(\d+):([A-Z]+)(\d+)")
_TAG_BYTES = 64
"""Longer than the beginning of a formula, and than a merged area."""
_PIECE = 1 << 16
"""Bytes of a part that are looked at together."""

Cells = tuple[Any, ...]
Area = tuple[int, int, int, int]
"""First and last row, first and last column, from 1."""


def read_xlsx(stored: Stored, options: ReadOptions) -> Iterator[Row]:
    """The rows.

    Raises:
        UnreadableFileError: Where it cannot be read.
        ConfigurationError: Without openpyxl.
    """
    if importlib.util.find_spec("openpyxl") is None:
        raise missing_package(f"Reading {stored.url}", "openpyxl", "excel")
    stored.random.seek(0)
    _check_sizes(stored)
    texts = Texts()
    values = open_workbook(stored.random, texts, data_only=True)
    name = _sheet(values, stored, options)
    rows: Iterator[tuple[Cells, Cells]] = ((cells, cells) for cells in values[name].iter_rows())
    if _has_formulas(stored):
        # Twice, side by side: a formula that was never computed looks like an empty cell without its text.
        formulas = open_workbook(stored.random, texts, data_only=False)
        rows = zip_longest(values[name].iter_rows(), formulas[name].iter_rows(), fillvalue=())
    yield from _rows(stored.url, rows, options, _Merged(_merged_areas(stored, values[name])))


def _has_formulas(stored: Stored) -> bool:
    """Whether any sheet may have one; to look costs a small part of what reading twice does."""
    with zipfile.ZipFile(stored.random) as archive:
        parts = (name for name in archive.namelist() if name.endswith(".xml") and name != TEXTS)
        return any(_FORMULA.search(text) for name in parts for text in _pieces(archive, name))


def _pieces(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """A part of a workbook in pieces; each begins with the end of the one before."""
    end = b""
    with archive.open(name) as file:
        while block := file.read(_PIECE):
            yield end + block
            end = block[-_TAG_BYTES:]


def _merged_areas(stored: Stored, sheet: Any) -> set[Area]:
    """The merged areas of a sheet, which its file names behind the cells."""
    from openpyxl.utils import column_index_from_string as number_of

    with zipfile.ZipFile(stored.random) as archive:
        found = (
            match for text in _pieces(archive, sheet._worksheet_path) for match in _MERGED.finditer(text)
        )
        return {
            (int(match[2]), int(match[4]), number_of(match[1].decode()), number_of(match[3].decode()))
            for match in found
        }


class _Merged:
    """Which cells of a row are merged with one before them that has a value."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self._ahead = sorted(areas, reverse=True)
        self._here: list[Area] = []

    def covered(self, row: int, cells: Cells) -> set[int]:
        """The places of such cells in a row; rows are asked about in their order."""
        self._here = [area for area in self._here if area[1] >= row]
        places = {place for _, _, left, right in self._here for place in range(left - 1, right)}
        while self._ahead and self._ahead[-1][0] <= row:
            area = self._ahead.pop()
            _, _, left, right = area
            if left <= len(cells) and cells[left - 1].value is not None:
                self._here.append(area)
                places.update(range(left, right))
        return places


def _check_sizes(stored: Stored) -> None:
    try:
        with zipfile.ZipFile(stored.random) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
    except zipfile.BadZipFile:
        raise UnreadableFileError(
            "the file is no Excel workbook (.xlsx), or damaged", "no zip archive"
        ) from None
    if not any(name.startswith("xl/") for name in sizes):
        raise UnreadableFileError(
            "the file is a zip archive but no Excel workbook; unpack it", "a zip archive"
        )
    if sum(sizes.values()) > MOST_BYTES or sizes.get(TEXTS, 0) > MOST_TEXTS:
        rule = f"a workbook has at most {MOST_BYTES} bytes, its texts {MOST_TEXTS}; save it as CSV"
        raise UnreadableFileError(rule, "more")
    stored.random.seek(0)


def _sheet(workbook: Any, stored: Stored, options: ReadOptions) -> str:
    """The name of the sheet with the rows."""
    sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
    names = [sheet.title for sheet in sheets]
    if options.sheet is not None:
        every = [sheet.title for sheet in workbook.worksheets]
        if options.sheet not in every:
            raise UnreadableFileError(f"the workbook has no such sheet; it has {shown(every)}", "sheet")
        return options.sheet
    filled = [sheet.title for sheet in sheets if any(_filled(row) for row in sheet.iter_rows())]
    if len(filled) > 1:
        raise UnreadableFileError("say which sheet=… has the records", shown(filled))
    if not filled:
        raise UnreadableFileError("a sheet has a row with the names of its columns, and rows", "nothing")
    if len(workbook.worksheets) > 1:
        stored.guess(f"sheet {names.index(filled[0]) + 1} of {len(workbook.worksheets)}")
    return cast("str", filled[0])


def _filled(cells: Cells) -> bool:
    return any(cell.value is not None for cell in cells)


def _rows(
    url: str, rows: Iterator[tuple[Cells, Cells]], options: ReadOptions, merged: _Merged
) -> Iterator[Row]:
    header: list[str] = []
    names: list[str] = []
    if options.header is not None and not isinstance(options.header, bool):
        header = list(options.header)
        names = pick(options.columns, header)
    for number, (values, formulas) in enumerate(rows, 1):
        covered = merged.covered(number, formulas)
        if not _filled(formulas):
            continue
        if not header:
            header = _header(values, number)
            names = pick(options.columns, header)
        else:
            where = f"{url} row {number}"
            row = _row(where, values, formulas, header, names)
            hidden = [header[place] for place in sorted(covered) if place < len(header)]
            yield row if isinstance(row, Broken) else _refuse_hidden(where, row, hidden)


def _header(cells: Cells, number: int) -> list[str]:
    names = ["" if cell.value is None else str(cell.value) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        rule = "each column has a name; where this row is a title, take away what is above the names"
        raise UnreadableFileError(rule, "an empty cell", f"row {number}")
    return names


def _row(where: str, values: Cells, formulas: Cells, header: list[str], names: list[str]) -> Row:
    record: dict[str, Any] = dict.fromkeys(header)
    for place, (cell, formula) in enumerate(zip(values, formulas, strict=False)):
        if formula.value is None:
            continue
        if place >= len(header):
            rule = "each column with a value has a name"
            if len(header) == 1:
                rule += "; where the first row is a title, take away what is above the names"
            return Broken(where=where, value=f"column {place + 1}", rule=rule)
        name = header[place]
        if name not in names:
            continue
        there = f"{where}, column {name!r}"
        if cell.value is None:
            rule = "a formula has a value: open the file in a spreadsheet and save it"
            return Broken(where=there, value="a formula that was never computed", rule=rule)
        if cell.data_type == "e":
            return Broken(where=there, value="an error of a formula", rule="a cell has a value, no error")
        record[name] = _value(cell.value)
    return {name: record[name] for name in names}


def _refuse_hidden(where: str, row: dict[str, Any], hidden: list[str]) -> Row:
    """The row, unless a cell that is merged with one before it should say something."""
    for name in hidden:
        if name in row and row[name] is None:
            rule = "each row has its own values: unmerge the cells, and fill in what each stands for"
            return Broken(where=f"{where}, column {name!r}", value="a merged cell", rule=rule)
    return row


def _value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return (value.date() if value.time() == datetime.time() else value).isoformat()
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return f"PT{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "S"
    return int(value) if isinstance(value, float) and value.is_integer() else value
