"""Writing a pair: the answers as they come, and at the end their index."""

from __future__ import annotations

import contextlib
import io
from array import array
from typing import Any

from airflow_claude_batch.batches.reuse.fingerprint import DIGEST_BYTES
from airflow_claude_batch.batches.reuse.store import (
    ROW_GROUP,
    Pair,
    Store,
    answers_name,
    answers_schema,
    index_schema,
    keys_of,
    need_pyarrow,
    new_id,
)

GROUP_BYTES = 8 << 20
"""A row group closes earlier when its answers take up so much."""
_REPEATED = ["answered_at", "batch_id", "model"]
"""Columns of few values, which are stored once."""


class PairWriter:
    """A pair that is being written; it counts when it is finished, and only if it has answers.

    Args:
        store: Where.
        id_: Its own; None for a new one.
    """

    def __init__(self, store: Store, id_: str | None = None) -> None:
        self._store = store
        self._id = id_ or new_id()
        self._stack = contextlib.ExitStack()
        self._writer: Any = None
        self._held: list[Any] = []
        self._held_rows = self._held_bytes = 0
        self._keys = array("Q")
        self._at = array("q")

    @property
    def rows(self) -> int:
        """Answers so far."""
        return len(self._keys)

    def finish(self) -> None:
        """Write the last answers and then the index, without which they are not there."""
        if not self._keys:
            return
        try:
            self._flush()
            self._writer.close()
        except BaseException:
            self.discard()
            raise
        self._stack.close()
        self._write_index()

    def discard(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.is_open = False  # it would write its end when it is forgotten
        with contextlib.suppress(_DiscardedError):
            self._stack.__exit__(_DiscardedError, _DiscardedError(), None)

    def add(self, answers: Any) -> None:
        """Add a table of answers."""
        if not answers.num_rows:
            return
        digests = answers["digest"].combine_chunks()
        start = digests.offset * DIGEST_BYTES
        self._keys += keys_of(memoryview(digests.buffers()[1])[start : start + len(digests) * DIGEST_BYTES])
        self._at.extend(answers["answered_at"].cast("int64").to_pylist())
        self._held.append(answers)
        self._held_rows += answers.num_rows
        self._held_bytes += answers.nbytes
        if self._held_rows >= ROW_GROUP or self._held_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        pa, pq = need_pyarrow()
        if not self._held:
            return
        if self._writer is None:
            file = self._stack.enter_context(self._store.folder.replace(answers_name(self._id)))
            self._writer = pq.ParquetWriter(
                file,
                answers_schema(),
                compression="zstd",
                compression_level=1,
                use_dictionary=_REPEATED,
                write_page_checksum=True,
            )
        self._writer.write_table(pa.concat_tables(self._held), row_group_size=ROW_GROUP)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _write_index(self) -> None:
        pa, pq = need_pyarrow()
        keys = pa.Array.from_buffers(pa.uint64(), len(self._keys), [None, pa.py_buffer(self._keys)])
        at = pa.Array.from_buffers(pa.int64(), len(self._at), [None, pa.py_buffer(self._at)])
        numbers = pa.py_buffer(array("I", range(len(keys))))
        rows = pa.Array.from_buffers(pa.uint32(), len(keys), [None, numbers])
        table = pa.table([keys, rows, at], schema=index_schema()).sort_by("key")
        pair = Pair(newest=max(self._at), oldest=min(self._at), rows=len(keys), id=self._id)
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd", use_dictionary=["at"], write_page_checksum=True)
        self._store.folder.write(pair.index, file.getvalue())


class _DiscardedError(Exception):
    """Ends a file that is not to appear."""
