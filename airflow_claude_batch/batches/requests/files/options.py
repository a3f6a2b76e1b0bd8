"""What a user may say about files instead of having it found out."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".orc": "orc",
    ".avro": "avro",
    ".xlsx": "xlsx",
}
"""By the suffix of a file, what it is."""
COMPRESSIONS = ("gzip", "bz2", "xz", "zstd", "none")


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How files are read; None: found out for each file.

    Raises:
        ConfigurationError: For a value that is none.
    """

    format: str | None = None
    """One of those of ``FORMATS``."""
    compression: str | None = None
    """One of ``COMPRESSIONS``."""
    encoding: str | None = None
    """Of CSV and JSON, as Python names it: ``cp1252``."""
    delimiter: str | None = None
    """Between the fields of CSV."""
    quote: str | None = None
    """Around fields of CSV; empty: quotes are text like any other."""
    escape: str | None = None
    """Before a quote inside a field of CSV; empty: none, a quote is written twice."""
    header: bool | Sequence[str] | None = None
    """Names of the columns of CSV and Excel where the first row is data; None or True: it has them."""
    columns: Sequence[str] | None = None
    """The columns to read; None: all."""
    nulls: Sequence[str] | None = None
    """Texts that stand for a missing value in CSV; None: the escaped N of databases alone."""
    sheet: str | None = None
    """Of an Excel file; None: the only one."""
    literal: bool = False
    """Whether ``*``, ``?`` and ``[`` in names are characters like any other."""

    @property
    def says_csv(self) -> bool:
        """Whether there is a word of what only CSV has."""
        return any((self.delimiter, self.quote, self.escape, self.header))

    def __post_init__(self) -> None:
        for name, allowed in (
            ("format", list(dict.fromkeys(FORMATS.values()))),
            ("compression", COMPRESSIONS),
        ):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise _no(name, value, f"one of {', '.join(allowed)}")
        for name in ("delimiter", "quote", "escape"):
            value = getattr(self, name)
            least = 1 if name == "delimiter" else 0
            if value is not None and (not isinstance(value, str) or not least <= len(value) <= 1):
                raise _no(name, value, "one character" + ("" if least else ", or '' for none"))
            if value in ("\n", "\r"):
                raise _no(name, value, "no end of line")
        given = [c for c in (self.delimiter, self.quote, self.escape) if c]
        if len(set(given)) < len(given):
            raise ConfigurationError("Files: delimiter, quote and escape are three different characters")
        for name in ("columns", "nulls"):
            _check_texts(name, getattr(self, name))
        if not isinstance(self.header, bool):
            _check_texts("header", self.header)
        if self.header is False:
            raise _no("header", False, "a list with the names of the columns where the file has none")
        _check_encoding(self.encoding)


def _check_texts(name: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _no(name, value, "a list of texts")
    if not all(isinstance(item, str) for item in value) or (name != "nulls" and len(set(value)) < len(value)):
        raise _no(name, value, "a list of texts" if name == "nulls" else "a list of different texts")


def _check_encoding(encoding: str | None) -> None:
    if encoding is None:
        return
    try:
        "".encode(encoding)
        known = codecs.lookup(encoding).name not in ("undefined", "idna", "punycode")
    except (LookupError, TypeError):
        known = False
    if not known:
        raise _no("encoding", encoding, "an encoding of text that Python knows, for example 'cp1252'")


def _no(name: str, value: Any, rule: str) -> ConfigurationError:
    return ConfigurationError(f"Files({name}={value!r}): it is {rule}")
