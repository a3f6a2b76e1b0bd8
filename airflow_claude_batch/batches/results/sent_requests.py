"""What was sent in a part, for joining and counting: custom_ids, and the user's columns beside them.

Answers come in any order, so all custom_ids of a part are held, at about 200 bytes each. The columns
stay in memory while they are small and lie in an unnamed temporary file when they are not.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import IO

import msgspec

from airflow_claude_batch.batches.api.result_lines import NOTHING, whole_lines
from airflow_claude_batch.batches.job.part_writer import DIGEST_LENGTH
from airflow_claude_batch.batches.storage import BLOCK, Folder, iter_blocks

IN_MEMORY_BYTES = 12 << 20
"""An inputs file up to this size is held in memory."""


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    digest: str = ""
    reuse: str = ""
    input: msgspec.Raw = NOTHING


class Own(msgspec.Struct, frozen=True, gc=False):
    """What is known of a request besides its custom_id."""

    columns: msgspec.Raw
    """The user's columns, as JSON; empty where there are none."""
    digest: str | None
    """Of the request's content; None where it is not known what was sent."""
    fingerprint: bytes = b""
    """What its answer is kept by; empty where that is not known, or was not asked for."""


UNKNOWN = Own(NOTHING, None)
_NO_DIGEST = b" " * DIGEST_LENGTH
FINGERPRINT_BYTES = 48
"""Of a fingerprint; as text it is twice as long."""
_NO_FINGERPRINT = bytes(FINGERPRINT_BYTES)


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: str


_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_decode_ids = msgspec.json.Decoder(_IdOnly).decode_lines


def input_blocks(folder: Folder, names: Iterable[str]) -> Iterator[bytes]:
    """The lines of stored inputs files, in blocks of whole lines."""
    for name in names:
        with folder.open_read(name) as file:
            yield from whole_lines(iter_blocks(file), BLOCK)


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
        return input_blocks(self._folder, [self._name])


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

    def take(self, custom_ids: Sequence[str]) -> list[Own | None]:
        """Take requests out: nothing of their own for each, None for what was taken before or never sent."""
        found = self._waiting.intersection(custom_ids)
        self._waiting -= found
        if len(found) == len(custom_ids):
            return [UNKNOWN] * len(found)
        taken: list[Own | None] = []
        for custom_id in custom_ids:
            taken.append(UNKNOWN if custom_id in found else None)
            found.discard(custom_id)
        return taken

    def unanswered(self) -> Iterator[tuple[str, Own]]:
        """Requests that nobody took, in the order sent."""
        for lines in self._blocks() if self._waiting else ():
            ids = (line.custom_id for line in _decode_ids(lines))
            yield from ((custom_id, UNKNOWN) for custom_id in ids if custom_id in self._waiting)

    def close(self) -> None:
        """Nothing is open."""


class Inputs(_Stored):
    """The requests of one part and the user's columns. What was answered is taken out, as in :class:`Ids`.

    Args:
        folder: Of the job.
        name: Of the inputs file.
        fingerprints: Whether to say by what each answer is kept.
    """

    def __init__(self, folder: Folder, name: str, *, fingerprints: bool = False) -> None:
        super().__init__(folder, name)
        self._columns_at = DIGEST_LENGTH + FINGERPRINT_BYTES * fingerprints
        self._waiting: dict[str, bytes | int] = {}
        """By custom_id, in the order sent: digest and columns in one, or their number in the file."""
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])
        size = 0
        line = _Line("")
        for lines in self._blocks():
            for line in _decode_lines(lines):
                # A copy, so that the block can go; jobs of before there were digests have none.
                if fingerprints:
                    fingerprint = bytes.fromhex(line.reuse) or _NO_FINGERPRINT
                    names = line.digest.encode(), fingerprint, line.input
                    self._waiting[line.custom_id] = b"%-32b%b%b" % names
                else:
                    self._waiting[line.custom_id] = b"%-32b%b" % (line.digest.encode(), line.input)
            size += len(lines)
            if line.reuse:  # which is held as bytes, or not at all
                more = len(',"reuse":""') + (1 if fingerprints else 2) * FINGERPRINT_BYTES
                size -= more * lines.count(b"\n")
            if size > IN_MEMORY_BYTES:
                self._spill()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, custom_ids: Sequence[str]) -> list[Own | None]:
        """Take requests out; None for what was taken before or never sent."""
        pop, own = self._waiting.pop, self._own
        taken = [pop(custom_id, None) for custom_id in custom_ids]
        return [None if stored is None else own(stored) for stored in taken]

    def unanswered(self) -> Iterator[tuple[str, Own]]:
        """Requests that nobody took, in the order sent."""
        for custom_id, stored in self._waiting.items():
            yield custom_id, self._own(stored)

    def close(self) -> None:
        """Give memory and disk back."""
        if self._file is not None:
            self._file.close()

    def _own(self, stored: bytes | int) -> Own:
        if isinstance(stored, int):
            assert self._file is not None
            start, end = self._ends[stored], self._ends[stored + 1]
            stored = os.pread(self._file.fileno(), end - start, start)
        start = self._columns_at
        digest, columns = stored[:DIGEST_LENGTH], msgspec.Raw(stored[start:])
        known = None if digest == _NO_DIGEST else digest.decode()
        if start == DIGEST_LENGTH:
            return Own(columns, known)
        fingerprint = stored[DIGEST_LENGTH:start]
        return Own(columns, known, b"" if fingerprint == _NO_FINGERPRINT else fingerprint)

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

    def take(self, custom_ids: Sequence[str]) -> list[Own | None]:
        """Nothing of their own for each that is new, None for the others."""
        return [None if custom_id in self._taken else self._add(custom_id) for custom_id in custom_ids]

    def was_sent(self, custom_id: str) -> bool:
        """Whatever comes was sent."""
        return custom_id in self._taken

    def _add(self, custom_id: str) -> Own:
        self._taken.add(custom_id)
        return UNKNOWN
