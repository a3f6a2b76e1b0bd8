"""Bringing the answers of a job's reused parts into its folder, where a delivery reads them part by part.

The store is asked for all parts at once: each index and each row group with wanted answers is read once, in
whatever order the requests are. What is copied stays with the job, so that a retry, a clear or a purge of
the store changes nothing for it. What is not found, any more, is left to the next round.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_claude_batch.batches.errors import StoreError
from airflow_claude_batch.batches.results.output.arrow_arrays import integer
from airflow_claude_batch.batches.reuse.answers_file import AnswersFile, Watched
from airflow_claude_batch.batches.reuse.asked import read_asked
from airflow_claude_batch.batches.reuse.fingerprint import KEY_BYTES, from_text
from airflow_claude_batch.batches.reuse.store import (
    DamagedError,
    Pair,
    Store,
    answers_name,
    answers_schema,
    need_pyarrow,
)
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

JOINED_KEYS = 32_768
"""Keys of an index that are compared at a time."""
CHUNK = 1_024
"""Answers that are read back at a time."""
KEY_LENGTH = 2 * KEY_BYTES
"""Characters of a fingerprint's text that make its key."""
LOOKS = 3
"""How often an answer is looked for again whose file has gone, or is damaged."""
_COLUMNS = ["digest", "check", "answered_at", "batch_id", "message"]


@dataclass(kw_only=True)
class Gathering:
    """One pass over a store for some parts of a job.

    Args:
        store: Where the answers are.
        job: The job's folder.
        parts: The inputs file of each part, by the part's number.
        not_before: What was answered earlier is too old, in milliseconds since 1970; None for no such bound.
    """

    store: Store
    job: Folder
    parts: dict[int, str]
    not_before: int | None = None
    _left_out: set[str] = field(default_factory=set)
    """Ids of pairs that are damaged or gone."""
    _files: list[str] = field(default_factory=list)
    """Ids of the pairs that were looked into."""

    def run(self) -> None:
        """Write a file of answers for each part, all of them at the end."""
        pa, _ = need_pyarrow()
        options = pa.ipc.IpcWriteOptions(compression=None if self.job.is_local else "lz4")
        with contextlib.ExitStack() as stack:
            writers = {}
            for number in self.parts:
                file = stack.enter_context(self.job.replace(answers_of(number)))
                writers[number] = stack.enter_context(pa.ipc.new_stream(file, _schema(), options=options))
            wanted = self._wanted()
            for _ in range(LOOKS):
                wanted = self._copy(self._find(wanted), writers)
                if not wanted.num_rows:
                    break

    def _wanted(self) -> Any:
        """Every request, by its key: number of the part, and position in it."""
        pa, _ = need_pyarrow()
        keys, parts, places = array("Q"), array("I"), array("I")
        for number, inputs in self.parts.items():
            before = len(keys)
            for some in read_asked(self.job, inputs):
                keys.frombytes(from_text("".join([one.reuse[:KEY_LENGTH] for one in some])))
            places.extend(range(len(keys) - before))
            parts.extend([number] * (len(keys) - before))
        if sys.byteorder == "big":
            keys.byteswap()
        columns = {"key": _column(keys, pa.uint64()), "part": _column(parts, pa.uint32())}
        return pa.table({**columns, "place": _column(places, pa.uint32())})

    def _find(self, wanted: Any) -> Any:
        """Add to each request the number of its file and the row in it; the newest answer counts."""
        pa, _ = need_pyarrow()
        import pyarrow.compute as pc

        wanted = wanted.sort_by("key")
        keys = wanted["key"].combine_chunks()
        kinds = {"file": pa.int32(), "row": pa.uint32(), "at": pa.int64()}
        found = {name: pa.nulls(len(keys), kind) for name, kind in kinds.items()}
        self._files = []

        def join(pair: Pair, index: Any) -> None:
            if pair.id in self._left_out:
                return
            self._files.append(pair.id)
            number = integer(len(self._files) - 1, pa.int32())
            places = _places(keys, index["key"].combine_chunks())
            at = index["at"].take(places).combine_chunks()
            newer = pc.greater(at, pc.coalesce(found["at"], integer(-1, pa.int64())))
            newer = pc.and_kleene(newer, newer.is_valid())  # null is no
            found["row"] = pc.if_else(newer, index["row"].take(places).combine_chunks(), found["row"])
            found["file"] = pc.if_else(newer, number, found["file"])
            found["at"] = pc.if_else(newer, at, found["at"])

        self.store.over_indexes(join, not_before=self.not_before)
        hits = found["file"].is_valid()
        table = wanted.select(["key", "part", "place"]).filter(hits)
        for name in ("file", "row"):
            table = table.append_column(name, found[name].filter(hits))
        order = pc.sort_indices(table, sort_keys=[("file", "ascending"), ("row", "ascending")])
        return table.take(order).combine_chunks()

    def _copy(self, found: Any, writers: dict[int, Any]) -> Any:
        """Copy what was found; returns what is to be looked for again."""
        again = found.slice(0, 0)
        for number, id_ in enumerate(self._files):
            rows = _stretch(found, "file", number, number + 1)
            if rows.num_rows and (copied := self._copy_from(id_, rows, writers)) < rows.num_rows:
                self._left_out.add(id_)
                again = _join(again, rows.slice(copied))
        return again

    def _copy_from(self, id_: str, rows: Any, writers: dict[int, Any]) -> int:
        """Copy from one file; returns how many rows could be."""
        copied = 0
        try:
            for answers, here in self._answers(id_, rows):
                _write(answers, here, writers)
                copied += len(here)
        except FileNotFoundError:
            log.info("%s has gone from %s; looking again", answers_name(id_), self.store.folder.url)
        except DamagedError as error:
            self.store.warn(error)
        return copied

    def _answers(self, id_: str, rows: Any) -> Iterator[tuple[Any, Any]]:
        """The answers of each row group of a file, and whose they are, with their rows in there."""
        import pyarrow.compute as pc

        with AnswersFile(self.store.folder, id_) as file:
            start = 0
            for group, count in enumerate(file.group_rows):
                here = _stretch(rows, "row", start, start + count)
                if len(here):
                    table = file.read([group], _COLUMNS)  # one at a time: four took 40 MB more
                    own = here.column_names.index("row")
                    yield table, here.set_column(own, "row", pc.subtract(here["row"], _unsigned(start)))
                start += count


