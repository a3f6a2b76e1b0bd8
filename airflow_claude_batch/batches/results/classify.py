"""Classifying one batch's lines into the two record sets, counting and pricing on the way.

This is the hot path. A line costs some microseconds, so nothing is made for it that is not in its record,
and what can be done for some hundred lines at once is not done for each.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import compress

import msgspec

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.api.result_lines import (
    NOTHING,
    Message,
    ResultLine,
    Usage,
    read_lines,
    read_usages,
)
from airflow_claude_batch.batches.cost.prices import Meter, PriceBook
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import INVALID_RECORD, UNREADABLE_DOCUMENT
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.results.answer_policy import (
    EMPTY,
    Reading,
    answer_text,
    is_empty,
    kind_of,
    missing_record,
    read_failure,
    unreadable_record,
)
from airflow_claude_batch.batches.results.download import Arrivals, Download
from airflow_claude_batch.batches.results.moves import Moves
from airflow_claude_batch.batches.results.output.writers import PartWriter
from airflow_claude_batch.batches.results.output_records import ErroredRecord, SucceededRecord
from airflow_claude_batch.batches.results.reusing import Keeper
from airflow_claude_batch.batches.results.stored_requests import StoredRequests

log = logging.getLogger(__name__)

QUOTE = ord('"')
Failures = dict[str, tuple[ErroredRecord, bytes]]
"""By custom_id: the record of a line without a usable answer, and the line."""


def process_results(
    download: Download,
    writer: PartWriter | None,
    *,
    reading: Reading,
    rounds: int = 1,
    moves: Moves | None = None,
    price_factor: Decimal = Decimal(1),
    requests: StoredRequests | None = None,
    prompt_version: str | None = None,
    spread: bool = False,
    keeper: Keeper | None = None,
) -> Tally:
    """Take one part's results from their source to where each of them belongs, and return their numbers.

    Args:
        download: Of the part.
        writer: Takes the records; None to learn only what goes on to another round.
        reading: The user's choices about answers.
        rounds: How many times these requests were sent.
        moves: Takes what goes on to another round; None where there is none.
        price_factor: A negotiated discount, as a factor on list prices.
        requests: What was sent, where that is known; closed here.
        prompt_version: Of the job.
        spread: Whether it is wanted how much answers differ.
        keeper: Takes what later requests can use; None where nothing is kept.

    Raises:
        ResultsError: When they cannot be downloaded, see :meth:`Download.arrivals`.
    """
    source = download.source
    meter = Meter(PriceBook(source.sent_at, price_factor), source.service)
    classifier = Classifier(
        reading=reading,
        writer=writer,
        meter=meter,
        rounds=rounds,
        moves=moves or Moves(),
        requests=requests,
        prompt_version=prompt_version,
        spread=spread,
        keeper=keeper,
        paid=source.paid,
    )
    with contextlib.closing(requests) if requests else contextlib.nullcontext():
        for arrivals in download.arrivals():
            classifier.add(arrivals)
    return classifier.finish(download)


@dataclass(kw_only=True)
class Classifier:
    """Brings every request of one batch into exactly one place."""

    reading: Reading
    writer: PartWriter | None
    meter: Meter
    rounds: int = 1
    """How many times these requests were sent."""
    moves: Moves = field(default_factory=Moves)
    """What went on to a later round before is priced, not written."""
    requests: StoredRequests | None = None
    """What was sent, where that is known."""
    prompt_version: str | None = None
    spread: bool = False
    """Whether it is wanted how much answers differ."""
    keeper: Keeper | None = None
    """Takes what later requests can use."""
    paid: bool = True
    """Whether this job pays for the answers."""
    tally: Tally = field(default_factory=Tally)
    _reasons: Counter[str | None] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._raw = self.writer is None or self.writer.raw
        self._reads = self.reading.checks or not self._raw

    def add(self, arrivals: Arrivals) -> None:
        """Bring some lines into their places; each set keeps the order in which they came."""
        rows, skip = arrivals.lines.rows, self.moves.moved_before
        if self.keeper is not None:
            self.keeper.see(arrivals)
        answered = _answered(rows)
        failures = self._unanswered(arrivals, answered)
        answers = arrivals.select(answered)
        picos = self._price(answers.lines.rows)
        if skip:
            wanted = [row.custom_id not in skip for row in answers.lines.rows]
            answers, picos = answers.select(wanted), list(compress(picos, wanted))
        records = self._records(answers, picos) if self._reads else []
        if self._reads and (unusable := self._complete(answers, records)):
            failures |= unusable
            usable = [record.custom_id not in unusable for record in records]
            answers, records = answers.select(usable), list(compress(records, usable))
        if failures:
            self._fail_in_order(rows, failures)
        self._write(answers, records)

    def finish(self, download: Download) -> Tally:
        """Add what the download did not bring.

        Args:
            download: All of whose arrivals were added.

        Returns:
            The numbers over all of it.
        """
        tally = self.tally
        absent_record = unreadable_record if download.unreadable else missing_record
        for custom_id, own in download.missing():
            record = absent_record(custom_id, own, self.rounds)
            if download.unreadable and self.keeper is not None:  # who repeats the request would have the same
                self.keeper.see(Arrivals(read_lines(_line_of(record)).lines, [own]))
            self._fail(record, b"")
        tally.moved += len(self.moves.moved_before)
        tally.unknown_ids = download.unknown_ids
        tally.unread = download.unreadable if download.inputs is None else 0
        tally.stop_reasons = {reason or "unknown": number for reason, number in self._reasons.items()}
        spending = self.meter.spending()
        if self.paid:
            tally.spending = spending
        else:
            known = [one.batch_pico for one in spending if one.batch_pico is not None]
            tally.saved_pico = sum(known) if known else None
        if download.unknown_ids:
            log.error(
                "%s results of %s belong to no request of this job",
                download.unknown_ids,
                download.source.name,
            )
        return tally

    def _unanswered(self, arrivals: Arrivals, answered: list[bool]) -> Failures:
        """Lines that hold no answer."""
        if all(answered):
            return {}
        failed = arrivals.select([not answer for answer in answered])
        lines = zip(failed.lines.texts, failed.lines.rows, failed.own, strict=True)
        return {row.custom_id: (read_failure(raw, row, own, self.rounds), raw) for raw, row, own in lines}

    def _complete(self, answers: Arrivals, records: list[SucceededRecord]) -> Failures:
        """Add to records what was asked for; returns those that turn out to be no usable answers."""
        unusable: Failures = {}
        reading, messages = self.reading, _messages(answers.lines.rows)
        wanted = None if reading.always else list(map(reading.wants, messages))
        if wanted is not None and not any(wanted):
            return unusable
        lines = zip(records, answers.lines.texts, messages, strict=True)
        for record, raw, message in lines if wanted is None else compress(lines, wanted):
            failure = reading.complete(record, raw, message, self.rounds, self.requests)
            if failure is not None:
                unusable[record.custom_id] = failure, raw
        return unusable

    def _price(self, rows: list[ResultLine]) -> list[int | None]:
        messages = _messages(rows)
        usages = read_usages(messages)
        picos = self.meter.add([message.model for message in messages], usages)
        if self.spread and self.paid:
            self._add_squares(usages, picos)
        return picos if self.paid else [0] * len(picos)

    def _add_squares(self, usages: list[Usage], picos: list[int | None]) -> None:
        squares = self.tally.squares
        for usage, pico in zip(usages, picos, strict=True):
            written, read = usage.cache_creation_input_tokens or 0, usage.cache_read_input_tokens or 0
            answer = {
                "input_tokens": (usage.input_tokens or 0) + written + read,
                "output_tokens": usage.output_tokens or 0,
                "cost": pico or 0,
            }
            for name, number in answer.items():
                squares[name] = squares.get(name, 0) + number * number

    def _write(self, answers: Arrivals, records: list[SucceededRecord]) -> None:
        rows = answers.lines.rows
        if not rows:
            return
        counts = self.tally.counts
        counts["succeeded"] = counts.get("succeeded", 0) + len(rows)
        messages = _messages(rows)
        self._reasons.update([message.stop_reason for message in messages])
        empty = list(map(is_empty, messages))
        self.tally.empty += sum(kind_of(message) == EMPTY for message in compress(messages, empty))
        if self.keeper is not None:
            self.keeper.keep(answers.select([not one for one in empty]))
        if self.writer is None:
            return
        if self.writer.raw:
            self.writer.succeeded.add_lines(answers.lines.data)
        else:
            self.writer.succeeded.add(records)

    def _fail_in_order(self, rows: list[ResultLine], failures: Failures) -> None:
        for row in rows:
            if row.custom_id not in failures:
                continue
            record, raw = failures[row.custom_id]
            message = row.result.message
            if self._fail(record, raw) and record.outcome == "invalid" and message is not None:
                self._reasons[message.stop_reason] += 1
                self.tally.empty += kind_of(message) == EMPTY

    def _fail(self, record: ErroredRecord, raw: bytes) -> bool:
        """Move a failure to the next round, or write it. Returns whether it was written."""
        if record.custom_id in self.moves.moved_before:
            return False
        record.prompt_version = self.prompt_version
        if self.moves.take(record):
            self.tally.moved += 1
            return False
        write_failure(self.tally, self.writer, record, raw)
        return True

    def _records(self, answers: Arrivals, picos: list[int | None]) -> list[SucceededRecord]:
        rows, prompt_version = answers.lines.rows, self.prompt_version
        records = []
        for row, message, own, pico in zip(rows, _messages(rows), answers.own, picos, strict=True):
            content = message.content
            text = content[0].text if len(content) == 1 else NOTHING
            record = SucceededRecord(
                row.custom_id,
                text or answer_text(message),
                message.stop_reason,
                message.model,
                message.usage or None,
                None if pico is None else pico / PICO,
                own.columns or None,
                request_digest=own.digest,
                prompt_version=prompt_version,
            )
            records.append(record)
        if not self.paid:
            for row, record in zip(rows, records, strict=True):
                record.reused = row.reused or msgspec.UNSET
        return records


def _answered(rows: list[ResultLine]) -> list[bool]:
    return [row.result.type == "succeeded" and _is_readable(row.result.message) for row in rows]


def _is_readable(message: Message | None) -> bool:
    """Whether there is an answer, and its texts are texts."""
    if message is None:
        return False
    for block in message.content:  # noqa: SIM110  # a generator takes twice as long
        if block.text and memoryview(block.text)[0] != QUOTE:
            return False
    return True


def _messages(rows: list[ResultLine]) -> list[Message]:
    """The messages of lines that are answers."""
    return [message for row in rows if (message := row.result.message) is not None]


def write_failure(tally: Tally, writer: PartWriter | None, record: ErroredRecord, raw: bytes = b"") -> None:
    """Deliver a request without a usable answer.

    Args:
        tally: Counts it.
        writer: Takes it.
        record: What became of the request.
        raw: Its result line; empty where the API said nothing about it.
    """
    _count(tally.counts, record.outcome)
    kind = record.error_type or record.outcome
    _count(tally.errors, kind)
    # What is wrong with an invalid answer may quote the answer; samples are read by more people than results.
    sampled = record.outcome == "errored" or kind in (INVALID_RECORD, UNREADABLE_DOCUMENT)
    if sampled and kind not in tally.samples:
        tally.samples[kind] = {
            "message": record.message,
            "request_id": record.request_id,
            "custom_id": record.custom_id,
        }
    if writer is None:
        return
    if writer.raw:
        writer.errored.add_lines(raw or _line_of(record))
    else:
        writer.errored.add([record])


def clean_samples(tally: Tally, find_lines: Callable[[Iterable[str]], Mapping[str, bytes]]) -> None:
    """Take out of a tally's samples what the API has repeated of the requests: they go into XCom and page.

    Args:
        tally: Of one part; its samples no longer say whose they are then.
        find_lines: Finds request lines by custom_id, as far as they are known.
    """
    samples = list(tally.samples.values())
    ids = [sample.pop("custom_id", None) or "" for sample in samples]
    lines = find_lines(filter(None, ids)) if samples else {}
    for custom_id, sample in zip(ids, samples, strict=True):
        known = [lines[custom_id]] if custom_id in lines else []
        sample["message"] = foreign_text(sample["message"] or "", known)


def _line_of(record: ErroredRecord) -> bytes:
    """A result line in the API's form for a request that the API said nothing about."""
    error = {"type": record.error_type or record.outcome, "message": record.message}
    envelope = {"type": "error", "error": error, "request_id": record.request_id}
    line = {"custom_id": record.custom_id, "result": {"type": record.outcome, "error": envelope}}
    return msgspec.json.encode(line) + b"\n"


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
