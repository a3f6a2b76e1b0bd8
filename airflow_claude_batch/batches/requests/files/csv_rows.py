"""CSV in the kinds that databases and spreadsheets write."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO, Any, cast

from airflow_claude_batch.batches.requests.files.backslashes import (
    NULL,
    Backslashes,
    GuessedEscapes,
    UndecidedBackslashes,
)
from airflow_claude_batch.batches.requests.files.dialect import (
    Found,
    ends_with_delimiter,
    find_dialect,
    is_blank,
    separator_line,
)
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.rows import (
    LONGEST_FIELD,
    LONGEST_ROW,
    Broken,
    Row,
    UnreadableFileError,
    pick,
    too_long,
)
from airflow_claude_batch.batches.requests.files.stored import DAMAGED, Stored, damaged, encoding_of, no_text
from airflow_claude_batch.batches.storage import LineTooLongError

_ESCAPED = re.compile(r"\\([\\Nnrt0bZ])")
_NULL_MARK = "\ufdd0"  # a code point that is no character, while csv takes the backslash off
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "b": "\b", "Z": "\x1a"}


def read_csv(stored: Stored, options: ReadOptions, *, tabs: bool = False) -> Iterator[Row]:
    """The rows.

    Args:
        stored: The file.
        options: What the user says.
        tabs: Whether the name of the file says that tabs separate its columns.

    Raises:
        UnreadableFileError: Where it cannot be read any further.
    """
    if stored.whole and not stored.head:  # what some exports write for no rows
        return
    csv.field_size_limit(LONGEST_FIELD)
    encoding = encoding_of(stored, options.encoding)
    lines = _Lines()
    try:
        sample = _sample(stored, encoding)
        found = find_dialect(sample, whole=stored.whole, options=options, tabs=tabs)
        for guess in found.guesses:
            stored.guess(guess)
        text = _decoded(stored.stream(), _without_mark(encoding))
        yield from _rows(stored, options, found, lines, text)
    except LineTooLongError:
        most = f"{LONGEST_ROW} characters; check its quotes"
        raise too_long("row", most, f"line {lines.start}") from None
    except csv.Error as error:
        rule = (
            f"the row that begins here is not CSV ({error}); check its quotes, or say quote=… or escape=… "
            "(read no further)"
        )
        raise UnreadableFileError(rule, "bad quoting", f"line {lines.start}") from None
    except UnicodeDecodeError as error:
        raise no_text(error, encoding, f"line {lines.start}") from None
    except DAMAGED as error:
        raise damaged(stored, error, f"after line {lines.start}") from None


def _sample(stored: Stored, encoding: str) -> str:
    with io.TextIOWrapper(io.BytesIO(stored.head), _without_mark(encoding), newline="") as text:
        sample = text.read() if stored.whole else _whole_lines(text)
    if "\0" in sample:
        raise _zero_bytes("line 1")
    return sample


def _zero_bytes(place: str) -> UnreadableFileError:
    rule = "the file is no text, or damaged; where it is UTF-16, say encoding='utf-16-le' or 'utf-16-be'"
    return UnreadableFileError(rule, "zero bytes", place)


def _whole_lines(text: io.TextIOWrapper) -> str:
    """What is decoded before the sample ends in the middle of a character."""
    lines: list[str] = []
    try:
        lines.extend(text)
    except UnicodeDecodeError as error:
        if error.reason not in ("unexpected end of data", "truncated data", "incomplete multibyte sequence"):
            raise
    return "".join(lines)


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


def _backslashes(found: Found, options: ReadOptions) -> Backslashes | None:
    """What looks at the backslashes of a file of which the user does not say what they are."""
    dialect = found.dialect
    if found.undecided:
        return UndecidedBackslashes(dialect.delimiter, dialect.quote)
    if dialect.escape and options.escape is None:
        return GuessedEscapes(dialect.delimiter, dialect.quote, in_quotes=found.quoted)
    return None


class _Lines:
    """The lines of a text; those of one row are bounded together.

    They are handed on in blocks and looked at one by one only in a block that holds something to see: a line
    takes 0.3 µs instead of 1.6.
    """

    start = 1
    """The line on which the row under way began."""
    odd = False
    """Whether the row under way holds what may be a missing value, or a quote after a blank."""

    def of(self, text: Iterator[str], found: Found, options: ReadOptions) -> Iterator[str]:
        """The lines, without a byte order mark and what a first line says of the delimiter."""
        dialect = found.dialect
        blank_and_quote = f"{dialect.delimiter} {dialect.quote}" if dialect.quote else NULL
        backslashes = _backslashes(found, options)
        lines = chain.from_iterable(self._blocks(text, blank_and_quote, backslashes))
        first = next(lines, "")
        if separator_line(first) is not None:
            first = "\n"  # it counts as a line all the same
        whole = chain([first.removeprefix("\ufeff")] if first else [], lines)
        return map(_unescape, whole) if dialect.escape == "\\" else whole

    def _blocks(
        self,
        text: Iterator[str],
        blank_and_quote: str,
        backslashes: Backslashes | None,
    ) -> Iterator[Iterable[str]]:
        first, begun = 1, 0  # number of the block's first line; characters of the row under way before it
        for block in _whole_line_blocks(text):
            lines = io.StringIO(block, newline="").readlines()
            if "\0" in block:
                raise _zero_bytes(f"line {first + next(n for n, line in enumerate(lines) if chr(0) in line)}")
            if backslashes is not None and ("\\" in block or backslashes.see_quotes):
                backslashes.look_at(lines, first)
            if begun + len(block) > LONGEST_ROW or NULL in block or blank_and_quote in block:
                yield self._looked_at(lines, begun, blank_and_quote)
            else:
                yield lines
            place = self.start - first
            begun = sum(map(len, lines[place:])) if place > 0 else begun + len(block)
            first += len(lines)

    def _looked_at(self, lines: list[str], length: int, blank_and_quote: str) -> Iterator[str]:
        start = self.start
        for line in lines:
            if self.start != start:
                start, length = self.start, 0
            length += len(line)
            if length > LONGEST_ROW:
                raise LineTooLongError
            if NULL in line or blank_and_quote in line:
                self.odd = True
            yield line


def _decoded(file: IO[bytes], encoding: str) -> Iterator[str]:
    """A text in pieces; small ones, because a fault in one is told of the line before it."""
    decode = codecs.getincrementaldecoder(encoding)().decode
    while piece := cast("io.BufferedReader", file).read1(io.DEFAULT_BUFFER_SIZE):
        yield decode(piece)
    yield decode(b"", final=True)


def _whole_line_blocks(text: Iterator[str]) -> Iterator[str]:
    """A text in pieces that end with a line, whichever of the three ends of line it has.

    Raises:
        LineTooLongError: For a line that is longer than a row may be.
    """
    rest: list[str] = []  # of a line that goes on; joined once, so that a long one costs no square
    held = 0
    for piece in text:
        # A piece's last character is left over: after a carriage return a line feed may come.
        end = max(piece.rfind("\n"), piece.rfind("\r", 0, -1)) + 1
        if end:
            yield "".join((*rest, piece[:end]))
            rest, held = [], 0
        rest.append(piece[end:])
        held += len(piece) - end
        if held > LONGEST_ROW:
            raise LineTooLongError
    if held:
        yield "".join(rest)


def _unescape(line: str) -> str:
    """Escapes that stand for another character; ``csv`` itself only takes the backslash off."""
    return _ESCAPED.sub(_character, line) if "\\" in line else line


def _character(match: re.Match[str]) -> str:
    letter = match[1]
    return _NULL_MARK if letter == "N" else "\\" + _ESCAPES.get(letter, letter)


def _rows(
    stored: Stored, options: ReadOptions, found: Found, lines: _Lines, text: Iterator[str]
) -> Iterator[Row]:
    reader = found.dialect.reader(lines.of(text, found, options))
    shape = _Shape(stored, options, found, _header(reader, options, lines))
    names, width, plain = shape.names, shape.width, shape.plain
    lines.start, lines.odd = reader.line_num + 1, False
    for row in reader:
        if plain and len(row) == width and not lines.odd and (row[0] or any(row)):
            yield dict(zip(names, row))  # noqa: B905  # to say strict takes 0.3 µs, and they are equally many
        elif any(row):  # for an empty row spreadsheets write delimiters alone
            yield shape.row(row, f"{stored.url} line {lines.start}")
            lines.odd = False
        lines.start = reader.line_num + 1


def _header(reader: Any, options: ReadOptions, lines: _Lines) -> list[str]:
    """The names of the columns."""
    if options.header is not None and not isinstance(options.header, bool):
        return list(options.header)
    for row in reader:
        if not is_blank(row):
            return list(row)
        lines.start = reader.line_num + 1
    raise UnreadableFileError("the first line names the columns", "nothing", "line 1")


class _Shape:
    """How the fields of a row become a record."""

    def __init__(self, stored: Stored, options: ReadOptions, found: Found, header: list[str]) -> None:
        self._stored = stored
        self._dialect = found.dialect
        self._nulls = None if options.nulls is None else frozenset(options.nulls)
        given = options.header is not None and not isinstance(options.header, bool)
        ends = ends_with_delimiter([header, *(found.rows if given else found.rows[1:])])
        names = header[:-1] if len(header) > 1 and not header[-1] else header
        self.width = ends or len(header)
        """Fields of a row."""
        self._spare = self.width > len(names)  # rows end with a delimiter, behind which nothing is
        self.names = pick(options.columns, names)
        self._places = None if self.names == names else [names.index(name) for name in self.names]
        self.plain = not (self._nulls or self._spare or self._places or found.dialect.escape)
        """Whether fields are values as they are."""

    def row(self, fields: list[str], where: str) -> Row:
        """The record."""
        if len(fields) != self.width:
            rule = f"a row has {self.width} fields, as the first line has"
            return Broken(where=where, value=f"{len(fields)} fields", rule=rule)
        if self._spare and fields[-1]:
            return Broken(where=where, value="a value without a column", rule="each column has a name")
        if any(map(self._dialect.is_misread, fields)):
            rule = (
                "a quote follows a delimiter at once, as in the rows before; take the blank between them away"
            )
            return Broken(where=where, value="a blank before a quote", rule=rule)
        chosen = fields if self._places is None else [fields[place] for place in self._places]
        return dict(zip(self.names, map(self._value, chosen), strict=False))

    def _value(self, field: str) -> str | None:
        if self._nulls is not None:
            field = field.replace(_NULL_MARK, NULL)
            return None if field in self._nulls else field
        if field in (NULL, _NULL_MARK):
            self._stored.guess(f"nulls={[NULL]}")
            return None
        return field.replace(_NULL_MARK, "N")
