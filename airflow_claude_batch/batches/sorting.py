"""Sorting one batch's lines into the two record sets, counting and pricing on the way.

This is the hot path. A line costs some microseconds, so nothing is made for it that is not in its record,
and what can be done for some hundred lines at once is not done for each.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from itertools import compress

import msgspec

from airflow_claude_batch.batches.cost import Meter
from airflow_claude_batch.batches.download import Arrivals, Download
from airflow_claude_batch.batches.reading import Reading, answer_text, missing_record, read_failure
from airflow_claude_batch.batches.records import ErroredRecord, SucceededRecord
from airflow_claude_batch.batches.rejected import ERROR_TYPE as UNREADABLE
from airflow_claude_batch.batches.resultlines import NOTHING, Message, ResultLine, read_usages
from airflow_claude_batch.batches.tally import PICO, Tally
from airflow_claude_batch.batches.writers import PartWriter

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Sorter:
    """Brings every request of one batch into exactly one place."""

    reading: Reading
    writer: PartWriter
    meter: Meter
    rounds: int = 1
    """How many times these requests were sent."""
    skip: Set[str] = frozenset()
    """custom_ids that were moved to a later round before; they are priced, not written."""
    move: Callable[[ErroredRecord], bool] | None = None
    """Asked for each failure whether the next round takes it."""
    tally: Tally = field(default_factory=Tally)
    _reasons: Counter[str | None] = field(default_factory=Counter)

    def run(self, download: Download) -> Tally:
        """Sort all lines of a download, and what it did not bring."""
        plain = not self.reading.checks and not self.reading.include_message
        download.whole = not (plain and self.writer.raw)
        sort = self._sort if plain else self._sort_checked
        for arrivals in download.arrivals():
            sort(arrivals)
        self._finish(download)
        return self.tally

    def _sort(self, arrivals: Arrivals) -> None:
        """Some lines whose answers need no looking into."""
        answered = _answered(arrivals.lines.rows)
        if not all(answered):
            failed = arrivals.select([not answer for answer in answered])
            for raw, row, columns in zip(failed.lines.texts, failed.lines.rows, failed.columns, strict=True):
                self._fail(read_failure(raw, row, columns, self.rounds), raw)
            arrivals = arrivals.select(answered)
        picos = self._price(arrivals.lines.rows)
        if self.skip:
            wanted = [row.custom_id not in self.skip for row in arrivals.lines.rows]
            arrivals, picos = arrivals.select(wanted), list(compress(picos, wanted))
        self._write(arrivals, [] if self.writer.raw else _records(arrivals, picos))

    def _sort_checked(self, arrivals: Arrivals) -> None:
        """Some lines, one by one: what looks like an answer may turn out to be a failure."""
        answered = _answered(arrivals.lines.rows)
        answers = arrivals.select(answered)
        records = iter(_records(answers, self._price(answers.lines.rows)))
        usable: dict[int, SucceededRecord] = {}
        lines = zip(arrivals.lines.texts, arrivals.lines.rows, arrivals.columns, strict=True)
        for number, (raw, row, columns) in enumerate(lines):
            if not answered[number]:
                self._fail(read_failure(raw, row, columns, self.rounds), raw)
                continue
            record, message = next(records), row.result.message
            if message is None or row.custom_id in self.skip:
                continue
            failure = self.reading.complete(record, raw, message, self.rounds)
            if failure is None:
                usable[number] = record
            elif self._fail(failure, raw):
                self._reasons[message.stop_reason] += 1
        chosen = [number in usable for number in range(len(answered))]
        self._write(arrivals.select(chosen), list(usable.values()))

    def _price(self, rows: list[ResultLine]) -> list[int | None]:
        messages = _messages(rows)
        return self.meter.add([message.model for message in messages], read_usages(messages))

    def _write(self, answers: Arrivals, records: list[SucceededRecord]) -> None:
        rows = answers.lines.rows
        if not rows:
            return
        counts = self.tally.counts
        counts["succeeded"] = counts.get("succeeded", 0) + len(rows)
        self._reasons.update([message.stop_reason for message in _messages(rows)])
        if self.writer.raw:
            self.writer.succeeded.add_lines(answers.lines.data)
        else:
            self.writer.succeeded.add(records)

    def _finish(self, download: Download) -> None:
        tally = self.tally
        for custom_id, columns in download.missing():
            self._fail(missing_record(custom_id, columns, self.rounds), b"")
        if download.missing_unnamed:
            tally.counts["missing"] = download.missing_unnamed
            tally.errors["missing"] = download.missing_unnamed
        tally.moved += len(self.skip)
        tally.unknown_ids = download.unknown_ids
        tally.stop_reasons = {reason or "unknown": number for reason, number in self._reasons.items()}
        tally.spending = self.meter.spending()
        if download.unknown_ids:
            log.error(
                "%s results of %s belong to no request of this job", download.unknown_ids, download.batch.id
            )

    def _fail(self, record: ErroredRecord, raw: bytes) -> bool:
        """Move a failure to the next round, or write it. Returns whether it was written."""
        tally = self.tally
        if record.custom_id in self.skip:
            return False
        if self.move is not None and self.move(record):
            tally.moved += 1
            return False
        write_failure(tally, self.writer, record, raw)
        return True


def _answered(rows: list[ResultLine]) -> list[bool]:
    results = [row.result for row in rows]
    return [result.type == "succeeded" and result.message is not None for result in results]


def _messages(rows: list[ResultLine]) -> list[Message]:
    """The messages of lines that are answers."""
    return [message for row in rows if (message := row.result.message) is not None]


def _records(answers: Arrivals, picos: list[int | None]) -> list[SucceededRecord]:
    rows = answers.lines.rows
    records = []
    for row, message, columns, pico in zip(rows, _messages(rows), answers.columns, picos, strict=True):
        content = message.content
        text = content[0].text if len(content) == 1 else NOTHING
        record = SucceededRecord(
            row.custom_id,
            text or answer_text(message),
            message.stop_reason,
            message.model,
            message.usage or None,
            None if pico is None else pico / PICO,
            columns or None,
        )
        records.append(record)
    return records


def write_failure(tally: Tally, writer: PartWriter, record: ErroredRecord, raw: bytes = b"") -> None:
    """Deliver a request without a usable answer."""
    _count(tally.counts, record.outcome)
    kind = record.error_type or record.outcome
    _count(tally.errors, kind)
    # What is wrong with an invalid answer may quote the answer; samples are read by more people than results.
    if (record.outcome == "errored" or kind == UNREADABLE) and kind not in tally.samples:
        tally.samples[kind] = {"message": record.message, "request_id": record.request_id}
    if writer.raw:
        writer.errored.add_lines(raw or _line_of(record))
    else:
        writer.errored.add([record])


def _line_of(record: ErroredRecord) -> bytes:
    """A result line in the API's form for a request that the API said nothing about."""
    error = {"type": record.error_type or record.outcome, "message": record.message}
    envelope = {"type": "error", "error": error, "request_id": record.request_id}
    line = {"custom_id": record.custom_id, "result": {"type": record.outcome, "error": envelope}}
    return msgspec.json.encode(line) + b"\n"


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
