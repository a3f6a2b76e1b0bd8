"""Which CSV it is: found on the first rows, by what makes all of them equally wide.

A file that fits several kinds, or whose rows look like columns that are not told apart, is refused: what it
means is for its owner to say.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import islice
from typing import Any

from airflow_claude_batch.batches.requests.files.backslashes import WrittenEscapes
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.rows import UnreadableFileError

ROWS = 100
"""Rows that are looked at."""
DELIMITERS = (",", "\t", ";", "|")
MOST_TITLES = 5
"""Lines above the names of the columns that are told as such."""
_OTHER_DELIMITERS = "^~:¦§\x01\x1f"
"""Not guessed; a file of one column that has one in every row is refused."""
_SEP = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
_BLANK_AND_QUOTE = re.compile(r"(?:^|[,;|\t]) +[\"']", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How rows are written."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    skip_blanks: bool = False
    """Whether blanks after a delimiter are no part of the field."""

    def reader(self, lines: Iterable[str]) -> Any:
        """A ``csv.reader`` that refuses what is not quite CSV."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape or None,
            skipinitialspace=self.skip_blanks,
            strict=True,
        )

    def is_misread(self, field: str) -> bool:
        """Whether it begins with a quote behind a blank: quoted, for another reader than this one."""
        return field[:1] == " " and self.quote != "" and field.lstrip(" ")[:1] == self.quote


@dataclass(frozen=True)
class _Trial:
    """The first rows, read in one way."""

    dialect: Dialect
    rows: list[list[str]]
    failed: bool

    @property
    def width(self) -> int:
        return len(self.rows[0]) if self.rows else 0

    @property
    def splits_quoted_names(self) -> bool:
        """Whether a name holds a quote, as the pieces of one do that was cut at a delimiter in it."""
        quote = self.dialect.quote
        return bool(quote and self.rows) and any(quote in name for name in self.rows[0])

    @property
    def fits(self) -> bool:
        """Whether all rows are of one width, but for a delimiter at the end of all or of the header."""
        if self.failed or any(self.dialect.is_misread(field) for row in self.rows for field in row):
            return False
        widths = {len(row) for row in self.rows[1:]} or {self.width}
        return len(widths) == 1 and (widths == {self.width} or ends_with_delimiter(self.rows) is not None)


@dataclass(frozen=True)
class _Beginning:
    """The first lines of a file."""

    lines: Sequence[str]
    _: KW_ONLY
    whole: bool
    """Whether they are all of it."""
    tabs: bool
    """Whether its name says that tabs separate its columns."""

    def read(self, dialect: Dialect) -> _Trial:
        """The rows in one way."""
        rows: list[list[str]] = []
        try:
            found = (row for row in dialect.reader(self.lines) if row and (rows or not is_blank(row)))
            rows += islice(found, ROWS)
        except csv.Error as error:
            # A sample that is cut off may end inside a quote; the rows before it are good all the same.
            return _Trial(dialect, rows, failed=self.whole or "unexpected end" not in str(error))
        if not self.whole and len(rows) < ROWS and len(rows) > 1:
            rows.pop()
        return _Trial(dialect, rows, failed=False)

    def read_with(self, dialect: Dialect, delimiters: Iterable[str]) -> list[_Trial]:
        """The rows with each of several delimiters."""
        return [self.read(replace(dialect, delimiter=delimiter)) for delimiter in delimiters]

    def widest(self, trials: list[_Trial]) -> _Trial | None:
        """The way that makes most columns of the rows; None where none fits.

        Raises:
            UnreadableFileError: Where two do equally well.
        """
        fitting = [trial for trial in trials if trial.fits]
        if not fitting:
            return None
        fitting = [trial for trial in fitting if not trial.splits_quoted_names] or fitting
        width = max(trial.width for trial in fitting)
        widest = [trial for trial in fitting if trial.width == width]
        if width > 1 and len(widest) > 1 and not self.tabs:
            both = " and ".join(repr(trial.dialect.delimiter) for trial in widest)
            raise UnreadableFileError(
                "say which delimiter=… separates the columns", f"{both} may both do", "line 1"
            )
        return widest[0]


