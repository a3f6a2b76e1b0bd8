"""The mark: how a batch says whose it is.

The API takes no name and no metadata with a batch. So one request of each part, the first one, is sent
under a custom_id that ends with a mark: eleven characters that this POST of this part alone has. The ledger
holds it before the POST is sent. A batch is this part's exactly if its results hold that custom_id; that can
be seen when it has ended. Whoever reads results takes the mark off again.
"""

from __future__ import annotations

import base64
import re
import secrets

LONGEST_ID = 64
"""Characters of a custom_id (source: the API's documentation of message batches)."""
_RANDOM_BYTES = 6
LENGTH = 11
"""An underscore and ten letters or digits."""

_MARK = re.compile(r"._[a-z2-7]{10}$")


def marked_id(custom_id: str) -> str:
    """The custom_id with a new mark at its end; one that leaves no room is cut."""
    random = base64.b32encode(secrets.token_bytes(_RANDOM_BYTES)).decode().rstrip("=").lower()
    return f"{custom_id[: LONGEST_ID - LENGTH]}_{random}"


def is_marked(sent_id: str, custom_id: str) -> bool:
    """Whether one is the other with a mark."""
    return unmarked(sent_id) == custom_id[: LONGEST_ID - LENGTH]


def unmarked(sent_id: str) -> str | None:
    """What stands before something of a mark's form; None where nothing looks like one."""
    return sent_id[:-LENGTH] if _MARK.search(sent_id) else None


def renamed(line: bytes, old: str, new: str) -> bytes:
    """A stored request line under another custom_id."""
    start = b'{"custom_id":"'
    before = start + old.encode() + b'"'
    if not line.startswith(before):
        raise ValueError(f"the line is not that of {old}")
    return start + new.encode() + line[len(before) - 1 :]
