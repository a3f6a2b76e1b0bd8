"""Reading the result lines of one part, completely.

A download can break off, or end early at the end of a line as if it were complete. So lines are
counted against what was sent and against the source's own count; a short download is fetched again
and what was seen already is passed over. A result that the counts say exists has been paid for: it is
downloaded, or the delivery fails and a retry goes on, until a person accepts that it never comes (see
`unread`). Only a request that is in no count is missing.
Where the lines come from is `result_lines`' business: a batch, or files of the job's folder.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.api.result_lines import Lines, ReadLines, as_utf_8, read_lines, whole_lines
from airflow_claude_batch.batches.api.retry import passing_problem, retrying
from airflow_claude_batch.batches.errors import ClaudeBatchError, IncompleteResultsError, UnreadResultsError
from airflow_claude_batch.batches.results.line_sources import DecodedSource, LineSource
from airflow_claude_batch.batches.results.sent_requests import Ids, Inputs, Own, Strangers

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

FRUITLESS = 4
"""So many downloads in a row that break off without a new line are the last."""
FRUITLESS_COMPLETE = 2
"""So many in a row that end properly without a new line are the last."""
SHOWN_PLACES = 5
"""Lines that no request has are named up to this number."""
PAUSE_SECONDS = 1.0
"""Before the second download, where the API names no time; doubled for each further one, up to a minute."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Some result lines, and beside each what its request has of its own."""

    lines: Lines
    own: list[Own]

    def select(self, chosen: Sequence[bool]) -> Arrivals:
        """Those that are chosen."""
        if all(chosen):
            return self
        return Arrivals(self.lines.select(chosen), list(compress(self.own, chosen)))


class _ShortDownloadError(IncompleteResultsError):
    """A download ended as if it were complete."""


@dataclass
class _Unmatched:
    """Lines of one download that are no result of a request, and where they are; never what they hold."""

    damaged: int = 0
    """How many cannot be read as one result."""
    unknown: int = 0
    """How many are for custom_ids that were never sent."""
    _places: list[str] = field(default_factory=list)
    _lines: int = 0
    _bytes: int = 0
    """Of the download, before the block that is looked at."""

    def see(self, block: bytes, read: ReadLines, unknown: Sequence[int]) -> None:
        """Count what is in a block.

        Args:
            block: Whole lines, as they came.
            read: What they say.
            unknown: Rows whose custom_id was never sent.
        """
        self.damaged += len(read.damaged)
        self.unknown += len(unknown)
        numbers = sorted([*read.damaged, *(read.numbers[row] for row in unknown)])
        if numbers and len(self._places) < SHOWN_PLACES:
            lines = block.split(b"\n")
            for number in numbers[: SHOWN_PLACES - len(self._places)]:
                start = self._bytes + sum(map(len, lines[:number])) + number
                end = start + len(lines[number])
                self._places.append(f"line {self._lines + number + 1} (bytes {start} to {end})")
        self._lines += read.line_count
        self._bytes += len(block)

    def __str__(self) -> str:
        """In words; empty where there are none."""
        if not self._places:
            return ""
        more = self.damaged + self.unknown - len(self._places)
        places = ", ".join(self._places) + (f" and {more} more" if more else "")
        return (
            f"; {self.damaged} lines of the last download cannot be read, {self.unknown} have no custom_id "
            f"that was sent: {places}"
        )


class StoppedError(ClaudeBatchError):
    """The download was asked to stop."""


