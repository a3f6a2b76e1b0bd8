"""What becomes of one part, or one batch: downloaded or read, sorted into records, written, counted."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace
from decimal import Decimal

import msgspec

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Ledger, short_hash
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.results.answer_policy import Reading, source_of
from airflow_claude_batch.batches.results.classify import process_results, write_failure
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import LineSource
from airflow_claude_batch.batches.results.moves import Moves
from airflow_claude_batch.batches.results.output.writers import Output
from airflow_claude_batch.batches.results.reusing import Reuse
from airflow_claude_batch.batches.results.sent_requests import Ids, Inputs
from airflow_claude_batch.batches.results.stored_requests import StoredRequests
from airflow_claude_batch.batches.results.unread import accepted_ids, noting, way_out
from airflow_claude_batch.batches.results.unsent_records import unsent_records
from airflow_claude_batch.batches.storage import Folder

FETCH_INCOMPLETE = "Where no retry helps, `claude-batch fetch … --incomplete` writes those that come."
"""What a person can do about batches that are read by their ids."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What was sent in a batch."""

    folder: Folder
    """Of the job."""
    ledger: Ledger
    part: Part


@dataclass(kw_only=True)
class PartDelivery:
    """How parts and batches are delivered: from where, to what output, and what counts as an answer."""

    api: BatchesApi
    output: Output
    reading: Reading = field(default_factory=Reading)
    price_factor: Decimal = Decimal(1)
    """A negotiated discount, as a factor on list prices."""
    reuse: Reuse | None = None
    """Where a job has answers of earlier ones from, and where its own are kept."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when one of several parts has failed: the downloads of the others end."""

    def __post_init__(self) -> None:
        self.reading = replace(self.reading, misfit=self.output.misfit)

    @property
    def key(self) -> str:
        """Names output and reading: what was delivered under another key is delivered again."""
        schema = self.reading.output_schema
        choices = (
            sorted(self.reading.count_as_failed),
            schema.json_schema if schema else None,
            self.reading.resubmit_invalid,
            self.reading.include_message,
            sorted(self.reading.quotes),
            source_of(self.reading.user_check),
        )
        return short_hash(f"{self.output.name} {msgspec.json.encode(choices).decode()} {self.price_factor}")

    def deliver_answered(
        self,
        sent: Sent,
        number: int,
        source: LineSource,
        moves: Moves,
        job: Job | None = None,
        *,
        incomplete: bool = False,
    ) -> Tally:
        """Deliver the result lines of what was sent.

        Args:
            sent: What was.
            number: Of the part in the output.
            source: Where its lines come from.
            moves: What may be left to another round; takes note of it.
            job: Whose part it is; None for a batch that is delivered by its id.
            incomplete: Whether to deliver what comes, where results that exist never do.
        """
        part, reading = sent.part, self.reading
        reuse = self.reuse if source.paid else None
        inputs = _inputs(sent, raw=self.output.raw, fingerprints=job is not None and reuse is not None)
        if part.way == "reuse" and not part.repeats:  # what passes no more is asked anew
            reading = replace(reading, resubmit_invalid=True)
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.closing(inputs))
            writer = stack.enter_context(self.output.part(number))
            keeper = None
            if job is not None and reuse is not None:
                keeper = stack.enter_context(reuse.keeper(job, number, source, self.key))
            download = self.download(source)
            download.inputs, download.sent_as = inputs, part.sent_as
            download.accepted = accepted_ids(sent.folder, part)
            download.incomplete, download.way_out = incomplete, FETCH_INCOMPLETE
            if job is not None:
                download.way_out = way_out(sent.ledger, part)
                stack.enter_context(noting(job, part, download))
            return process_results(
                download,
                writer,
                reading=reading,
                rounds=part.round + 1,
                moves=moves,
                price_factor=self.price_factor,
                requests=StoredRequests(sent.folder, part) if part.requests else None,
                prompt_version=sent.ledger.prompt_version,
                spread=sent.ledger.trial is not None,
                keeper=keeper,
            )

    def download(self, source: LineSource) -> Download:
        """A download for this output: lines that go through unread keep every byte."""
        return Download(source=source, mend=self.reading.checks or not self.output.raw, stop=self.stop)

    def deliver_unsent(self, job: Job, number: int, part: Part) -> Tally:
        """Deliver requests that were never sent: refused beforehand, or in a round that could not be sent."""
        tally = Tally()
        with self.output.part(number) as writer:
            for record in unsent_records(job.folder, job.ledger, part):
                record.prompt_version = job.ledger.prompt_version
                write_failure(tally, writer, record)
        return tally


def _inputs(sent: Sent, *, raw: bool, fingerprints: bool) -> Ids | Inputs:
    """What was sent in a part, as far as its delivery needs it."""
    if raw and not fingerprints:
        return Ids(sent.folder, sent.part.inputs)
    return Inputs(sent.folder, sent.part.inputs, fingerprints=fingerprints)
