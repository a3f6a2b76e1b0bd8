"""Which keys a store holds, in memory: asked for each request while the input is stored.

Eight bytes an answer, sorted; a key is looked for among some 200 that begin with the same bits. All 64 bits
are compared, so what is said to be known is not (in this store) once in a million nights; such a request is
found out when its answer is looked for, and asked like any other.
"""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from airflow_claude_batch.batches.reuse.store import Pair, Store, need_pyarrow

PASS_KEYS = 3_500_000
"""Keys that are held twice at a time: a larger store is read several times, a stretch of the keys each."""
STRETCH_KEYS = 200_000
"""Keys that are sorted at a time."""
RECENT_KEYS = 1_000_000
"""Keys that are held in a set, at some 60 bytes each."""
_KEY_BITS, _SAME_TOP_BITS = 64, 8
"""Bits of a key, and of the number of keys that begin alike."""
_KEYS_END = 1 << _KEY_BITS


class KnownKeys:
    """The keys of a store as it is now.

    Args:
        store: Asked here and never again.
        not_before: What was answered earlier is too old, in milliseconds since 1970; None for no such bound.
    """

    def __init__(self, store: Store, not_before: int | None = None) -> None:
        total = sum(pair.rows for pair in store.pairs())
        self._keys = array("Q")
        for start, end in _cut(0, _KEYS_END, math.ceil(total / PASS_KEYS)):
            held = _hold(store, not_before, start, end)
            for stretch in _stretches(held, start, end):
                values = memoryview(stretch.buffers()[1])[8 * stretch.offset :]
                self._keys.frombytes(values[: 8 * len(stretch)])
            del held
            need_pyarrow()[0].default_memory_pool().release_unused()
        bits = max(len(self._keys).bit_length() - _SAME_TOP_BITS, 0)
        self._shift = _KEY_BITS - bits
        self._starts = [bisect_left(self._keys, top << self._shift) for top in range(1 << bits)]
        self._starts.append(len(self._keys))

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, int)
        top = key >> self._shift
        end = self._starts[top + 1]
        place = bisect_left(self._keys, key, self._starts[top], end)
        return place < end and self._keys[place] == key


class SeenKeys:
    """Keys that were seen in this input: a set of the latest, and eight bytes for each of the others."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._older = array("Q")

    def add(self, key: int) -> bool:
        """Whether the key is new."""
        recent, older = self._recent, self._older
        if key in recent:
            return False
        if older:
            place = bisect_left(older, key)
            if place < len(older) and older[place] == key:
                return False
        recent.add(key)
        if len(recent) >= RECENT_KEYS:
            self._older = array("Q", heapq.merge(older, sorted(recent)))
            recent.clear()
        return True


def _hold(store: Store, not_before: int | None, start: int, end: int) -> list[Any]:
    """From ``start`` to ``end``, the sorted keys of each index."""
    pa, _ = need_pyarrow()
    held = []

    def hold(_: Pair, index: Any) -> None:
        keys = _between(index["key"].combine_chunks(), start, end)
        held.append(pa.concat_arrays([keys, keys.slice(0, 0)]))  # a copy, so that the index can go

    store.over_indexes(hold, not_before=not_before, columns=["key"])
    return held


def _stretches(held: Sequence[Any], start: int, end: int) -> Iterator[Any]:
    """All of them, sorted, some at a time."""
    pa, _ = need_pyarrow()
    import pyarrow.compute as pc

    for low, high in _cut(start, end, math.ceil(sum(map(len, held)) / STRETCH_KEYS)):
        keys = pa.concat_arrays([_between(one, low, high) for one in held])
        yield keys.take(pc.array_sort_indices(keys))


def _cut(start: int, end: int, pieces: int) -> Iterator[tuple[int, int]]:
    """The same range in pieces of equal length; none where there are to be none."""
    if pieces:
        yield from pairwise(start + (end - start) * number // pieces for number in range(pieces + 1))


def _between(keys: Any, start: int, end: int) -> Any:
    """Of sorted keys, those from ``start`` to before ``end``."""
    first = bisect_left(keys, start, key=_value)
    return keys.slice(first, bisect_left(keys, end, lo=first, key=_value) - first)


def _value(scalar: Any) -> int:
    value: int = scalar.as_py()
    return value
