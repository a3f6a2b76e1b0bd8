"""Where result lines come from, and how many there are: a batch's download, or files of the job's folder.

Whether each request has come once, and whether all have come, is the business of `download`, for both alike.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never, runtime_checkable

from airflow_claude_batch.batches.api.client import RESULTS_KEPT, Batch, BatchesApi
from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.api.lookup import look_up
from airflow_claude_batch.batches.api.result_lines import Lines
from airflow_claude_batch.batches.cost.prices import ServiceTier
from airflow_claude_batch.batches.errors import IncompleteResultsError, ResultsError, ResultsGoneError
from airflow_claude_batch.batches.job.answers import answer_files
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder, iter_blocks

log = logging.getLogger(__name__)

WARNED = datetime.timedelta(days=2)
"""Results that are closer to their end than this are warned about."""


class _Source(Protocol):
    """Where the result lines of one part come from."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def existing(self) -> int:
        """How many requests have a line, as the keeper of the lines says."""

    @property
    def sent_at(self) -> datetime.datetime:
        """When the requests were sent, which decides the prices."""

    @property
    def service(self) -> ServiceTier:
        """What the answers were given at, for their price."""

    @property
    def paid(self) -> bool:
        """Whether this job pays for the answers."""

    def check(self) -> None:
        """Return if the lines can be read.

        Raises:
            ResultsError: When there are none yet.
            ResultsGoneError: When they are archived or deleted.
        """


class ByteSource(_Source, Protocol):
    """One that gives them out as they came."""

    def open(self) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        """Blocks of lines; each time from the first on."""


@runtime_checkable
class DecodedSource(_Source, Protocol):
    """One that gives them out decoded."""

    def lines(self, *, mend: bool) -> Iterator[Lines]:
        """Some lines at a time; each time from the first on.

        Args:
            mend: Whether bytes that are no UTF-8 are replaced.
        """


LineSource = ByteSource | DecodedSource


@dataclass(frozen=True, kw_only=True)
class BatchResults:
    """The results of a batch, from the API."""

    api: BatchesApi
    batch: Batch
    service: ServiceTier = "batch"
    paid: bool = True

    @property
    def name(self) -> str:
        """Its id."""
        return self.batch.id

    @property
    def existing(self) -> int:
        """As the API counts them."""
        counts = self.batch.request_counts
        return counts.total - counts.processing

    @property
    def sent_at(self) -> datetime.datetime:
        """When it was created."""
        return self.batch.created_at

    def check(self) -> None:
        """Return if it has ended, and its results are still kept."""
        if not self.batch.ended:
            raise ResultsError(
                f"Batch {self.batch.id} has not ended ({self.batch.processing_status}); wait for it first."
            )
        _warn_before_the_end(self.batch)

    def open(self) -> contextlib.AbstractContextManager[Iterator[bytes]]:
        """A download."""
        return self.api.results(self.batch.id)


@dataclass(frozen=True, kw_only=True)
class StoredResults:
    """Result lines in files of a job's folder."""

    folder: Folder
    files: Sequence[str]
    """One after the other; a request that has several lines has the first of them."""
    existing: int
    """How many requests have a line in them."""
    sent_at: datetime.datetime
    service: ServiceTier = "standard"
    paid: bool = True

    @property
    def name(self) -> str:
        """The first of the files."""
        return f"{self.folder.url}/{next(iter(self.files), '')}"

    def check(self) -> None:
        """They are there, or reading them fails."""

    @contextlib.contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        """The files, block by block."""
        yield self._blocks()

    def _blocks(self) -> Iterator[bytes]:
        for name in self.files:
            try:
                with self.folder.open_read(name) as file:
                    yield from iter_blocks(file)
            except FileNotFoundError as error:
                raise IncompleteResultsError(f"{self.folder.url}/{name}: {foreign_text(error)}") from None


def part_source(api: BatchesApi, folder: Folder, ledger: Ledger, number: int) -> LineSource | None:
    """Where the result lines of a part come from; None where it was not sent.

    Args:
        api: Where its batch is, if it has one.
        folder: Of the job.
        ledger: Of the job.
        number: Of the part.
    """
    part = ledger.parts[number]
    if part.given_up or part.rejected:
        return None
    match part.way:
        case "batch":
            assert part.batch_id is not None
            return BatchResults(api=api, batch=look_up(api, part.batch_id))
        case "direct" | "reuse":
            return StoredResults(
                folder=folder,
                files=answer_files(folder, number),
                existing=part.request_count,
                sent_at=ledger.created_at,
            )
        case _:
            assert_never(part.way)


def _warn_before_the_end(batch: Batch) -> None:
    """Say when results will soon be gone.

    Args:
        batch: Whose results.

    Raises:
        ResultsGoneError: When they are.
    """
    ends = batch.created_at + RESULTS_KEPT
    if batch.archived_at is not None:
        raise ResultsGoneError(
            f"The results of {batch.id} are gone (archived at {batch.archived_at}). The API keeps them for "
            f"29 days after the batch was created ({batch.created_at}); nothing can bring them back but "
            "submitting again."
        )
    left = ends - datetime.datetime.now(datetime.UTC)
    if left < WARNED:
        log.warning(
            "The results of %s are kept until %s only (29 days after its creation): %.0f hours are left",
            batch.id,
            ends,
            max(left.total_seconds(), 0) / 3600,
        )
