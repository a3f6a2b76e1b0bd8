"""Delivery: every request of a job ends in exactly one of the two record sets.

Part by part: download, sort, write, count. The counts of a part must add up to its requests; a
part that is delivered is noted in the ledger, so that an interrupted delivery goes on with the next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from airflow_claude_batch.batches import rounds as rounds_
from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.cost import Meter, PriceBook, cost_summary, usage_summary
from airflow_claude_batch.batches.download import Download, ForeignBatchError, look_up
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.inputs import Ids, Inputs
from airflow_claude_batch.batches.jobs import Job
from airflow_claude_batch.batches.ledger import DeliveryNote, Ledger, Part, short_hash
from airflow_claude_batch.batches.reading import Reading
from airflow_claude_batch.batches.records import OUTCOMES, RECORDS_VERSION, ErroredRecord
from airflow_claude_batch.batches.rejected import ERROR_TYPE, read_rejected
from airflow_claude_batch.batches.sorting import Sorter, write_failure
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.tally import Tally
from airflow_claude_batch.batches.writers import Output

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Delivery:
    """One way of delivering, applied to a job or to some batches."""

    api: BatchesApi
    output: Output
    reading: Reading = field(default_factory=Reading)
    resubmit_rounds: int = 0
    """How often what is retryable is sent again."""
    price_factor: Decimal = Decimal(1)
    """A negotiated discount, as a factor on list prices."""
    _stop: threading.Event = field(default_factory=threading.Event)

    def begin(self, job: Job, life: int) -> None:
        """Take up a job: go on with its delivery, or deliver anew after a clear.

        :param life: first try number of the task instance's life; a clear begins another. It grants
            the retryable rest as many rounds again
        """
        ledger = job.ledger
        if ledger.delivery_life == life:
            return
        with job.change():
            if ledger.delivery_life:
                ledger.granted_rounds = rounds_.last_round(ledger)
                for part in ledger.parts:
                    part.delivery, part.given_up = None, ""
            ledger.delivery_life = life

    def pending(self, job: Job) -> list[tuple[int, Part]]:
        """Parts that are not delivered yet, with their numbers."""
        return [
            (number, part)
            for number, part in enumerate(job.ledger.parts)
            if not part.split and not self._is_delivered(number, part)
        ]

    def harvest(self, job: Job) -> None:
        """Deliver all parts whose batch has ended and that are not delivered yet, a few at a time.

        A part whose batch turns out to be somebody else's is left without a batch.
        """
        ready = [
            (number, part)
            for number, part in self.pending(job)
            if part.batch_id or part.given_up or part.rejected
        ]
        if ready:
            self.output.begin()
        self._each([partial(self._harvest, job, number, part) for number, part in ready])

    def finish(self, job: Job) -> dict[str, Any]:
        """The summary over all parts, written last.

        :raises ResultsError: if the counts do not add up to the job's requests
        """
        ledger = job.ledger
        tally = Tally()
        numbers = [number for number, part in enumerate(ledger.parts) if not part.split]
        for number in numbers:
            note = ledger.parts[number].delivery
            assert note is not None
            tally.add(note.tally)
        if tally.delivered != ledger.request_count:
            raise ResultsError(
                f"{tally.delivered} requests were delivered where the job in {ledger.job} has "
                f"{ledger.request_count}. This should not happen; please report it with the ledger."
            )
        summary = self._summary(tally, ledger.batch_ids, job=ledger.job)
        summary["rounds"] = rounds_.last_round(ledger) + 1
        summary["batches"] = [_describe(part) for part in ledger.live_parts if part.batch_id]
        return self.output.finish(summary, numbers)

    def deliver_batches(self, batch_ids: list[str]) -> dict[str, Any]:
        """Deliver batches that something else submitted: no columns, nothing to send again."""
        tallies: dict[int, Tally] = {}

        def deliver(number: int, batch_id: str) -> None:
            tallies[number] = self._sort(number, look_up(self.api, batch_id), None, Part(**_NO_PART))

        self.output.begin()
        self._each([partial(deliver, number, batch_id) for number, batch_id in enumerate(batch_ids)])
        tally = Tally()
        for number in sorted(tallies):
            tally.add(tallies[number])
        return self.output.finish(self._summary(tally, batch_ids, job=None), sorted(tallies))

    def _is_delivered(self, number: int, part: Part) -> bool:
        note = part.delivery
        return note is not None and note.key == self.key and self.output.has(number)

    @property
    def key(self) -> str:
        """Names output and reading: what was delivered under another key is delivered again."""
        schema = self.reading.output_schema
        choices = (
            sorted(self.reading.count_as_failed),
            schema.json_schema if schema else None,
            self.reading.resubmit_invalid,
            self.reading.include_message,
        )
        return short_hash(f"{self.output.name} {msgspec.json.encode(choices).decode()} {self.price_factor}")

    def _each(self, tasks: list[Callable[[], None]]) -> None:
        """Do all of it, a few at a time; the first failure stops the others."""
        if len(tasks) <= 1:
            for task in tasks:
                task()
            return
        with ThreadPoolExecutor(self.output.parts_at_a_time, "claude-batch-results") as pool:
            futures = [pool.submit(task) for task in tasks]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failures = [error for future in done if (error := future.exception()) is not None]
            except BaseException:
                self._halt(futures)
                raise
            if failures:
                self._halt(futures)
                raise failures[0]

    def _halt(self, futures: list[Any]) -> None:
        self._stop.set()
        for future in futures:
            future.cancel()

    def _harvest(self, job: Job, number: int, part: Part) -> None:
        batch: Batch | None = None
        if part.given_up or part.rejected:
            tally, moves = self._deliver_unsent(job, number, part), None
        else:
            assert part.batch_id is not None
            batch = look_up(self.api, part.batch_id)
            moves = rounds_.Moves(
                round=rounds_.last_round(job.ledger) + 1,
                before=list(rounds_.read_moved(job.folder, number, part)),
            )
            inputs = (Ids if self.output.raw else Inputs)(job.folder, part.inputs)
            try:
                tally = self._sort(number, batch, inputs, part, moves, final=self._is_final(job, part))
            except ForeignBatchError as error:
                _disown(job, part, error)
                return
            finally:
                inputs.close()
        if tally.delivered + tally.moved != part.request_count:
            raise ResultsError(
                f"{tally.delivered + tally.moved} results of {part.batch_id} were counted where "
                f"{part.request_count} requests were sent."
            )
        if moves is not None:
            moves.save(job.folder, number)
        with job.change():
            part.delivery = DeliveryNote(
                key=self.key,
                tally=tally,
                created_at=batch.created_at if batch else None,
                ended_at=batch.ended_at if batch else None,
            )
            if moves is not None:
                moves.note(part)
            if part.adopted == "unverified":
                part.adopted = "verified"
        log.info("Part %s: %s delivered, %s to be sent again", number, tally.delivered, tally.moved)

    def _is_final(self, job: Job, part: Part) -> bool:
        """Whether the requests of a part have been sent as often as they may be."""
        return part.round >= self.resubmit_rounds + job.ledger.granted_rounds

    def _sort(
        self,
        number: int,
        batch: Batch,
        inputs: Ids | Inputs | None,
        part: Part,
        moves: rounds_.Moves | None = None,
        *,
        final: bool = True,
    ) -> Tally:
        if not batch.ended:
            raise ResultsError(
                f"Batch {batch.id} has not ended ({batch.processing_status}); wait for it first."
            )
        download = Download(
            api=self.api, batch=batch, inputs=inputs, strict=part.adopted == "unverified", stop=self._stop
        )
        with self.output.part(number) as writer:
            return Sorter(
                reading=self.reading,
                writer=writer,
                meter=Meter(PriceBook(batch.created_at, self.price_factor)),
                rounds=part.round + 1,
                skip=moves.moved_before if moves else frozenset(),
                move=moves.take if moves and not final else None,
            ).run(download)

    def _deliver_unsent(self, job: Job, number: int, part: Part) -> Tally:
        """Deliver requests that were never sent: refused beforehand, or in a round that could not be sent."""
        tally = Tally()
        unsent = rejected_records if part.rejected else rounds_.unsent_records
        with self.output.part(number) as writer:
            for record in unsent(job.folder, job.ledger, part):
                write_failure(tally, writer, record)
        return tally

    def _summary(self, tally: Tally, batch_ids: list[str], *, job: str | None) -> dict[str, Any]:
        counts = {outcome: tally.counts.get(outcome, 0) for outcome in OUTCOMES}
        return {
            "version": RECORDS_VERSION,
            "job": job,
            "batch_ids": batch_ids,
            "rounds": 1,
            "counts": {"total": tally.delivered, **counts},
            "errors": _by_frequency(tally.errors),
            "error_samples": tally.samples,
            "stop_reasons": _by_frequency(tally.stop_reasons),
            "resubmitted": tally.moved,
            "unknown_ids": tally.unknown_ids,
            "usage": usage_summary(tally.spending),
            "cost": cost_summary(tally.spending),
            **self.output.paths(),
        }


_NO_PART: dict[str, Any] = {"requests": "", "inputs": "", "request_count": 0, "bytes": 0}


def rejected_records(folder: Folder, ledger: Ledger, part: Part) -> Iterator[ErroredRecord]:
    """Records of a job that were refused before anything was sent."""
    for row in read_rejected(folder, part.inputs):
        yield ErroredRecord(
            custom_id=row.custom_id,
            outcome="invalid",
            error_type=ERROR_TYPE,
            message=row.reason,
            rounds=0,
            input=row.input,
        )


def _describe(part: Part) -> dict[str, Any]:
    note = part.delivery
    return {
        "id": part.batch_id,
        "round": part.round,
        "requests": part.request_count,
        "created_at": note.created_at.isoformat() if note and note.created_at else None,
        "ended_at": note.ended_at.isoformat() if note and note.ended_at else None,
    }


def _disown(job: Job, part: Part, error: Exception) -> None:
    """Take back that a batch is this part's; the batch itself is somebody's, and left alone."""
    batch_id = part.batch_id
    assert batch_id is not None
    log.error("%s It was adopted by mistake; the part is submitted again", error)
    with job.change():
        part.foreign = [*part.foreign, batch_id]
        part.batch_id = part.submitted_at = part.intent_at = None
        part.adopted = ""
    job.root.child("batches").remove_file(batch_id)


def _by_frequency(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
