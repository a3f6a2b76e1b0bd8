"""Reading a set of records back, whatever its files' format: one after the other, in constant memory.

Reading Parquet gives the same values as reading JSON lines: what is JSON text in a Parquet file because it
has no type is decoded again. A key that a record lacks is null in Parquet, where every record has all keys.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.api.result_lines import whole_lines
from airflow_claude_batch.batches.errors import (
    ResultsError,
    missing_package,
)
from airflow_claude_batch.batches.results.output.directory import SUMMARY
from airflow_claude_batch.batches.results.output.json_types import JSON_TEXT, JsonColumn, Struct, infer
from airflow_claude_batch.batches.results.output.writers import SETS
from airflow_claude_batch.batches.storage import BLOCK, Folder, iter_blocks

ROWS = 1_024
"""Rows of a Parquet file that are in memory at a time."""
PART = re.compile(r"part-\d+\.(jsonl|jsonl\.gz|jsonl\.zst|parquet)")
"""Names of the files of a set; a file that is still being written has another one."""

_JSON_TEXT = next(iter({key.encode(): value.encode() for key, value in JSON_TEXT.items()}.items()))
_Convert = Callable[[Any], Any]

_decode = msgspec.json.Decoder().decode
_decode_lines = msgspec.json.Decoder().decode_lines


def find_set(folder: Folder, set_: str) -> Folder:
    """The folder with the files of a set.

    Args:
        folder: Of the output, or of the set itself
        set_: ``succeeded`` or ``errored``

    Raises:
        ResultsError: Where there are no records, not yet, or those of the other set
    """
    names = folder.names()
    own_name = folder.path.rstrip("/").rpartition("/")[2]
    if [*names] == [own_name]:  # of a file fsspec lists the file itself
        raise ResultsError(f"{folder.url} is a file; give the directory that it is in.")
    if SUMMARY in names:
        return folder.child(set_)
    if set(SETS) & set(names):
        raise _not_ended(folder)
    if own_name in SETS and own_name != set_:
        raise ResultsError(f"{folder.url} holds the {own_name} records, not the {set_} ones.")
    ended = own_name == set_ and folder.parent.exists(SUMMARY)
    if not ended and not any(map(PART.fullmatch, names)):
        raise ResultsError(
            f"{folder.url} holds no records: neither {SUMMARY} beside {' and '.join(SETS)}, nor part files."
        )
    if own_name == set_ and not ended:
        raise _not_ended(folder.parent)
    return folder


def _not_ended(folder: Folder) -> ResultsError:
    return ResultsError(
        f"{folder.url} has no {SUMMARY}: the delivery into it has not ended, so records may be missing. "
        "Wait for the results task."
    )


def read_records(folder: Folder) -> Iterator[dict[str, Any]]:
    """The records in a set's folder, file by file.

    Raises:
        ResultsError: Where a file is cut off or damaged
    """
    for name in _parts(folder):
        with _whole(f"{folder.url}/{name}"):
            if name.endswith(".parquet"):
                yield from _read_parquet(folder, name)
            else:
                for block in _line_blocks(folder, name):
                    yield from _decode_lines(block)


@contextlib.contextmanager
def _whole(url: str) -> Iterator[None]:
    """Name the file at which reading ended, which msgspec, gzip and Arrow do not."""
    try:
        yield
    except Exception as error:
        if not _is_damage(error):
            raise
        raise ResultsError(
            f"{url} is cut off or damaged ({type(error).__name__}: {error}). Copy it anew if it is a copy; "
            "else clear the results task, which writes it again."
        ) from error


def _is_damage(error: Exception) -> bool:
    """Whether it is about what a file holds, and not about reaching it."""
    if isinstance(error, (msgspec.DecodeError, EOFError, zlib.error, gzip.BadGzipFile)):
        return True
    of_arrow = type(error).__module__.partition(".")[0] == "pyarrow"
    return of_arrow or (type(error) is OSError and error.errno is None)  # Arrow's, about a file's structure


def read_table(folder: Folder) -> Any:
    """The records in a set's folder as a ``pyarrow.Table``, which holds them all.

    The types of JSON lines are inferred over all of them, like those of ``input`` in Parquet output.

    Raises:
        ResultsError: Where a file is cut off or damaged
    """
    import pyarrow as pa

    names = _parts(folder)
    if all(name.endswith(".parquet") for name in names):
        return _parquet_table(folder, names)

    def blocks() -> Iterator[bytes]:
        for name in names:
            with _whole(f"{folder.url}/{name}"):
                yield from _line_blocks(folder, name)

    with _whole(folder.url):  # a line is decoded by who asks for the blocks, and no longer of a file
        return table_of(blocks, pa)


def table_of(blocks: Callable[[], Iterator[bytes]], pa: Any) -> Any:
    """JSON lines of objects as a ``pyarrow.Table``.

    Args:
        blocks: The lines in blocks, from the start at each call
        pa: The module ``pyarrow``.
    """
    type_ = infer(blocks())
    if not isinstance(type_, Struct):
        return pa.table({})
    column = JsonColumn(type_)
    decode = msgspec.json.Decoder(column.annotation).decode_lines
    batches = [
        pa.RecordBatch.from_struct_array(column.array(decode(lines)))
        for block in blocks()
        for lines in _few(block)
    ]
    return pa.Table.from_batches(batches, schema=pa.schema(list(column.arrow)))


def _few(block: bytes) -> Iterator[bytes]:
    """A block's lines, some at a time: each takes a multiple of its size while it is looked at."""
    lines = block.split(b"\n")
    for start in range(0, len(lines), ROWS):
        if some := b"\n".join(lines[start : start + ROWS]).strip():
            yield some


