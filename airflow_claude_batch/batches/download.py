"""Downloading the results of one batch, completely.

A download can break off, or end early at the end of a line as if it were complete. So lines are
counted against the custom_ids that were sent; a short download is fetched again and what was seen
already is passed over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.errors import IncompleteResultsError, ResultsGoneError
from airflow_claude_batch.batches.resultlines import ResultLine, read_line, split_lines

log = logging.getLogger(__name__)

FRUITLESS = 4
"""So many downloads in a row without a new line are the last."""
PAUSE_SECONDS = 1.0
"""Before the second download; doubled for each further one."""

_SEEN = b"\x00"


@dataclass(kw_only=True)
class Download:
    """One batch's results, each request once.

    :param columns: every custom_id that was sent with the user's columns; None where not known
        (batches that something else submitted)
    """

    api: BatchesApi
    batch: Batch
    columns: dict[str, bytes] | None
    unknown_ids: int = 0
    """Lines for custom_ids that were never sent."""
    damaged: int = 0
    """Unreadable lines of the last download."""
    _sent: dict[str, bytes] = field(default_factory=dict)
    _left: int = 0

    def lines(self) -> Iterator[tuple[ResultLine, bytes]]:
        """Each result line, once, with the user's columns.

        :raises ResultsGoneError: when the results are archived or deleted
        :raises IncompleteResultsError: when the download keeps breaking off
        """
        if self.batch.archived_at is not None:
            raise ResultsGoneError(_gone(self.batch, f"archived at {self.batch.archived_at}"))
        self._sent = self.columns if self.columns is not None else {}
        self._left = len(self._sent) if self.columns is not None else self.batch.request_counts.total
        fruitless, pause = 0, PAUSE_SECONDS
        while True:
            left_before, problem = self._left, None
            try:
                yield from self._once()
            except Exception as error:  # noqa: BLE001  # sorted in _problem, the rest is raised there
                problem = self._problem(error)
            if self._left == 0:
                return
            fruitless = 0 if self._left < left_before else fruitless + 1
            what = (
                f"{self._left} of {self.batch.request_counts.total} results of {self.batch.id} did not come"
            )
            if fruitless >= FRUITLESS:
                break
            log.warning("%s (%s); downloading again", what, problem or "the download ended early")
            time.sleep(pause)
            pause *= 2
        if problem:
            raise IncompleteResultsError(
                f"{what} in {FRUITLESS} more downloads: {problem}. A retry starts again."
            )
        log.error("%s in %s more downloads; they are delivered as missing", what, FRUITLESS)

    def missing(self) -> Iterator[tuple[str, bytes]]:
        """Requests without a line, with the user's columns; after :meth:`lines`."""
        return ((custom_id, columns) for custom_id, columns in self._sent.items() if columns is not _SEEN)

    @property
    def missing_unnamed(self) -> int:
        """How many lines did not come where the custom_ids are not known."""
        return self._left if self.columns is None else 0

    def _once(self) -> Iterator[tuple[ResultLine, bytes]]:
        sent, foreign = self._sent, self.columns is not None
        self.damaged = self.unknown_ids = 0
        with self.api.results(self.batch.id) as blocks:
            for raw in split_lines(blocks):
                line = read_line(raw)
                if line is None:
                    self.damaged += 1
                    continue
                columns = sent.get(line.custom_id)
                if columns is _SEEN:
                    continue
                if columns is None:
                    if foreign:
                        self.unknown_ids += 1
                        continue
                    columns = b""
                sent[line.custom_id] = _SEEN
                self._left -= 1
                yield line, columns

    def _problem(self, error: Exception) -> str:
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


def _gone(batch: Batch, why: str) -> str:
    return (
        f"The results of {batch.id} are gone ({why}). The API keeps them for 29 days after the batch was "
        f"created ({batch.created_at}); nothing can bring them back but submitting again."
    )
