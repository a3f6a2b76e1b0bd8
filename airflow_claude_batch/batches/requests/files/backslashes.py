"""What a backslash in CSV is: text, or an escape.

PostgreSQL and spreadsheets write it as text, MySQL and Snowflake before what they escape, and both kinds have
backslash and N for a missing value. Taking one for the other changes values without a word, so what the file
itself does not show is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from airflow_claude_batch.batches.requests.files.rows import UnreadableFileError

NULL = "\\N"
"""How MySQL, PostgreSQL, Hive and Snowflake write a missing value."""
_UNDECIDED = "it is text (PostgreSQL) or escapes (MySQL, Snowflake): say escape='' or escape='\\\\'"
_NO_ESCAPE = (
    "on the first rows backslashes escape, and nobody escapes this: say escape='\\\\' where they do all the "
    "same, escape='' where they are text"
)


class WrittenEscapes:
    """What databases write with a backslash.

    Args:
        delimiter: Between fields.
        quote: Around fields, or nothing.
    """

    def __init__(self, delimiter: str, quote: str) -> None:
        signs = re.escape(f"\\'0nrtbZ\r\n{delimiter}{quote}")
        edges = re.escape(f"\r\n{delimiter}{quote}")
        self._written = re.compile(rf"\\[{signs}]|(?<![^{edges}])\\N(?![^{edges}])")

    def leave_one(self, line: str) -> bool:
        """Whether a line holds a backslash besides: one that is text."""
        return "\\" in line and "\\" in self._written.sub("", line)


class UndecidedBackslashes:
    """Refuses a file where missing values and other backslashes come together.

    Where missing values are backslash and N, others are text (PostgreSQL) or escapes (MySQL).
    """

    see_quotes = False
    """Whether lines without a backslash are to be looked at, too."""

    def __init__(self, delimiter: str, quote: str) -> None:
        self._delimiter = delimiter
        self._missing = (NULL, f"{quote}{NULL}{quote}")
        self._nulls = self._others = False

    def look_at(self, lines: Iterable[str], first: int) -> None:
        """Look at some lines, of which the first one has a number.

        Raises:
            UnreadableFileError: Where the file holds both by now.
        """
        for number, line in enumerate(lines, first):
            if "\\" in line:
                fields = [field for field in line.rstrip("\r\n").split(self._delimiter) if "\\" in field]
                self._nulls = self._nulls or any(field in self._missing for field in fields)
                self._others = self._others or any(field not in self._missing for field in fields)
                if self._nulls and self._others:
                    raise UnreadableFileError(_UNDECIDED, "a backslash", f"line {number}")


class GuessedEscapes:
    r"""Refuses a file whose backslashes look like escapes on the first rows, and like text further on.

    Args:
        delimiter: Between fields.
        quote: Around fields, or nothing.
        in_quotes: Whether the file has quotes: then nothing is escaped outside of them. Spark writes
            ``"say \"hi\", now"`` and, in the same file, ``C:\new``.
    """

    def __init__(self, delimiter: str, quote: str, *, in_quotes: bool) -> None:
        self._written = WrittenEscapes(delimiter, quote)
        self._in_quotes = self.see_quotes = in_quotes
        self._inside = False
        mark, between = re.escape(quote), re.escape(delimiter)
        rest = rf"(?:[^{mark}\\]++|\\.|{mark}{mark})*+{mark}"
        self._rest = re.compile(rest, re.DOTALL)
        self._field = re.compile(rf"(?:^|(?<={between})) *{mark}{rest}", re.DOTALL)
        self._opening = re.compile(rf"(?:^|{between}) *{mark}")

    def look_at(self, lines: Iterable[str], first: int) -> None:
        """Look at some lines, of which the first one has a number.

        Raises:
            UnreadableFileError: At a backslash that is no escape.
        """
        for number, line in enumerate(lines, first):
            outside = self._outside(line) if self._in_quotes else ""
            if "\\" in outside.replace(NULL, "") or self._written.leave_one(line):
                raise UnreadableFileError(_NO_ESCAPE, "a backslash", f"line {number}")

    def _outside(self, line: str) -> str:
        """What of a line stands outside of quotes."""
        if self._inside:
            rest = self._rest.match(line)
            if rest is None:
                return ""
            self._inside, line = False, line[rest.end() :]
        outside = self._field.sub("", line)
        if opening := self._opening.search(outside):
            self._inside, outside = True, outside[: opening.start()]
        return outside


Backslashes: TypeAlias = UndecidedBackslashes | GuessedEscapes
"""What looks at the backslashes of a file of which the user does not say what they are."""