def ends_with_delimiter(rows: list[list[str]]) -> int | None:
    """The width of the rows where they end with a delimiter and the header does not, or the reverse."""
    header, others = rows[0], rows[1:]
    widths = {len(row) for row in others}
    if len(header) < 2 or len(widths) != 1:
        return None
    [width] = widths
    if width == len(header) - 1 and not header[-1]:
        return width
    if width == len(header) + 1 and len(others) > 1 and not any(row[-1] for row in others):
        return width
    return None


def separator_line(line: str) -> str | None:
    """The delimiter that a first line ``sep=;`` (of Excel) names."""
    match = _SEP.fullmatch(line)
    return match[1] if match else None


def is_blank(row: list[str]) -> bool:
    """Whether a row says nothing."""
    return not any(map(str.strip, row))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the first rows say."""

    dialect: Dialect
    rows: list[list[str]]
    """Them."""
    guesses: list[str]
    """What of the dialect was found out rather than said or usual."""
    undecided: bool = False
    """Whether a missing value and another backslash, both in one file, leave open what the latter is."""
    quoted: bool = False
    """Whether there are quotes."""


def find_dialect(sample: str, *, whole: bool, options: ReadOptions, tabs: bool) -> Found:
    """The dialect of a file.

    Args:
        sample: The beginning of the file.
        whole: Whether it is all of the file.
        options: What the user says.
        tabs: Whether the name of the file says that tabs separate its columns.

    Raises:
        UnreadableFileError: Where it cannot be told.
    """
    lines = list(io.StringIO(sample, newline=""))
    said = options.delimiter
    if lines and (named := separator_line(lines[0])):
        said, lines = said or named, lines[1:]
    usual = Dialect(
        delimiter=said or ("\t" if tabs else ","),
        quote='"' if options.quote is None else options.quote,
        escape=options.escape or "",
    )
    beginning = _Beginning(lines, whole=whole, tabs=tabs)
    delimiters = list(_delimiters(usual, said))
    trials = beginning.read_with(usual, delimiters)
    best = beginning.widest(trials)
    if best is None or best.width < 2:
        variants = (beginning.read_with(one, delimiters) for one in _variants(usual, sample, options))
        columns = ([trial for trial in some if trial.width > 1] for some in variants)
        best = next(filter(None, map(beginning.widest, columns)), None)
    if options.header is None or isinstance(options.header, bool):
        _refuse_titles(trials if best is None else [best])
    if best is None:
        best = _likeliest(trials)
        if said is None and best.width == 1:
            _refuse_hidden_columns(best, trials)
    kept = _with_habits(best, beginning, options)
    found = kept.dialect
    undecided = options.escape is None and not best.dialect.escape and not _is_told_as_text(found, lines)
    return Found(
        dialect=found,
        rows=kept.rows,
        guesses=_guesses(usual, found),
        undecided=undecided and not (found.escape and found.delimiter == "\t"),
        quoted=_is_quoted(found, lines),
    )


def _delimiters(usual: Dialect, said: str | None) -> Iterator[str]:
    yield usual.delimiter
    if said is None:
        yield from (d for d in DELIMITERS if d not in (usual.delimiter, usual.quote, usual.escape))


def _likeliest(trials: list[_Trial]) -> _Trial:
    """Of ways of which none fits, the one that fits most rows; its reader names those that do not."""

    def matches(trial: _Trial) -> tuple[bool, float, int]:
        same = sum(len(row) == trial.width for row in trial.rows)
        return trial.width > 1, same / max(len(trial.rows), 1), trial.width

    return max(trials, key=matches)


def _variants(usual: Dialect, sample: str, options: ReadOptions) -> Iterator[Dialect]:
    escapes = options.escape is None and usual.quote and f"\\{usual.quote}" in sample
    blanks = bool(_BLANK_AND_QUOTE.search(sample))
    if blanks:
        yield replace(usual, skip_blanks=True)
    if escapes:
        yield replace(usual, escape="\\")
    if blanks and escapes:
        yield replace(usual, skip_blanks=True, escape="\\")


def _refuse_titles(trials: list[_Trial]) -> None:
    """A first line that is no header of the rows below it is most often a title."""
    for trial in sorted(trials, key=lambda trial: len(trial.rows[-1]) if trial.rows else 0, reverse=True):
        if not trial.rows:
            continue
        first, width = trial.rows[0], len(trial.rows[-1])
        way_out = "where that is a title, take away what is above the names; else give each column a name"
        if trial.fits and first[0] and not any(first[1:]) and any(any(row[1:]) for row in trial.rows[1:]):
            rule = f"the first line names the columns: {way_out}"
            raise UnreadableFileError(rule, f"1 name for {width} columns", "line 1")
        if not trial.fits and (above := _titles(trial)):
            if len(first) == 1:
                way_out += (
                    f"; where {trial.dialect.delimiter!r} is text, say a delimiter=… that does not occur"
                )
            lines = "line 1" if above == 1 else f"lines 1 to {above}"
            rule = f"the first line names the columns, and there are {width} below {lines}: {way_out}"
            raise UnreadableFileError(rule, f"{len(first)} field{'s' * (len(first) > 1)}", "line 1")


def _titles(trial: _Trial) -> int:
    """Rows of another width above those that are all of one, a header and a row at the least."""
    widths = [len(row) for row in trial.rows]
    width = widths[-1]
    above = len(widths) - next((n for n, one in enumerate(reversed(widths)) if one != width), len(widths))
    rest = len(widths) - above
    if width < 2 or rest < 2 or above > MOST_TITLES or widths[0] == width:
        return 0
    # Of text with a comma here and there, two rows may be alike by chance.
    return above if above == 1 or width > 2 or rest > 2 else 0


def _refuse_hidden_columns(best: _Trial, trials: list[_Trial]) -> None:
    """One column is a rare thing, one delimiter too many a common one."""
    rows = [row[0] for row in best.rows[1:]] if best.rows else []
    if not rows:
        return
    for trial in trials:  # the first line has none of these
        if len(trial.rows) > 1 and all(len(row) > 1 for row in trial.rows[1:]):
            rule = (
                f"there is one column, but {trial.dialect.delimiter!r} in every row: where line 1 is a title,"
                " take it away; where the delimiter is text, say a delimiter=… that does not occur"
            )
            raise UnreadableFileError(rule, "1 column", "line 1")
    counts = {d: best.rows[0][0].count(d) for d in (*DELIMITERS, *_OTHER_DELIMITERS)}
    for found, count in counts.items():
        if count and all(row.count(found) == count for row in rows):
            way_out = f"say delimiter={found!r}"
            if found in DELIMITERS:  # else it would separate columns
                way_out = "take the quotes around whole rows away"
            rule = (
                f"there is one column, but {found!r} in every row: {way_out}, or, where it is text, say a "
                "delimiter that does not occur"
            )
            raise UnreadableFileError(rule, "1 column", "line 1")


def _with_habits(best: _Trial, beginning: _Beginning, options: ReadOptions) -> _Trial:
    """What shows only when the columns are known: single quotes, blanks after each delimiter, escapes."""
    dialect, rows = best.dialect, best.rows
    header, others = (rows[0] if rows else []), rows[1:]
    if options.quote is None and header and all(len(n) > 1 and n[0] == n[-1] == "'" for n in header):
        trial = beginning.read(replace(dialect, quote="'"))
        return best if trial.failed else trial
    if len(header) > 1 and others and all(field[:1] == " " for row in rows for field in row[1:]):
        dialect = replace(dialect, skip_blanks=True)
    if (
        options.escape is None
        and not _is_quoted(dialect, beginning.lines)
        and any("\\N" in row for row in others)
    ):
        dialect = replace(dialect, escape="\\")
    return best if dialect == best.dialect else beginning.read(dialect)


def _is_quoted(dialect: Dialect, lines: Sequence[str]) -> bool:
    return dialect.quote != "" and any(dialect.quote in line for line in lines)


def _is_told_as_text(dialect: Dialect, lines: Sequence[str]) -> bool:
    """Whether a quoted file shows that its backslashes are text: who escapes with them writes no ``""``."""
    if not _is_quoted(dialect, lines):
        return False
    twice = re.compile(f"[^{re.escape(dialect.delimiter)}\\s\\\\]{2 * re.escape(dialect.quote)}")
    written = WrittenEscapes(dialect.delimiter, dialect.quote)
    return any(twice.search(line) or written.leave_one(line) for line in lines)


def _guesses(usual: Dialect, found: Dialect) -> list[str]:
    names = ("delimiter", "quote", "escape", "skip_blanks")
    pairs = ((name, getattr(usual, name), getattr(found, name)) for name in names)
    return [f"{name}={value!r}" for name, before, value in pairs if before != value]
