"""Records from files: JSON lines, CSV and Parquet on any store, one row at a time.

A file is read as a stream, whatever its size. What is wrong inside a file does not stop the reading:
it is passed on as a :class:`Broken` row, so that all faults of an input are reported together and
none of it is sent.
"""

from __future__ import annotations

import csv
import gzip
import io
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.requests import shorten
from airflow_claude_batch.batches.storage import BLOCK, Folder, iter_lines

LONGEST_FIELD = 32_000_000
"""Characters in one CSV field. A quote that is never closed swallows no more of a file than this."""
PARQUET_ROWS = 1_000
"""Rows of a Parquet file that are decoded at a time."""

_READ_ERRORS = (EOFError, zlib.error, gzip.BadGzipFile)
_BOM = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A row that cannot be read, or the place where a file ceases to be readable."""

    where: str
    """File and line."""
    value: str
    rule: str

    def fault(self, index: int) -> Fault:
        """The same as a fault of record ``index``."""
        return Fault(index=index, where=self.where, value=self.value, rule=self.rule)


def read_files(locations: Iterable[Folder]) -> Iterator[dict[str, Any] | Broken]:
    """The rows of all files at the locations, in the order of their names.

    :param locations: files, globs, or directories (searched for ``.jsonl``, ``.ndjson``, ``.csv``,
        ``.tsv``, the same with ``.gz``, and ``.parquet``; names that begin with ``_`` or ``.`` are left out)
    :raises InputError: where a location has no file, or one of a kind that is not known
    :raises ConfigurationError: for Parquet without pyarrow
    """
    # All locations are looked up before the first row is read: a typing error should not cost an hour.
    found = [file for location in locations for file in find_files(location, tuple(_READERS))]
    for file in found:
        yield from _READERS[_kind(file.path)](file)


def find_files(location: Folder, suffixes: tuple[str, ...]) -> list[Folder]:
    """The files that a location stands for, sorted by path.

    :param location: a file, a glob or a directory, opened like a folder
    :param suffixes: what a file in a directory must end with; a file that is named or globbed may be gzipped
    :raises InputError: where there is none
    """
    fs, path = location.fs, location.path
    fs.invalidate_cache()
    if any(character in path for character in "*?["):
        entries = fs.glob(path, detail=True).items()
        files = [name for name, info in entries if info["type"] != "directory"]
        paths = [name for name in files if not posixpath.basename(name).startswith(".")]
        _require(location, paths, "no file matches")
    elif fs.isdir(path):
        visible = (name for name in fs.find(path) if not _hidden(name, path))
        paths = [name for name in visible if _kind(name) in suffixes]
        _require(location, paths, f"the directory holds no file with {', '.join(suffixes)}")
    else:
        paths = [path] if fs.exists(path) else []
        _require(location, paths, "there is no such file")
    unknown = [name for name in paths if _kind(name) not in suffixes]
    if unknown:
        rule = f"files end with {', '.join(suffixes)} here; rename it, or convert it"
        raise _no_input(_url(location, min(unknown)), rule)
    return [Folder(fs=fs, path=name, url=_url(location, name)) for name in sorted(paths)]


def open_file(file: Folder) -> IO[bytes]:
    """Open a found file for reading in large blocks."""
    raw = file.fs.open(file.path, "rb")
    buffered = io.BufferedReader(cast("io.RawIOBase", raw), BLOCK)
    return cast("IO[bytes]", gzip.open(buffered)) if file.path.endswith(".gz") else buffered


def _jsonl(file: Folder) -> Iterator[dict[str, Any] | Broken]:
    number = 0
    try:
        with open_file(file) as lines:
            for number, line in enumerate(iter_lines(lines), 1):
                text = line.removeprefix(_BOM) if number == 1 else line
                if text and not text.isspace():
                    yield _json_row(file, number, text)
    except _READ_ERRORS as error:
        yield _cut_off(file, number, error)


def _json_row(file: Folder, number: int, line: bytes) -> dict[str, Any] | Broken:
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Broken(where=f"{file.url} line {number}", value=_size(line), rule=f"a line is JSON: {error}")
    if isinstance(row, dict):
        return row
    rule = f"a line is a JSON object, not {type(row).__name__}"
    return Broken(where=f"{file.url} line {number}", value=_size(line), rule=rule)


def _csv(file: Folder) -> Iterator[dict[str, Any] | Broken]:
    delimiter = "\t" if _kind(file.path) == ".tsv" else ","
    csv.field_size_limit(LONGEST_FIELD)
    start = 1  # the line on which the row under way began
    try:
        with open_file(file) as binary:
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
            rows = csv.reader(text, delimiter=delimiter, strict=True)
            header = next(rows, None)
            if not header:
                rule = "the first line names the columns"
                yield Broken(where=f"{file.url} line 1", value="nothing", rule=rule)
                return
            if repeated := {name for name in header if header.count(name) > 1}:
                rule = "each column has a name of its own"
                yield Broken(where=f"{file.url} line 1", value=shorten(sorted(repeated)), rule=rule)
                return
            width = len(header)
            start = rows.line_num + 1
            for row in rows:
                if len(row) == width:
                    yield dict(zip(header, row, strict=True))
                elif row:
                    rule = f"a row has {width} fields, as the first line has"
                    yield Broken(where=f"{file.url} line {start}", value=f"{len(row)} fields", rule=rule)
                start = rows.line_num + 1
    except csv.Error as error:
        rule = f"the row that begins here is not CSV ({error}); check its quotes (read no further)"
        yield Broken(where=f"{file.url} line {start}", value="bad quoting", rule=rule)
    except UnicodeDecodeError as error:
        rule = "the file is UTF-8 text; convert it (it was read no further)"
        value = f"byte {error.object[error.start]:#04x} soon after this line"
        yield Broken(where=f"{file.url} line {start}", value=value, rule=rule)
    except _READ_ERRORS as error:
        yield _cut_off(file, start, error)


def _parquet(file: Folder) -> Iterator[dict[str, Any] | Broken]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            f"Reading {file.url} needs pyarrow: pip install 'airflow-claude-batch[parquet]'"
        ) from None
    try:
        with open_file(file) as binary, parquet.ParquetFile(binary) as table:
            for batch in table.iter_batches(batch_size=PARQUET_ROWS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        rule = f"the file is no readable Parquet: {shorten(str(error), 200)}"
        yield Broken(where=file.url, value=f"{file.fs.size(file.path)} bytes", rule=rule)


_READERS = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}


def _kind(path: str) -> str:
    """The suffix that says what a file is; lower case, without ``.gz``."""
    name = posixpath.basename(path).lower()
    return posixpath.splitext(name.removesuffix(".gz"))[1]


def _hidden(path: str, folder: str) -> bool:
    inside = path.removeprefix(folder).split("/")
    return any(name.startswith(("_", ".")) for name in inside)


def _url(location: Folder, path: str) -> str:
    """A found file as people name it, with the connection that the location was opened through."""
    if location.url.endswith(location.path):
        return location.url.removesuffix(location.path) + path
    return str(location.fs.unstrip_protocol(path))


def _require(location: Folder, paths: list[str], problem: str) -> None:
    if not paths:
        raise _no_input(location.url, f"{problem}; where an empty input is normal, skip the task upstream")


def _no_input(url: str, rule: str) -> InputError:
    return InputError([Fault(index=0, where="requests", value=shorten(url, 300), rule=rule)])


def _cut_off(file: Folder, number: int, error: Exception) -> Broken:
    rule = f"the gzip file is damaged or cut off ({error}); it was read no further"
    return Broken(where=f"{file.url} after line {number}", value=type(error).__name__, rule=rule)


def _size(line: bytes) -> str:
    return f"{len(line)} bytes"
