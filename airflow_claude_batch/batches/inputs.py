"""What was sent in a part, for joining and counting: custom_ids, and the user's columns beside them.

Answers come in any order, so all custom_ids of a part are held, at about 200 bytes each. The columns
stay in memory while they are small and lie in an unnamed temporary file when they are not.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from airflow_claude_batch.batches.resultlines import NOTHING
from airflow_claude_batch.batches.storage import Folder, iter_blocks

IN_MEMORY_BYTES = 12 << 20
"""An inputs file up to this size is held in memory."""


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    input: msgspec.Raw = NOTHING


_decode_lines = msgspec.json.Decoder(_Line).decode_lines


class Inputs:
    """The requests of one part: row numbers by custom_id, columns by row."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        """Row number by custom_id, in the order sent."""
        self._memory: list[msgspec.Raw] = []
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])

    @classmethod
    def read(cls, folder: Folder, name: str) -> Inputs:
        """The stored inputs file of a part."""
        inputs = cls()
        size, rest = 0, b""
        with folder.open_read(name) as file:
            for block in iter_blocks(file):
                lines = rest + block
                end = lines.rfind(b"\n") + 1
                inputs._add(lines[:end])
                rest = lines[end:]
                size += end
                if size > IN_MEMORY_BYTES:
                    inputs._spill()
        inputs._add(rest)
        if inputs._file is not None:
            inputs._spill()
            inputs._file.flush()
        return inputs

    @property
    def columns(self) -> Callable[[int], msgspec.Raw]:
        """Gives the user's columns of a row as JSON, empty where there are none."""
        return self._memory.__getitem__ if self._file is None else self._read

    def unseen(self, seen: bytearray) -> Iterator[tuple[str, int]]:
        """Requests whose row is not marked."""
        return ((custom_id, row) for custom_id, row in self.rows.items() if not seen[row])

    def close(self) -> None:
        """Give memory and disk back."""
        if self._file is not None:
            self._file.close()

    def _add(self, lines: bytes) -> None:
        rows, memory, first = self.rows, self._memory, len(self.rows)
        for row, line in enumerate(_decode_lines(lines), first):
            rows[line.custom_id] = row
            memory.append(line.input)

    def _read(self, row: int) -> msgspec.Raw:
        assert self._file is not None
        start, end = self._ends[row], self._ends[row + 1]
        return msgspec.Raw(os.pread(self._file.fileno(), end - start, start))

    def _spill(self) -> None:
        """Move the columns that are in memory to the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="claude-batch-")  # noqa: SIM115  # closed in close()
        for columns in self._memory:
            own = bytes(columns)
            self._file.write(own)
            self._ends.append(self._ends[-1] + len(own))
        self._memory.clear()