def _parts(folder: Folder) -> list[str]:
    return [name for name in folder.names() if PART.fullmatch(name)]


def _line_blocks(folder: Folder, name: str) -> Iterator[bytes]:
    with folder.open_read(name) as file:
        yield from whole_lines(iter_blocks(_plain(file, name)), BLOCK)


def _plain(file: IO[bytes], name: str) -> Any:
    if not name.endswith(".zst"):
        return file
    pa = need_pyarrow(name)
    return pa.CompressedInputStream(pa.PythonFile(file), "zstd")


def need_pyarrow(what: str) -> Any:
    """The module pyarrow.

    Raises:
        ConfigurationError: Where it is not installed
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise missing_package(what, "pyarrow", "parquet") from error
    return pa


def _parquet_table(folder: Folder, names: list[str]) -> Any:
    pa = need_pyarrow("to_arrow")
    from pyarrow import parquet

    tables = []
    for name in names:
        with _whole(f"{folder.url}/{name}"), folder.open_read(name) as file:
            tables.append(parquet.read_table(file))
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _read_parquet(folder: Folder, name: str) -> Iterator[dict[str, Any]]:
    need_pyarrow(name)
    from pyarrow import parquet

    with folder.open_read(name) as file, parquet.ParquetFile(file) as stored:
        converts = [
            (field.name, convert) for field in stored.schema_arrow if (convert := _reverse(field)) is not None
        ]
        for batch in stored.iter_batches(ROWS, use_threads=False):
            for record in batch.to_pylist():
                for key, convert in converts:
                    record[key] = convert(record[key])
                yield record


def _reverse(field: Any) -> _Convert | None:
    """What makes JSON values of the JSON texts in a field; None where there are none."""
    import pyarrow as pa

    key, value = _JSON_TEXT
    if (field.metadata or {}).get(key) == value:
        return lambda text: None if text is None else _decode(text)
    if pa.types.is_list(field.type):
        item = _reverse(field.type.value_field)
        return item and (lambda items: None if items is None else [item(own) for own in items])
    if not pa.types.is_struct(field.type):
        return None
    converts = [(own.name, convert) for own in field.type if (convert := _reverse(own)) is not None]

    def reverse(record: Any) -> Any:
        return record and record | {name: convert(record[name]) for name, convert in converts}

    return reverse if converts else None
