"""Records as JSON lines, or the API's own lines, plain or compressed."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterable, Sequence
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.results.output.writers import Compression, RecordFile

GZIP_LEVEL = 3
BLOCK = 128 << 10
"""Bytes of records that are gathered before they are written."""


class Jsonl:
    """Records as JSON lines, compressed or not; or the API's own lines.

    Args:
        compression: Of the files.
        raw: Whether the API's own lines are written.
    """

    parts_at_a_time = 2

    def __init__(self, compression: Compression = None, *, raw: bool = False) -> None:
        self._compression = compression
        self.raw = raw
        self.suffix = {None: "jsonl", "gzip": "jsonl.gz", "zstd": "jsonl.zst"}[compression]

    def misfit(self, output: Any, text: str) -> str | None:
        """Any fits."""
        return None

    def prepare(self, inputs: Iterable[bytes]) -> None:
        """Lines need no types."""

    def open(self, file: IO[bytes], set_: str) -> RecordFile:
        """Begin a file."""
        if self._compression == "gzip":
            # Without a time stamp the same records make the same bytes.
            return _Lines(gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))
        if self._compression == "zstd":
            import pyarrow

            return _Lines(pyarrow.CompressedOutputStream(_KeptOpen(file), "zstd"))
        return _Lines(_KeptOpen(file))


class _Lines:
    """Records as lines, gathered into blocks."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._blocks: list[bytes] = []
        self._size = 0
        self._encode_lines = msgspec.json.Encoder().encode_lines

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        self._hold(self._encode_lines(records))

    def add_lines(self, lines: bytes) -> None:
        self._hold(lines)

    def _hold(self, block: bytes) -> None:
        self._blocks.append(block)
        self._size += len(block)
        if self._size >= BLOCK:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):  # what ended the part is what counts
            self._file.close()

    def _flush(self) -> None:
        self._file.write(b"".join(self._blocks))
        self._blocks, self._size = [], 0


class _KeptOpen:
    """A file whose owner closes it, not the compressor on top."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        """The owner does."""
