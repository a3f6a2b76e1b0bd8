"""What was sent in a part, for joining and counting: custom_ids, and the user's columns beside them.

Answers come in any order, so all custom_ids of a part are held, at about 200 bytes each. The columns
stay in memory while they are small and lie in an unnamed temporary file when they are not.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO

import msgspec

from airflow_claude_batch.batches.resultlines import NOTHING
from airflow_claude_batch.batches.storage import Folder, iter_blocks

IN_MEMORY_BYTES = 12 << 20
"""An inputs file up to this size is held in memory."""

TAKEN = msgspec.Raw(b"taken")
"""In place of the columns of a request whose answer has come."""


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    input: msgspec.Raw = NOTHING


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: str


_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_decode_ids = msgspec.json.Decoder(_IdOnly).decode_lines


class Inputs:
    """The requests of one part. What was answered is crossed out, so an object serves one download."""

    def __init__(self) -> None:
        self.waiting: dict[str, msgspec.Raw | int] = {}
        """By custom_id, in the order sent: the columns, their number in the file, or :data:`TAKEN`."""
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])

    @classmethod
    def read(cls, folder: Folder, name: str, *, columns: bool = True) -> Inputs:
        """The stored inputs file of a part.

        :param columns: whether the user's columns are wanted, too
        """
        inputs = cls()
        add = inputs._add if columns else inputs._add_ids
        size, rest = 0, b""
        with folder.open_read(name) as file:
            for block in iter_blocks(file):
                lines = rest + block
                end = lines.rfind(b"\n") + 1
                add(lines[:end])
                rest = lines[end:]
                size += end
                if columns and size > IN_MEMORY_BYTES:
                    inputs._spill()
        add(rest)
        if inputs._file is not None:
            inputs._spill()
            inputs._file.flush()
        return inputs

    def read_columns(self, columns: msgspec.Raw | int) -> msgspec.Raw:
        """The user's columns as JSON, empty where there are none."""
        if not isinstance(columns, int):
            return columns
        assert self._file is not None
        start, end = self._ends[columns], self._ends[columns + 1]
        return msgspec.Raw(os.pread(self._file.fileno(), end - start, start))

    def unanswered(self) -> Iterator[tuple[str, msgspec.Raw]]:
        """Requests for which nothing came, with the user's columns."""
        for custom_id, columns in self.waiting.items():
            if columns is not TAKEN:
                yield custom_id, self.read_columns(columns)

    def close(self) -> None:
        """Give memory and disk back."""
        if self._file is not None:
            self._file.close()

    def _add(self, lines: bytes) -> None:
        waiting = self.waiting
        for line in _decode_lines(lines):
            waiting[line.custom_id] = line.input

    def _add_ids(self, lines: bytes) -> None:
        self.waiting.update(dict.fromkeys([line.custom_id for line in _decode_ids(lines)], NOTHING))

    def _spill(self) -> None:
        """Move the columns that are in memory to the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="claude-batch-")  # noqa: SIM115  # closed in close()
        for custom_id in reversed(self.waiting):
            columns = self.waiting[custom_id]
            if isinstance(columns, int):
                break
            own = bytes(columns)
            self._file.write(own)
            self.waiting[custom_id] = len(self._ends) - 1
            self._ends.append(self._ends[-1] + len(own))
