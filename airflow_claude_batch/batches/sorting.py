"""Sorting one batch's lines into the two record sets, counting and pricing on the way.

This is the hot path: a line costs some microseconds, so nothing is made for it that is not in its record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from dataclasses import dataclass, field

import msgspec

from airflow_claude_batch.batches.cost import Meter
from airflow_claude_batch.batches.download import Arrival, Download
from airflow_claude_batch.batches.reading import Reading, answer_text, missing_record, read_failure
from airflow_claude_batch.batches.records import ErroredRecord, SucceededRecord
from airflow_claude_batch.batches.rejected import ERROR_TYPE as UNREADABLE
from airflow_claude_batch.batches.resultlines import NOTHING, decode_usage
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
    _reasons: dict[str | None, int] = field(default_factory=dict)

    def run(self, download: Download) -> Tally:
        """Sort all lines of a download, and what it did not bring."""
        sort = self._sort
        if self.writer.raw and self.plain:
            download.whole, sort = False, self._sort_raw
        for arrivals in download.lines():
            sort(arrivals)
        self._finish(download)
        return self.tally

    @property
    def plain(self) -> bool:
        """Whether answers need no looking into."""
        return not self.reading.checks and not self.reading.include_message

    def _sort_raw(self, arrivals: list[Arrival]) -> None:
        """Like :meth:`_sort`, for lines that are carried through as they are."""
        price, skip, reasons = self.meter.add, self.skip, self._reasons
        lines: list[bytes] = []
        for raw, line, columns in arrivals:
            result = line.result
            message = result.message
            if message is None or result.type != "succeeded":
                self._fail(read_failure(raw, line, columns, self.rounds), raw)
                continue
            try:
                usage = decode_usage(message.usage)
            except msgspec.DecodeError:
                usage = None
            price(message.model, usage)
            if skip and line.custom_id in skip:
                continue
            reason = message.stop_reason
            reasons[reason] = reasons.get(reason, 0) + 1
            lines.append(raw)
        if lines:
            self._count_answers(len(lines))
            self.writer.succeeded.add_lines(lines)

    def _count_answers(self, number: int) -> None:
        counts = self.tally.counts
        counts["succeeded"] = counts.get("succeeded", 0) + number

    def _sort(self, arrivals: list[Arrival]) -> None:
        price, skip, reasons = self.meter.add, self.skip, self._reasons
        plain = self.plain
        answers: list[SucceededRecord] = []
        lines: list[bytes] = []
        for raw, line, columns in arrivals:
            result = line.result
            message = result.message
            if message is None or result.type != "succeeded":
                self._fail(read_failure(raw, line, columns, self.rounds), raw)
                continue
            try:
                usage = decode_usage(message.usage)
            except msgspec.DecodeError:
                usage = None
            pico = price(message.model, usage)
            if skip and line.custom_id in skip:
                continue
            reason = message.stop_reason
            content = message.content
            text = content[0].text if len(content) == 1 else NOTHING
            record = SucceededRecord(
                line.custom_id,
                text or answer_text(message),
                reason,
                message.model,
                message.usage or None,
                None if pico is None else pico / PICO,
                columns or None,
            )
            if not plain and (failure := self.reading.complete(record, raw, message, self.rounds)):
                if self._fail(failure, raw):
                    reasons[reason] = reasons.get(reason, 0) + 1
                continue
            reasons[reason] = reasons.get(reason, 0) + 1
            answers.append(record)
            lines.append(raw)
        if answers:
            self._count_answers(len(answers))
            if self.writer.raw:
                self.writer.succeeded.add_lines(lines)
            else:
                self.writer.succeeded.add(answers)

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


def write_failure(tally: Tally, writer: PartWriter, record: ErroredRecord, raw: bytes = b"") -> None:
    """Deliver a request without a usable answer."""
    _count(tally.counts, record.outcome)
    kind = record.error_type or record.outcome
    _count(tally.errors, kind)
    # What is wrong with an invalid answer may quote the answer; samples are read by more people than results.
    if (record.outcome == "errored" or kind == UNREADABLE) and kind not in tally.samples:
        tally.samples[kind] = {"message": record.message, "request_id": record.request_id}
    if writer.raw:
        writer.errored.add_lines([raw or _line_of(record)])
    else:
        writer.errored.add([record])


def _line_of(record: ErroredRecord) -> bytes:
    """A result line in the API's form for a request that the API said nothing about."""
    error = {"type": record.error_type or record.outcome, "message": record.message}
    envelope = {"type": "error", "error": error, "request_id": record.request_id}
    return msgspec.json.encode(
        {"custom_id": record.custom_id, "result": {"type": record.outcome, "error": envelope}}
    )


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
