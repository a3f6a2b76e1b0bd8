"""Downloading the results of one batch, completely.

A download can break off, or end early at the end of a line as if it were complete. So lines are
counted against the custom_ids that were sent; a short download is fetched again and what was seen
already is passed over.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress

import msgspec

from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.errors import ClaudeBatchError, IncompleteResultsError, ResultsGoneError
from airflow_claude_batch.batches.inputs import Ids, Inputs, Strangers
from airflow_claude_batch.batches.resultlines import Lines, read_lines, whole_lines

log = logging.getLogger(__name__)

FRUITLESS = 4
"""So many downloads in a row that break off without a new line are the last."""
FRUITLESS_COMPLETE = 2
"""So many in a row that end properly without a new line: what is not in them does not exist."""
PAUSE_SECONDS = 1.0
"""Before the second download; doubled for each further one, up to a minute."""
KEPT = datetime.timedelta(days=29)
"""How long the API keeps results, from the creation of the batch (source: the API's documentation)."""
WARNED = datetime.timedelta(days=2)
"""Results that are closer to their end than this are warned about."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Some result lines, and beside each the user's columns."""

    lines: Lines
    columns: list[msgspec.Raw]

    def select(self, chosen: Sequence[bool]) -> Arrivals:
        """Those that are chosen."""
        if all(chosen):
            return self
        return Arrivals(self.lines.select(chosen), list(compress(self.columns, chosen)))


class ForeignBatchError(ClaudeBatchError):
    """The results hold a custom_id that was never sent: the batch is somebody else's."""


class StoppedError(ClaudeBatchError):
    """The download was asked to stop."""


@dataclass(kw_only=True)
class Download:
    """One batch's results, each request once."""

    api: BatchesApi
    batch: Batch
    inputs: Ids | Inputs | None = None
    """What was sent; None where not known (batches that something else submitted)."""
    strict: bool = False
    """Whether a custom_id that was never sent proves that the batch is not ours."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends the download early, for example because another one failed."""
    whole: bool = True
    """Whether answers are looked into; if not, ``message.content`` is left out, and lines come unchanged."""
    unknown_ids: int = 0
    """Lines for custom_ids that were never sent."""
    damaged: int = 0
    """Unreadable lines of the last download."""
    _left: int = 0
    _strangers: Strangers = field(default_factory=Strangers)

    def arrivals(self) -> Iterator[Arrivals]:
        """Each result line once, some at a time.

        :raises ResultsGoneError: when the results are archived or deleted
        :raises IncompleteResultsError: when the download keeps breaking off
        :raises ForeignBatchError: for a line that was never asked for, if ``strict``
        """
        warn_before_the_end(self.batch)
        self._left = len(self.inputs) if self.inputs is not None else self.batch.request_counts.total
        fruitless, pause = 0, PAUSE_SECONDS
        while True:
            left_before, problem = self._left, None
            try:
                yield from self._once()
            except Exception as error:  # noqa: BLE001  # sorted in passing_problem, the rest is raised there
                problem = passing_problem(error)
            if self._left <= 0:
                return
            fruitless = 0 if self._left < left_before else fruitless + 1
            what = (
                f"{self._left} of {self.batch.request_counts.total} results of {self.batch.id} did not come"
            )
            if fruitless >= (FRUITLESS if problem else FRUITLESS_COMPLETE):
                break
            log.warning("%s (%s); downloading again", what, problem or "the download ended early")
            self.stop.wait(pause)
            pause = min(pause * 2, 60.0)
        if problem:
            raise IncompleteResultsError(
                f"{what} in {fruitless} more downloads: {problem}. A retry starts again."
            )
        log.error("%s in %s more downloads; these requests are missing", what, fruitless)

    def missing(self) -> Iterator[tuple[str, msgspec.Raw]]:
        """Requests without a line, and their columns; after :meth:`arrivals`."""
        return iter(()) if self.inputs is None else self.inputs.unanswered()

    @property
    def missing_unnamed(self) -> int:
        """How many lines did not come where the custom_ids are not known."""
        return max(self._left, 0) if self.inputs is None else 0

    def _once(self) -> Iterator[Arrivals]:
        inputs = self._strangers if self.inputs is None else self.inputs
        self.damaged = self.unknown_ids = 0
        with self.api.results(self.batch.id) as blocks:
            for data in whole_lines(blocks, mend=self.whole):
                if self.stop.is_set():
                    raise StoppedError("Another part failed.")
                lines, damaged = read_lines(data, content=self.whole)
                self.damaged += damaged
                columns = inputs.take([row.custom_id for row in lines.rows])
                expected = [own for own in columns if own is not None]
                if len(expected) < len(columns):
                    for row, own in zip(lines.rows, columns, strict=True):
                        if own is None and not inputs.was_sent(row.custom_id):
                            self._unknown(row.custom_id)
                    lines = lines.select([own is not None for own in columns])
                self._left -= len(expected)
                yield Arrivals(lines, expected)

    def _unknown(self, custom_id: str) -> None:
        self.unknown_ids += 1
        if self.strict:
            raise ForeignBatchError(f"{self.batch.id} holds {custom_id!r}, which was never sent.")


def look_up(api: BatchesApi, batch_id: str) -> Batch:
    """A batch that is known to exist, however long a passing trouble hides it (some minutes at most).

    :raises ResultsGoneError: when the API keeps answering that there is none
    """
    import anthropic

    pause = PAUSE_SECONDS
    for attempt in range(1, 7):
        try:
            return api.retrieve(batch_id)
        except Exception as error:
            problem = passing_problem(error)
            if attempt == 6:
                if isinstance(error, anthropic.NotFoundError):
                    raise ResultsGoneError(
                        f"The API does not know {batch_id} any more: it was deleted, or the connection "
                        f"{api.conn_id!r} now belongs to another workspace. Its answers cannot be fetched."
                    ) from error
                raise
            log.warning("Could not look at %s: %s", batch_id, problem)
            time.sleep(pause)
            pause *= 2
    raise AssertionError


def passing_problem(error: Exception) -> str:
    """A passing trouble in words; anything else is raised."""
    import anthropic
    import httpx2

    if isinstance(error, (httpx2.TransportError, httpx2.StreamError, anthropic.APIConnectionError)):
        return f"{type(error).__name__}: {error}"
    # A 404 on a batch that has ended comes and goes for minutes.
    passing = (404, 408, 409, 429)
    if isinstance(error, anthropic.APIStatusError) and (
        error.status_code in passing or error.status_code >= 500
    ):
        return f"HTTP {error.status_code}: {error.message}"
    raise error


def warn_before_the_end(batch: Batch) -> None:
    """Say when results will soon be gone.

    :raises ResultsGoneError: when they are
    """
    ends = batch.created_at + KEPT
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
