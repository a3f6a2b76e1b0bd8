"""Delivery: every request of a job ends in exactly one of the two record sets.

Part by part: download, classify, write, count. The counts of a part must add up to its requests; a
part that is delivered is noted in the ledger, so that an interrupted delivery goes on with the next.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.errors import LostOwnershipError, ResultsError, UnreadResultsError
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Destination
from airflow_claude_batch.batches.job.part import DeliveryNote, Part
from airflow_claude_batch.batches.job.part_reader import find_lines
from airflow_claude_batch.batches.results.classify import clean_samples, process_results
from airflow_claude_batch.batches.results.line_sources import BatchResults, LineSource, part_source
from airflow_claude_batch.batches.results.moves import Moves, last_round, read_moved
from airflow_claude_batch.batches.results.parallel import do_all
from airflow_claude_batch.batches.results.part_delivery import FETCH_INCOMPLETE, PartDelivery, Sent
from airflow_claude_batch.batches.results.sent_requests import input_blocks
from airflow_claude_batch.batches.results.summarise import summarise, summarise_job

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Delivery(PartDelivery):
    """One way of delivering, applied to a job or to some batches."""

    resubmit_rounds: int = 0
    """How often what is retryable is sent again."""

    def begin(self, job: Job, generation: int) -> None:
        """Take up a job: go on with its delivery, or deliver anew after a clear.

        Args:
            job: What to deliver.
            generation: First try number of the task instance's generation; a clear begins another. It
                grants the retryable rest as many rounds again.

        Raises:
            ConfigurationError: When the output holds what another job delivered.
        """
        ledger, destination = job.ledger, self._destination()
        self.output.reserve(ledger.job, [])
        if (ledger.delivery_generation, ledger.destination) == (generation, destination):
            return
        with job.change():
            ledger.destination = destination
            if ledger.delivery_generation not in (0, generation):
                ledger.granted_rounds = last_round(ledger)
                for part in ledger.parts:
                    part.delivery, part.given_up = None, ""
                    part.answered = part.answered and not part.repeats
                if ledger.on_time is not None and ledger.on_time.is_over(datetime.datetime.now(datetime.UTC)):
                    ledger.past_deadline, ledger.on_time = ledger.on_time.at, None
            ledger.delivery_generation = generation

    def _destination(self) -> Destination:
        reading, schema = self.reading, self.reading.output_schema
        return Destination(
            **self.output.place(),
            count_as_failed=sorted(reading.count_as_failed),
            output_schema=schema.json_schema if schema else None,
            resubmit_invalid=reading.resubmit_invalid,
            include_message=reading.include_message,
            quotes=sorted(reading.quotes),
            user_check=reading.user_check is not None,
        )

    def pending(self, job: Job) -> list[tuple[int, Part]]:
        """Parts that are not delivered yet, with their numbers."""
        return [
            (number, part)
            for number, part in enumerate(job.ledger.parts)
            if not part.split and not self._is_delivered(number, part)
        ]

    def deliver_ended(self, job: Job, leave: Collection[str] = ()) -> None:
        """Deliver all parts that are answered and not delivered yet, a few at a time.

        Args:
            job: Whose batches have ended.
            leave: Those that have not.

        Raises:
            ResultsError: When a part cannot be delivered completely.
        """
        ready = [
            (number, part)
            for number, part in self.pending(job)
            if part.is_answered and part.batch_id not in leave
        ]
        if ready:
            self._begin(job)
        unread: dict[int, UnreadResultsError] = {}
        self._do_all(self._tasks(job, ready, unread), len(ready))
        if len(ready) > len(unread):
            self._tell_progress(job)
        if unread:
            more = f" The same holds of {len(unread) - 1} more parts." if len(unread) > 1 else ""
            raise UnreadResultsError(f"{unread[min(unread)]}{more}")
        if self._release_repeats(job):
            self.deliver_ended(job, leave)

    def _tasks(
        self, job: Job, ready: list[tuple[int, Part]], unread: dict[int, UnreadResultsError]
    ) -> Iterator[Callable[[], None]]:
        """The delivery of each part; known answers are gathered while others are downloaded."""
        known = {}
        if self.reuse is not None:
            known = {n: part for n, part in ready if part.way == "reuse" and not part.repeats}
        for number, part in ready:
            if number not in known:
                yield partial(self._deliver_if_whole, job, number, part, unread)
        if self.reuse is not None and known:
            self.reuse.gather(job, known)
        for number, part in known.items():
            yield partial(self._deliver_if_whole, job, number, part, unread)

    def _release_repeats(self, job: Job) -> bool:
        """When all that they repeat is delivered, let parts of repeated requests be delivered, too."""
        last, pending = last_round(job.ledger), self.pending(job)
        waiting = [part for _, part in pending if part.repeats and not part.answered]
        unsettled = any(part.moved and part.moved_to > last for part in job.ledger.parts)
        if not waiting or unsettled or len(waiting) < len(pending):
            return False
        with job.change():
            for part in waiting:
                part.answered = True
        return True

    def _begin(self, job: Job) -> None:
        """Who has lost the job, perhaps while frozen, may not unmake what its successor has finished."""
        first_round = [part.inputs for part in job.ledger.parts if not part.split and part.round == 0]
        job.check()
        summary = self.output.begin(input_blocks(job.folder, first_round))
        try:
            job.check()
        except LostOwnershipError:
            if summary is not None:
                self.output.restore(summary)
            raise
        if not any(self._is_delivered(number, part) for number, part in enumerate(job.ledger.parts)):
            self.output.forget_progress()  # an earlier delivery's files are replaced from now on

    def _tell_progress(self, job: Job) -> None:
        """Say which parts are complete, for readers that do not wait for the summary."""
        ledger = job.ledger
        complete = [
            number
            for number, part in enumerate(ledger.parts)
            if not part.split and self._is_delivered(number, part)
        ]
        notes = [note for number in complete if (note := ledger.parts[number].delivery) is not None]
        self.output.tell_progress(
            complete,
            job=ledger.job,
            requests=ledger.request_count,
            delivered=sum(note.tally.delivered for note in notes),
        )

    def finish(self, job: Job) -> dict[str, Any]:
        """Write the summary over all parts, last.

        Args:
            job: All of whose parts are delivered.

        Returns:
            The summary.

        Raises:
            ResultsError: If the counts do not add up to the job's requests.
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
        finished = self.output.finish(summarise_job(ledger, tally, self.output.paths()), numbers)
        if self.reuse is not None:
            self.reuse.finish()
        return finished

    def deliver_batches(
        self, batch_ids: list[str], sent: Mapping[str, Sent] | None = None, *, incomplete: bool = False
    ) -> dict[str, Any]:
        """Deliver batches by their ids: nothing is sent again, and no ledger takes note.

        Args:
            batch_ids: Batches that have ended.
            sent: What was sent in them, as far as it is known; the columns of the others are not.
            incomplete: Whether to deliver what comes, where results that exist never do.

        Returns:
            The summary.

        Raises:
            ConfigurationError: When the output holds what another job delivered.
            ResultsError: When a batch cannot be delivered completely.
        """
        tallies: dict[int, Tally] = {}
        known = sent or {}

        def deliver(number: int, batch_id: str) -> None:
            source, own = BatchResults(api=self.api, batch=look_up(self.api, batch_id)), known.get(batch_id)
            if own is not None:
                tallies[number] = self.deliver_answered(own, number, source, Moves(), incomplete=incomplete)
                clean_samples(tallies[number], partial(find_lines, own.folder, own.part))
                return
            with self.output.part(number) as writer:
                download = self.download(source)
                download.incomplete, download.way_out = incomplete, FETCH_INCOMPLETE
                tallies[number] = process_results(
                    download, writer, reading=self.reading, price_factor=self.price_factor
                )
            clean_samples(tallies[number], lambda _: {})

        self.output.reserve(None, batch_ids)
        blocks = (input_blocks(own.folder, [own.part.inputs]) for own in known.values())
        self.output.begin(chain.from_iterable(blocks))
        tasks = [partial(deliver, number, batch_id) for number, batch_id in enumerate(batch_ids)]
        self._do_all(tasks, len(tasks))
        tally = Tally()
        for number in sorted(tallies):
            tally.add(tallies[number])
        return self.output.finish(summarise(tally, batch_ids, self.output.paths(), job=None), sorted(tallies))

    def _is_delivered(self, number: int, part: Part) -> bool:
        note = part.delivery
        return note is not None and note.key == self.key and self.output.has(number)

    def _do_all(self, tasks: Iterable[Callable[[], None]], count: int) -> None:
        do_all(tasks, count, at_once=self.output.parts_at_a_time, stop=self.stop)

    def _deliver_if_whole(
        self, job: Job, number: int, part: Part, unread: dict[int, UnreadResultsError]
    ) -> None:
        """Deliver a part; one that lacks results keeps no other back."""
        try:
            self._deliver_part(job, number, part)
        except UnreadResultsError as error:
            unread[number] = error

    def _deliver_part(self, job: Job, number: int, part: Part) -> None:
        moves = Moves()
        source = self._source(job, number, part)
        if source is None:
            tally = self.deliver_unsent(job, number, part)
        else:
            moves = self._moves(job, part)
            sent = Sent(folder=job.folder, ledger=job.ledger, part=part)
            tally = self.deliver_answered(sent, number, source, moves, job)
        clean_samples(tally, partial(find_lines, job.folder, part))
        if tally.delivered + tally.moved != part.request_count:
            raise ResultsError(
                f"{tally.delivered + tally.moved} results of part {number} were counted where it has "
                f"{part.request_count} requests."
            )
        moves.save(job.folder, number)
        batch = source.batch if isinstance(source, BatchResults) else None
        with job.change():
            part.delivery = DeliveryNote(
                key=self.key,
                tally=tally,
                created_at=batch.created_at if batch else None,
                ended_at=batch.ended_at if batch else None,
            )
            moves.note(part)
            part.unread, part.unread_file = 0, ""
            if self.reuse is not None and part.way != "reuse":
                part.kept = self.key
        log.info("Part %s: %s delivered, %s to be sent again", number, tally.delivered, tally.moved)

    def _moves(self, job: Job, part: Part) -> Moves:
        """What the part may leave to another round."""
        ledger = job.ledger
        goes_on = part.late and ledger.without_batches != "deliver"
        # What is not found was never asked, so that to ask it is no resubmission.
        again = part.way == "reuse" or part.round < self.resubmit_rounds + ledger.granted_rounds
        return Moves(
            round=last_round(ledger) + 1 if goes_on or (again and not ledger.without_requests) else None,
            canceled_too=goes_on,
            late=(part.late and not goes_on) or (part.repeats and ledger.without_batches == "deliver"),
            missing_only=part.repeats,
            before=list(read_moved(job.folder, part)),
        )

    def _source(self, job: Job, number: int, part: Part) -> LineSource | None:
        """Where the part's result lines come from; None where it was not sent."""
        if self.reuse is not None and part.way == "reuse" and not (part.given_up or part.rejected):
            return self.reuse.source(job, number, part)
        return part_source(self.api, job.folder, job.ledger, number)
