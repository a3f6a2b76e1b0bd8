"""The texts of a workbook's cells, in an unnamed temporary file: there may be a hundred megabytes of them.

A cell names its text by a number. ``openpyxl`` takes a list of all texts for that, once for each time that a
workbook is opened.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from typing import IO, Any


class Texts:
    """The texts, by number; empty until they are read."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="claude-batch-")  # noqa: SIM115  # goes with this object
        self._ends = array("Q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> str:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = self._ends[number]
        data = os.pread(self._file.fileno(), self._ends[number + 1] - start, start)
        return data.decode("utf-8", "surrogatepass")

    def read(self, source: IO[bytes]) -> None:
        """Take all texts of ``xl/sharedStrings.xml``."""
        from openpyxl.cell.text import Text
        from openpyxl.xml.constants import SHEET_MAIN_NS
        from openpyxl.xml.functions import iterparse

        root: Any = None
        for event, node in iterparse(source, events=("start", "end")):
            root = node if root is None else root
            if event == "end" and node.tag == f"{{{SHEET_MAIN_NS}}}si":
                text = Text.from_tree(node).content.replace("x005F_", "")  # as openpyxl does
                self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8", "surrogatepass")))
                root.clear()
        self._file.flush()


def open_workbook(file: IO[bytes], texts: Texts, *, data_only: bool) -> Any:
    """What ``openpyxl.load_workbook`` gives for reading row by row, with the texts of its cells elsewhere.

    Args:
        file: The workbook.
        texts: Filled where that was not done yet.
        data_only: Whether a formula is its stored value.
    """
    from openpyxl.reader.excel import ExcelReader
    from openpyxl.xml.constants import SHARED_STRINGS

    class Reader(ExcelReader):  # type: ignore[misc]  # openpyxl has no types
        def read_strings(self) -> None:
            part = self.package.find(SHARED_STRINGS)
            if part is not None and not len(texts):
                with self.archive.open(part.PartName[1:]) as source:
                    texts.read(source)
            self.shared_strings = texts

    reader = Reader(file, read_only=True, data_only=data_only)
    reader.read()
    for sheet in reader.wb.worksheets:
        sheet.reset_dimensions()  # some programs write A1, and what lies outside would not be read
    return reader.wb
