"""What was sent in a part, for joining and counting: custom_ids, and the user's columns beside them.

Answers come in any order, so all custom_ids of a part are held, at about 200 bytes each. The columns
stay in memory while they are small and lie in an unnamed temporary file when they are not.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.resultlines import NOTHING, whole_lines
from airflow_claude_batch.batches.storage import BLOCK, Folder, iter_blocks

IN_MEMORY_BYTES = 12 << 20
"""An inputs file up to this size is held in memory."""


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    input: msgspec.Raw = NOTHING


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: str


_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_decode_ids = msgspec.json.Decoder(_IdOnly).decode_lines


class _Stored:
    """The stored inputs file of a part."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name

    def was_sent(self, custom_id: str) -> bool:
        """Whether there is such a request, taken or not."""
        return custom_id in self._sent

    @cached_property
    def _sent(self) -> set[str]:
        return Ids(self._folder, self._name)._waiting

    def _blocks(self) -> Iterator[bytes]:
        with self._folder.open_read(self._name) as file:
            yield from whole_lines(iter_blocks(file), BLOCK)


class Ids(_Stored):
    """The requests of one part by their custom_ids alone. What was answered is taken out.

    So an object serves one delivery.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        super().__init__(folder, name)
        self._waiting: set[str] = set()
        for lines in self._blocks():
            self._waiting.update([line.custom_id for line in _decode_ids(lines)])

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, custom_ids: Sequence[str]) -> list[msgspec.Raw | None]:
        """Take requests out: nothing as JSON for each, None for what was taken before or never sent."""
        found = self._waiting.intersection(custom_ids)
        self._waiting -= found
        if len(found) == len(custom_ids):
            return [NOTHING] * len(found)
        taken: list[msgspec.Raw | None] = []
        for custom_id in custom_ids:
            taken.append(NOTHING if custom_id in found else None)
            found.discard(custom_id)
        return taken

    def unanswered(self) -> Iterator[tuple[str, msgspec.Raw]]:
        """Requests that nobody took, in the order sent."""
        for lines in self._blocks() if self._waiting else ():
            ids = (line.custom_id for line in _decode_ids(lines))
            yield from ((custom_id, NOTHING) for custom_id in ids if custom_id in self._waiting)

    def close(self) -> None:
        """Nothing is open."""


class Inputs(_Stored):
    """The requests of one part and the user's columns. What was answered is taken out, as in :class:`Ids`."""

    def __init__(self, folder: Folder, name: str) -> None:
        super().__init__(folder, name)
        self._waiting: dict[str, bytes | int] = {}
        """By custom_id, in the order sent: the columns, or their number in the file."""
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])
        size = 0
        for lines in self._blocks():
            for line in _decode_lines(lines):
                self._waiting[line.custom_id] = bytes(line.input)  # a copy, so that the file can go
            size += len(lines)
            if size > IN_MEMORY_BYTES:
                self._spill()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, custom_ids: Sequence[str]) -> list[msgspec.Raw | None]:
        """Take requests out: their columns as JSON, empty where there are none.

        None for what was taken before or never sent.
        """
        pop = self._waiting.pop
        taken = [pop(custom_id, None) for custom_id in custom_ids]
        own: Callable[[Any], msgspec.Raw] = msgspec.Raw if self._file is None else self._read_columns
        return [None if columns is None else own(columns) for columns in taken]

    def unanswered(self) -> Iterator[tuple[str, msgspec.Raw]]:
        """Requests that nobody took, in the order sent, with the user's columns."""
        for custom_id, columns in self._waiting.items():
            yield custom_id, self._read_columns(columns)

    def close(self) -> None:
        """Give memory and disk back."""
        if self._file is not None:
            self._file.close()

    def _read_columns(self, columns: bytes | int) -> msgspec.Raw:
        if not isinstance(columns, int):
            return msgspec.Raw(columns)
        assert self._file is not None
        start, end = self._ends[columns], self._ends[columns + 1]
        return msgspec.Raw(os.pread(self._file.fileno(), end - start, start))

    def _spill(self) -> None:
        """Move the columns that are in memory to the file."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="claude-batch-")  # noqa: SIM115  # closed in close()
        for custom_id in reversed(self._waiting):
            columns = self._waiting[custom_id]
            if isinstance(columns, int):
                break
            self._file.write(columns)
            self._waiting[custom_id] = len(self._ends) - 1
            self._ends.append(self._ends[-1] + len(columns))
        self._file.flush()


class Strangers:
    """In place of inputs where it is not known what was sent: each custom_id is taken once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, custom_ids: Sequence[str]) -> list[msgspec.Raw | None]:
        """No columns for each that is new, None for the others."""
        return [None if custom_id in self._taken else self._add(custom_id) for custom_id in custom_ids]

    def was_sent(self, custom_id: str) -> bool:
        """Whatever comes was sent."""
        return custom_id in self._taken

    def _add(self, custom_id: str) -> msgspec.Raw:
        self._taken.add(custom_id)
        return NOTHING
