"""What a part asks, read from its inputs file: custom_ids and fingerprints, in their order."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from airflow_claude_batch.batches.results.sent_requests import input_blocks
from airflow_claude_batch.batches.storage import Folder


class Asked(msgspec.Struct, gc=False):
    """A request."""

    custom_id: str
    reuse: str = ""
    """Its fingerprint, as text."""


_decode_lines = msgspec.json.Decoder(Asked).decode_lines


def read_asked(folder: Folder, inputs: str) -> Iterator[list[Asked]]:
    """The requests of a part, some at a time.

    Args:
        folder: Of the job.
        inputs: The part's inputs file.
    """
    for block in input_blocks(folder, [inputs]):
        yield _decode_lines(block)