def answers_of(number: int) -> str:
    """Name of the file in a job's folder that has the answers of a reused part."""
    return f"reused-{number:05d}.arrow"


def read_answers(job: Folder, number: int) -> Iterator[Any]:
    """The gathered answers of a part, some at a time.

    Raises:
        StoreError: Where they are not what was written. They are removed, so that a retry gathers them anew.
    """
    pa, _ = need_pyarrow()
    name = answers_of(number)
    with job.open_read(name) as opened:
        file = Watched(opened)
        try:
            with pa.ipc.open_stream(file) as stream:
                yield from stream
            return
        except Exception as error:
            if file.error is not None or not isinstance(error, (pa.ArrowException, OSError)):
                raise
            reason = type(error).__name__
    job.remove_file(name)
    raise StoreError(
        f"The reused answers in {job.url}/{name} are damaged ({reason}), and were removed. A retry takes "
        "them from the store of answers again."
    )


def _write(answers: Any, rows: Any, writers: dict[int, Any]) -> None:
    """Copy answers to the parts that want them; ``rows`` says which one each wants, as ``row``."""
    import pyarrow.compute as pc

    for number in pc.unique(rows["part"]).to_pylist():
        own = rows.filter(pc.equal(rows["part"], _unsigned(number)))
        table = answers.take(own["row"]).append_column("place", own["place"])
        writers[number].write_table(table.cast(_schema()), max_chunksize=CHUNK)


def _places(keys: Any, among: Any) -> Any:
    """Where each key is among others, null where it is not; both are sorted."""
    pa, _ = need_pyarrow()
    import pyarrow.compute as pc

    places, done = [], 0
    for start in range(0, len(among), JOINED_KEYS):
        some = among.slice(start, JOINED_KEYS)
        end = bisect_right(keys, some[-1].as_py(), lo=done, key=_value)
        found = pc.index_in(keys.slice(done, end - done), value_set=some)
        places.append(pc.add(found, integer(start, pa.int32())))
        done = end
    return pa.concat_arrays([*places, pa.nulls(len(keys) - done, pa.int32())])


def _stretch(table: Any, name: str, start: int, end: int) -> Any:
    """Of a table that is sorted by a column, the rows from ``start`` to before ``end``."""
    column = table[name]
    first = bisect_left(column, start, key=_value)
    return table.slice(first, bisect_left(column, end, lo=first, key=_value) - first)


def _value(scalar: Any) -> int:
    value: int = scalar.as_py()
    return value


def _schema() -> Any:
    pa, _ = need_pyarrow()
    fields = [answers_schema().field(name) for name in _COLUMNS]
    return pa.schema([*fields, pa.field("place", pa.uint32(), nullable=False)])


def _column(values: array[int], type_: Any) -> Any:
    pa, _ = need_pyarrow()
    return pa.Array.from_buffers(type_, len(values), [None, pa.py_buffer(values)])


def _unsigned(value: int) -> Any:
    pa, _ = need_pyarrow()
    return integer(value, pa.uint32())


def _join(one: Any, other: Any) -> Any:
    pa, _ = need_pyarrow()
    return pa.concat_tables([one, other])
