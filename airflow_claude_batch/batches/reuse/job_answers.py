"""One job's use of a store, while it is delivered: what it takes from there, and what it leaves there."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO

from airflow_claude_batch.batches.errors import StoreError
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import stored_inputs
from airflow_claude_batch.batches.results.line_sources import BatchResults, LineSource
from airflow_claude_batch.batches.reuse.compaction import compact
from airflow_claude_batch.batches.reuse.fingerprint import from_text
from airflow_claude_batch.batches.reuse.gather import Gathering, answers_of
from airflow_claude_batch.batches.reuse.keeper import PartKeeper, keeping
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.sources import KnownAnswers, RepeatedAnswers, firsts_of
from airflow_claude_batch.batches.reuse.store import Store, milliseconds, need_pyarrow

log = logging.getLogger(__name__)

GATHERED_PARTS = 10
"""Parts whose answers are gathered at a time: a file of each is open meanwhile."""


@dataclass(kw_only=True)
class JobAnswers:
    """What a delivery needs of the reuse of answers.

    Args:
        store: The store that the job's ledger names.
        max_age: How old an answer may be that the job takes; None for any age.

    Raises:
        ConfigurationError: Where pyarrow is not installed.
    """

    store: Store
    max_age: datetime.timedelta | None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _repeated: dict[int, frozenset[bytes]] = field(default_factory=dict)
    """By the number of the job's parts: a later round may have others."""

    def __post_init__(self) -> None:
        need_pyarrow()

    def gather(self, job: Job, parts: Mapping[int, Part]) -> None:
        """Bring the answers of some parts into the job's folder, where they are not there yet.

        Raises:
            StoreError: Where the store cannot be reached; a retry goes on.
        """
        there = set(job.folder.names()) if parts else set()
        missing = {number: part.inputs for number, part in parts.items() if answers_of(number) not in there}
        not_before = None
        if self.max_age is not None:
            not_before = milliseconds(job.ledger.created_at - self.max_age)
        numbers = sorted(missing)
        try:
            for start in range(0, len(numbers), GATHERED_PARTS):
                some = {number: missing[number] for number in numbers[start : start + GATHERED_PARTS]}
                Gathering(store=self.store, job=job.folder, parts=some, not_before=not_before).run()
        except Exception as error:  # each store has errors of its own
            raise StoreError(
                f"The store of answers {self.store.folder.url} cannot be reached ({type(error).__name__}). "
                "Answers lie there that are paid for; a retry goes on."
            ) from error

    def source(self, job: Job, number: int, part: Part) -> LineSource:
        """The lines of a part that is not sent."""
        kind = RepeatedAnswers if part.repeats else KnownAnswers
        return kind(folder=job.folder, number=number, inputs=part.inputs, sent_at=job.ledger.created_at)

    @contextlib.contextmanager
    def keeper(self, job: Job, number: int, source: LineSource, key: str) -> Iterator[PartKeeper]:
        """A keeper of a part's answers; what it took counts when the block ends well."""
        batch = source.batch if isinstance(source, BatchResults) else None
        answered_at = (batch and batch.ended_at) or job.ledger.created_at
        with contextlib.ExitStack() as stack:

            def open_firsts() -> IO[bytes]:
                return stack.enter_context(job.folder.replace(firsts_of(number)))

            pair = None if job.ledger.parts[number].kept == key else PairWriter(self.store)
            keeper = PartKeeper(
                answered_at=answered_at,
                batch_id=batch.id if batch else None,
                pair=pair,
                repeated=self._repeated_in(job),
                open_firsts=open_firsts,
            )
            if pair is not None:
                stack.enter_context(keeping(pair, keeper))
            yield keeper

    def finish(self) -> None:
        """After a delivery has ended: tidy the store up, where that pays."""
        try:
            self.store.want_kept(self.max_age)
            compact(self.store, datetime.datetime.now(datetime.UTC))
        except Exception as error:  # noqa: BLE001  # each store has errors of its own; the output is complete
            log.warning("The store of answers cannot be tidied up (%s)", type(error).__name__)

    def _repeated_in(self, job: Job) -> frozenset[bytes]:
        with self._lock:
            parts = job.ledger.parts
            if len(parts) not in self._repeated:
                self._repeated = {
                    len(parts): frozenset(
                        from_text(row.reuse)
                        for part in parts
                        if part.repeats
                        for row in stored_inputs(job.folder, part.inputs)
                    )
                }
            return self._repeated[len(parts)]
