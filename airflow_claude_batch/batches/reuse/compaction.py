"""Compaction: small pairs become a larger one, so that a look-up reads few files.

A writer does it when a delivery has ended. Pairs of about the same size are merged when there are ``FANOUT``
of them, so that an answer is written again a few times in its life, whatever the size of the store. Answers
that are too old for everybody who uses the store, and those that there is a newer one of, are left out. It is
only polite that one process at a time does it: two would do the same work, and leave answers twice, which
harms nobody.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batches.results.output.arrow_arrays import booleans, integer
from airflow_claude_batch.batches.reuse.answers_file import AnswersFile
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.store import DamagedError, Pair, Store, need_pyarrow, since
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

FANOUT = 8
"""So many pairs of a size are merged into one of the next."""
SMALLEST = 1_000
"""Answers of the smallest size; each further one is ``FANOUT`` times as large."""
LARGEST = 500_000
"""Pairs of so many answers are not merged any more: the index of one is read as a whole."""
BUSY = "compacting"
BUSY_FOR = datetime.timedelta(hours=1)
"""How long another's compaction is believed in."""
ORPHANED_AFTER = datetime.timedelta(days=2)
"""An answers file without an index is no writer's any more after this time."""


def compact(store: Store, now: datetime.datetime) -> None:
    """Merge what is worth it, and delete what is too old for everybody."""
    pairs, not_before = store.pairs(), store.not_before(now)
    expired = [pair for pair in pairs if pair.newest < (not_before or 0)]
    due = list(_due([pair for pair in pairs if pair not in expired]))
    if not expired and not due:
        return
    with _only_one(store, now) as free:
        if not free:
            return
        for pair in expired:
            store.remove(pair)
        for group in due:
            merge(store, group, not_before)
        _remove_orphans(store, now)


def drop(store: Store, not_before: int) -> int:
    """Delete every answer that was given earlier; returns how many, as far as the indexes tell."""
    dropped = 0
    for pair in store.pairs():
        if pair.newest < not_before:
            store.remove(pair)
            dropped += pair.rows
        elif pair.oldest < not_before:
            dropped += pair.rows - merge(store, [pair], not_before)
    return dropped


def count_older(store: Store, not_before: int) -> int:
    """How many answers `drop` would delete, at least."""
    return sum(pair.rows for pair in store.pairs() if pair.newest < not_before)


def merge(store: Store, pairs: Sequence[Pair], not_before: int | None) -> int:
    """Write some pairs again as one, and remove them.

    A damaged file is left out with a warning and left where it is. An older answer counts where the newest
    one lies in such a file.

    Args:
        pairs: With the newest answers last.
        not_before: Leave out what was answered earlier, in milliseconds since 1970; None for nothing.

    Returns:
        How many answers the new pair has.
    """
    indexes = _indexes(store, pairs)
    while True:
        writer = PairWriter(store)
        try:
            unread = _write(store, _newest(indexes, not_before), writer)
        except BaseException:
            writer.discard()
            raise
        if unread is None:
            break
        writer.discard()
        del indexes[unread]
    writer.finish()
    for pair in indexes:
        store.remove(pair)
    log.info("Merged %s files of answers in %s: %s answers", len(indexes), store.folder.url, writer.rows)
    return writer.rows


def _indexes(store: Store, pairs: Sequence[Pair]) -> dict[Pair, Any]:
    """The index of each pair that has one, in the same order."""
    indexes = {}
    for pair in pairs:
        try:
            indexes[pair] = store.read_index(pair)
        except FileNotFoundError:
            continue  # another process has merged it, or purged it
        except DamagedError as error:
            store.warn(error)
    return indexes


def _write(store: Store, wanted: Mapping[Pair, Any], writer: PairWriter) -> Pair | None:
    """Write some rows of each pair; returns the first pair that cannot be read."""
    for pair, rows in wanted.items():
        try:
            for answers in _read(store, pair, rows):
                writer.add(answers)
        except FileNotFoundError:
            return pair  # likewise
        except DamagedError as error:
            store.warn(error)
            return pair
    return None


def _due(pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
    """Groups of pairs that are to be merged."""
    sizes: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.rows < LARGEST:
            sizes[_size(pair.rows)].append(pair)
    for _, group in sorted(sizes.items()):
        while len(group) >= FANOUT:
            some, rows = [], 0
            while group and rows < LARGEST:
                some.append(group.pop(0))
                rows += some[-1].rows
            if len(some) > 1:
                yield some


def _size(rows: int) -> int:
    size, most = 0, SMALLEST
    while rows > most:
        size, most = size + 1, most * FANOUT
    return size


def _newest(indexes: Mapping[Pair, Any], not_before: int | None) -> dict[Pair, Any]:
    """The rows of each pair that are kept, in their order; the pairs with the newest answers come last."""
    pa, _ = need_pyarrow()
    import pyarrow.compute as pc

    if not indexes:
        return {}
    table = pa.concat_tables(
        index.append_column("pair", pa.repeat(integer(number, pa.int32()), len(index)))
        for number, index in enumerate(indexes.values())
    )
    if not_before is not None:
        table = since(table, not_before)
    table = table.sort_by([("key", "ascending"), ("at", "descending"), ("pair", "descending")])
    keys = table["key"].combine_chunks()
    if len(keys):
        differs = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1))
        table = table.filter(pa.concat_arrays([booleans([True], pa.bool_()), differs]))
    return {
        pair: table.filter(pc.equal(table["pair"], integer(number, pa.int32()))).sort_by("row")["row"]
        for number, pair in enumerate(indexes)
    }


def _read(store: Store, pair: Pair, rows: Any) -> Iterator[Any]:
    """Some rows of a pair's answers, a row group at a time."""
    import pyarrow.compute as pc

    pa, _ = need_pyarrow()
    with AnswersFile(store.folder, pair.id) as file:
        start = 0
        for group, count in enumerate(file.group_rows):
            first, end = (integer(row, pa.uint32()) for row in (start, start + count))
            here = rows.filter(pc.and_(pc.greater_equal(rows, first), pc.less(rows, end)))
            if len(here):
                yield file.read([group]).take(pc.subtract(here, first))
            start += count


@contextlib.contextmanager
def _only_one(store: Store, now: datetime.datetime) -> Iterator[bool]:
    """Whether no other process is at it; says that this one is, for the time of the block."""
    folder: Folder = store.folder
    with contextlib.suppress(FileNotFoundError):
        if now - folder.modified(BUSY) > BUSY_FOR:
            folder.remove_file(BUSY)
    if not folder.create(BUSY, now.isoformat().encode()):
        yield False
        return
    try:
        yield True
    finally:
        folder.remove_file(BUSY)


def _remove_orphans(store: Store, now: datetime.datetime) -> None:
    """Delete answers whose index was never written."""
    named = {pair.answers for pair in store.pairs()}
    for name in store.folder.names():
        if name.startswith("answers-") and name not in named:
            with contextlib.suppress(FileNotFoundError):
                if now - store.folder.modified(name) > ORPHANED_AFTER:
                    store.folder.remove_file(name)
