"""Moves: which requests of a part go on to a later round, and why.

Stored beside the ledger in ``moved-00000-….jsonl`` (the number is the part's), written once; the ledger
names the file that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.on_time import LATE, LATE_REASON
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_writer import writers_label
from airflow_claude_batch.batches.results.output_records import ErroredRecord
from airflow_claude_batch.batches.storage import Folder, iter_lines


class Moved(msgspec.Struct, omit_defaults=True):
    """A request that goes on to a later round, and why."""

    custom_id: str
    round: int
    """The round that it is sent in."""
    outcome: str
    error_type: str | None = None
    message: str | None = None
    request_id: str | None = None


_decode = msgspec.json.Decoder(Moved).decode
_encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(kw_only=True)
class Moves:
    """Collects what one part moves."""

    round: int | None = None
    """The round that takes it; None where there is none, so that nothing moves."""
    canceled_too: bool = False
    """Whether requests of a cancelled batch are sent again. Someone who cancels does not want that;
    someone who then clears the submission does."""
    late: bool = False
    """Whether the deadline has ended the batch: what it left open is late, stays where nobody wants it."""
    wanted: Callable[[ErroredRecord], bool] | None = None
    """A person's choice, which counts instead of what is retryable; None for no such choice."""
    missing_only: bool = False
    """Whether only requests go on that have no line at all."""
    before: list[Moved] = field(default_factory=list)
    """What the part has moved already."""
    entries: list[Moved] = field(default_factory=list)
    file: str = ""
    """Where the list was stored."""

    @cached_property
    def moved_before(self) -> frozenset[str]:
        """custom_ids that are not to be looked at again."""
        return frozenset(entry.custom_id for entry in self.before)

    def take(self, record: ErroredRecord) -> bool:
        """Whether this failure moves on; one of a late request is told as that."""
        if self.late and record.outcome in ("canceled", "missing"):
            record.outcome, record.error_type, record.message = "errored", LATE, LATE_REASON
            if self.wanted is None:
                return False
        if self.round is None or not self._goes_on(record):
            return False
        if record.outcome != "missing" and self.missing_only:
            return False
        entry = Moved(
            record.custom_id,
            self.round,
            record.outcome,
            record.error_type,
            record.message,
            record.request_id,
        )
        self.entries.append(entry)
        return True

    def _goes_on(self, record: ErroredRecord) -> bool:
        if self.wanted is not None:
            return self.wanted(record)
        return record.retryable and (record.outcome != "canceled" or self.canceled_too)

    def save(self, folder: Folder, number: int) -> None:
        """Store the list, if there is anything new in it; :meth:`note` makes it count."""
        if self.entries:
            self.file = f"moved-{number:05d}-{writers_label()}.jsonl"
            folder.write(self.file, _encode_lines([*self.before, *self.entries]))

    def note(self, part: Part) -> None:
        """Record in the part what was moved."""
        if self.entries and self.round is not None:
            part.moved, part.moved_to = len(self.before) + len(self.entries), self.round
            part.moved_file = self.file


def last_round(ledger: Ledger) -> int:
    """The highest round that has parts."""
    return max((part.round for part in ledger.live_parts), default=0)


def read_moved(folder: Folder, part: Part) -> Iterator[Moved]:
    """What a part has moved."""
    if part.moved:
        with folder.open_read(part.moved_file) as file:
            for line in iter_lines(file):
                yield _decode(line)
