"""A stored part is read again: its requests, the user's columns, the body of its POST."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from airflow_claude_batch.batches.job.marks import renamed
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_writer import BODY_END, BODY_START
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.storage import Folder, iter_blocks, iter_lines


class StoredInput(msgspec.Struct):
    """A request's line in the inputs file."""

    custom_id: str
    digest: str | None = None
    """Of its content, see `DIGEST_LENGTH`."""
    reuse: str = ""
    """The fingerprint of what was asked; empty where answers are not reused."""
    input: msgspec.Raw = msgspec.Raw(b"")
    """The user's columns as JSON; empty where there are none."""


_decode_input = msgspec.json.Decoder(StoredInput).decode


def stored_inputs(folder: Folder, name: str) -> Iterator[StoredInput]:
    """The lines of an inputs file."""
    with folder.open_read(name) as file:
        yield from map(_decode_input, iter_lines(file))


def read_inputs(folder: Folder, name: str) -> Iterator[tuple[str, bytes]]:
    """Each custom_id of an inputs file with the user's columns as JSON (empty where there are none)."""
    for row in stored_inputs(folder, name):
        yield row.custom_id, bytes(row.input)


def read_requests(folder: Folder, part: Part) -> Iterator[Request]:
    """The stored requests of a part under the user's own custom_ids, with the user's columns."""
    with folder.open_read(part.requests) as file:
        for line, row in zip(iter_lines(file), stored_inputs(folder, part.inputs), strict=True):
            yield Request(
                custom_id=row.custom_id,
                line=renamed(line, part.stored_id, row.custom_id) if row.custom_id == part.marked else line,
                columns=bytes(row.input) or None,
                fingerprint=row.reuse.encode(),
            )


def find_lines(folder: Folder, part: Part, custom_ids: Iterable[str]) -> dict[str, bytes]:
    """The stored lines of some requests of a part, by custom_id; none where they are not known."""
    if part.rejected or not part.requests:
        return {}
    wanted = {}
    for custom_id in custom_ids:
        stored = part.stored_id if custom_id == part.marked else custom_id
        wanted[b'{"custom_id":"%b",' % stored.encode()] = custom_id
    found: dict[str, bytes] = {}
    starts = tuple(wanted)
    with folder.open_read(part.requests) as file:
        for line in iter_lines(file) if wanted else ():
            if line.startswith(starts):
                found[wanted[line[: line.index(b",") + 1]]] = line
                if len(found) == len(wanted):
                    break
    return found


def read_body(folder: Folder, part: Part, before_the_end: Callable[[], None]) -> Iterator[bytes]:
    """The POST body of a part, block by block: its request lines, joined by commas.

    Args:
        folder: Of the job.
        part: The part; its first request is sent under ``sent_id``.
        before_the_end: Called before the last bytes; what it raises ends the body too early to be taken.
    """
    yield BODY_START
    last = b""
    with folder.open_read(part.requests) as file:
        # JSON never holds a bare newline, so each one ends a line; the very last one is dropped.
        for number, block in enumerate(iter_blocks(file)):
            yield last.replace(b"\n", b",")
            last = block
            if number == 0 and part.sent_id != part.stored_id:
                last = renamed(block, part.stored_id, part.sent_id)
    before_the_end()
    yield last.removesuffix(b"\n").replace(b"\n", b",")
    yield BODY_END
