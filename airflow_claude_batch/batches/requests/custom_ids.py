"""A custom_id for every record, also where the user's data has none that the API takes.

The API wants 1 to 64 letters, digits, hyphens and underscores. A key that has this form is the
custom_id; any other becomes a readable beginning and a hash of the whole key. The key itself stays
among the record's columns and so comes back beside the answer. A record without a key is named by
its content, so that the same input has the same ids tomorrow.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter

from airflow_claude_batch.batches.requests.request import CUSTOM_ID

LONGEST = 64
_HASH_BYTES = 10
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]+")


def legal_id(key: str) -> str:
    """The custom_id for a key: itself where it is legal, otherwise a readable beginning and a hash."""
    if CUSTOM_ID.fullmatch(key):
        return key
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    readable = _ILLEGAL.sub("-", key).strip("-")[: LONGEST - len(digest) - 1].rstrip("-")
    return f"{readable}-{digest}" if readable else f"r-{digest}"


class ContentIds:
    """Ids made from what records contain.

    Records of the same content are told apart by their number among their equals: ``r-…``, ``r-…-2``,
    ``r-…-3``. Memory: 16 to 32 bytes a record.
    """

    def __init__(self) -> None:
        self._seen = HashSet()
        self._repeats: Counter[bytes] = Counter()

    def __call__(self, content: bytes) -> str:
        """The id of a record whose content, in a canonical form, is ``content``."""
        digest = hashlib.blake2b(content, digest_size=16).digest()
        name = f"r-{digest.hex()}"
        if self._seen.add(int.from_bytes(digest[:8], "big")):
            return name
        self._repeats[digest] += 1
        return f"{name}-{self._repeats[digest] + 1}"


class HashSet:
    """A set of 64-bit numbers that are evenly spread already; a tenth of the memory of Python's own."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0
        self._has_zero = False

    def add(self, value: int) -> bool:
        """Whether the number is new."""
        if value == 0:  # an empty slot holds 0
            was_new, self._has_zero = not self._has_zero, True
            return was_new
        slots = self._slots
        mask = len(slots) - 1
        place = value & mask
        while (held := slots[place]) != 0:
            if held == value:
                return False
            place = (place + 1) & mask
        slots[place] = value
        self._count += 1
        if self._count * 2 > len(slots):
            self._grow()
        return True

    def _grow(self) -> None:
        values = self._slots
        slots = self._slots = array("Q", bytes(8 * 2 * len(values)))
        mask = len(slots) - 1
        for value in values:
            if value:
                place = value & mask
                while slots[place]:
                    place = (place + 1) & mask
                slots[place] = value