@dataclass(kw_only=True)
class Download:
    """One part's results, each request once."""

    source: LineSource
    inputs: Ids | Inputs | None = None
    """What was sent; None where not known (batches that something else submitted)."""
    sent_as: tuple[str, str] | None = None
    """The custom_id that carries the part's mark, with and without it; the mark is taken off."""
    mend: bool = True
    """Whether bytes that are no UTF-8 are replaced; if not, lines come unchanged."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends the download early, for example because another one failed."""
    accepted: Set[str] = frozenset()
    """custom_ids whose results never come, as a person has accepted."""
    incomplete: bool = False
    """Whether a person has accepted whatever never comes."""
    way_out: str = ""
    """What a person can do where results never come, for the error."""
    unreadable: int = 0
    """Results that exist and did not come, which a person has accepted."""
    _unmatched: _Unmatched = field(default_factory=_Unmatched)
    _left: int = 0
    _fruitless: int = 0
    """Downloads in a row that have brought no new line."""
    _strangers: Strangers = field(default_factory=Strangers)

    def arrivals(self) -> Iterator[Arrivals]:
        """Download each result line once.

        Yields:
            Some lines at a time.

        Raises:
            ResultsError: When there are no results yet, or no more.
            UnreadResultsError: When some results that exist do not come, however often they are asked for.
            IncompleteResultsError: When none can be had for now.
        """
        self.source.check()
        sent = self._left = self.source.existing if self.inputs is None else len(self.inputs)
        self._fruitless = 0
        tries = retrying(stop=self._gets_no_further, sleep=self._sleep, known=True, shortest=PAUSE_SECONDS)
        problem = ""
        try:
            for attempt in tries:
                with attempt:
                    yield from self._rest()
        except _ShortDownloadError:
            pass
        except Exception as error:  # noqa: BLE001  # what does not pass is raised by passing_problem
            problem = passing_problem(error, known=True)
        if self._left > 0 and (self.source.paid or problem):
            self._settle(sent, problem)

    def _rest(self) -> Iterator[Arrivals]:
        """One more download of what has not come yet.

        Raises:
            _ShortDownloadError: When it ends properly, and not all has come.
        """
        before = self._left
        try:
            yield from self._once()
        finally:
            self._fruitless = 0 if self._left < before else self._fruitless + 1
        # What nobody has paid for is asked, not looked for again.
        if self._left > 0 and self.source.paid and not self._is_accepted():
            raise _ShortDownloadError(f"{self._left} results of {self.source.name} did not come")

    def _sleep(self, seconds: float) -> None:
        self.stop.wait(seconds)

    def _gets_no_further(self, call: RetryCallState) -> bool:
        short = call.outcome is not None and isinstance(call.outcome.exception(), _ShortDownloadError)
        return self._fruitless >= (FRUITLESS_COMPLETE if short else FRUITLESS)

    def _settle(self, sent: int, problem: str) -> None:
        """Decide what it means that lines did not come: nothing that exists is ever called missing.

        Args:
            sent: Requests of the batch, as far as known.
            problem: What ended the last download early, if it is known.
        """
        existing, name = self.source.existing, self.source.name
        absent = min(sent, existing) - (sent - self._left)
        unread = not problem or self._left < sent
        if not problem and absent <= 0:
            log.error(
                "%s of %s requests of %s are missing: there are %s results", self._left, sent, name, existing
            )
        elif (unread and self.incomplete) or self._is_accepted():
            self.unreadable = self._left
            log.warning(
                "%s of %s results of %s never come, which a person has accepted%s",
                self._left,
                sent,
                name,
                self._unmatched,
            )
        else:
            kind = UnreadResultsError if unread else IncompleteResultsError
            raise kind(
                f"{self._left} of {sent} results of {name} did not come, however often they were asked for "
                f"({problem or 'each download ended properly'}{self._unmatched}); there are {existing} that "
                "exist. Nothing of this part is delivered or sent again; a retry reads it anew. "
                f"{self.way_out if unread else ''}".rstrip()
            )

    def _is_accepted(self) -> bool:
        """Whether a person has accepted that what has not come never does."""
        if self.inputs is None or self._left > len(self.accepted):
            return False
        return all(custom_id in self.accepted for custom_id, _ in self.inputs.unanswered())

    def missing(self) -> Iterator[tuple[str, Own]]:
        """Requests without a line, after :meth:`arrivals`: in no count of the source, unless `unreadable`."""
        return iter(()) if self.inputs is None else self.inputs.unanswered()

    def _once(self) -> Iterator[Arrivals]:
        inputs = self._strangers if self.inputs is None else self.inputs
        self._unmatched = _Unmatched()
        with contextlib.closing(self._read()) as blocks:
            for block, read in blocks:
                if self.stop.is_set():
                    raise StoppedError("Another part failed.")
                lines, unknown = read.lines, list[int]()
                taken = inputs.take([row.custom_id for row in lines.rows])
                expected = [own for own in taken if own is not None]
                if len(expected) < len(taken):
                    rows = zip(lines.rows, taken, strict=True)
                    unknown = [
                        number
                        for number, (row, own) in enumerate(rows)
                        if own is None and not inputs.was_sent(row.custom_id)
                    ]
                    lines = lines.select([own is not None for own in taken])
                self._unmatched.see(block, read, unknown)
                self._left -= len(expected)
                yield Arrivals(lines, expected)

    @property
    def unknown_ids(self) -> int:
        """Lines for custom_ids that were never sent."""
        return self._unmatched.unknown

    def _read(self) -> Generator[tuple[bytes, ReadLines], None, None]:
        """Some lines at a time, as they came and as they are read."""
        if isinstance(self.source, DecodedSource):
            for lines in self.source.lines(mend=self.mend):
                count = len(lines.rows)
                yield b"", ReadLines(lines, count, range(count), [])
            return
        with self.source.open() as blocks:
            for block in whole_lines(blocks):
                yield block, read_lines(self._unmarked(as_utf_8(block) if self.mend else block))

    def _unmarked(self, data: bytes) -> bytes:
        """Result lines under the user's own custom_ids. In a text of an answer quotes are escaped."""
        if self.sent_as is None:
            return data
        sent, own = (b'"%b"' % custom_id.encode() for custom_id in self.sent_as)
        return data.replace(sent, own)
