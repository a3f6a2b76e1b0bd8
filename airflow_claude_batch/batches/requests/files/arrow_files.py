"""Parquet and ORC: only the columns that are wanted are decoded, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_claude_batch.batches.errors import (
    missing_package,
)
from airflow_claude_batch.batches.requests.files.arrow_values import Convert, NoJsonError, converter, uuids
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.rows import (
    LONGEST_RECORD,
    Broken,
    Row,
    UnreadableFileError,
    pick,
    too_long,
)
from airflow_claude_batch.batches.requests.files.stored import Stored

ROWS = 1_000
"""Rows that are decoded at a time."""
BYTES = 32_000_000
"""Bytes of rows that are made Python's at a time, as far as the file says how long they are."""
MOST_COMPRESSED = 200
"""A column chunk that decodes to more than a record, and to so many times its size, is no data but a bomb."""


def read_parquet(stored: Stored, options: ReadOptions) -> Iterator[Row]:
    """The rows.

    Raises:
        UnreadableFileError: Where it cannot be read any further.
        ConfigurationError: Without pyarrow.
    """
    pyarrow = _pyarrow(stored)
    from pyarrow import parquet

    # INT96 in nanoseconds, as Arrow has it by itself, wraps around outside of 1677 to 2262.
    way = {"coerce_int96_timestamp_unit": "us", "page_checksum_verification": True}
    names: list[str] = []
    try:
        with parquet.ParquetFile(stored.random, **way) as file:
            names = pick(options.columns, file.schema_arrow.names)
            leaves = _leaves(file.metadata, names)
            if (problem := _oversized(file.metadata, leaves)) is not None:
                raise too_long("row", f"{LONGEST_RECORD} bytes", problem)
            columns = _Columns(stored.url, file.schema_arrow, names, _uuid_columns(file.schema))
            text = _text_with_dictionary(file.metadata, leaves)
            with parquet.ParquetFile(stored.random, read_dictionary=text, **way) as dictionaries:
                for group in range(file.num_row_groups):
                    # Dictionaries are slow and, where most values differ, large.
                    reader = dictionaries if _expands(dictionaries, group, text) else file
                    step = _rows_at_a_time(file.metadata.row_group(group), leaves)
                    for batch in reader.iter_batches(step, [group], names, use_threads=False):
                        yield from columns.rows(batch)
    except (pyarrow.ArrowException, OSError) as error:
        failing = _failing_column(stored, names) if stored.failure is None else ""
        raise _unreadable(stored, "Parquet", error, failing) from None


def _failing_column(stored: Stored, names: list[str]) -> str:
    """Which column it is that cannot be read; empty where it is not one of them."""
    from pyarrow import ArrowException, parquet

    for name in names:
        try:
            stored.random.seek(0)
            with parquet.ParquetFile(stored.random) as file:
                next(file.iter_batches(batch_size=1, columns=[name], use_threads=False), None)
        except (ArrowException, OSError):
            return f"column {name!r}"
    return ""


def read_orc(stored: Stored, options: ReadOptions) -> Iterator[Row]:
    """The rows.

    Raises:
        UnreadableFileError: Where it cannot be read any further.
        ConfigurationError: Without pyarrow.
    """
    pyarrow = _pyarrow(stored)
    from pyarrow import dataset

    try:
        file = pyarrow.PythonFile(stored.random, mode="r")
        fragment = dataset.OrcFileFormat().make_fragment(file)
        schema = fragment.physical_schema
        names = pick(options.columns, schema.names)
        columns = _Columns(stored.url, schema, names, ())
        for batch in fragment.to_batches(
            columns=names, batch_size=ROWS, batch_readahead=1, fragment_readahead=1, use_threads=False
        ):
            yield from columns.rows(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise _unreadable(stored, "ORC", error) from None


def _pyarrow(stored: Stored) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise missing_package(f"Reading {stored.url}", "pyarrow", "parquet") from None
    stored.random.seek(0)
    return pyarrow


def _unreadable(stored: Stored, kind: str, error: Exception, place: str = "") -> Exception:
    if stored.failure is not None:
        return stored.failure
    rule = f"the file is no readable {kind} ({type(error).__name__}; it was read no further)"
    return UnreadableFileError(rule, "damaged, or of a kind that Arrow does not know", place)


def _leaves(metadata: Any, names: list[str]) -> list[int]:
    """Numbers of the stored columns that the wanted ones consist of."""
    schema, wanted = metadata.schema, set(names)
    paths = (schema.column(index).path for index in range(metadata.num_columns))
    return [index for index, path in enumerate(paths) if path in wanted or _top(path, wanted)]


def _top(path: str, wanted: set[str]) -> bool:
    """Whether a path such as ``a.b.list.element`` begins with a wanted name, which may hold dots itself."""
    return any(path.startswith(f"{name}.") for name in wanted)


def _oversized(metadata: Any, leaves: list[int]) -> str | None:
    """The first row group that nobody's records fill; None where there is none."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        chunks = [group.column(index) for index in leaves]
        if sum(c.total_uncompressed_size for c in chunks) > LONGEST_RECORD * max(group.num_rows, 1):
            return f"row group {number + 1}"
        for column in chunks:
            size, stored = column.total_uncompressed_size, max(column.total_compressed_size, 1)
            if size > LONGEST_RECORD and size > MOST_COMPRESSED * stored:
                return f"row group {number + 1}, column {column.path_in_schema}"
    return None


def _rows_at_a_time(group: Any, leaves: list[int]) -> int:
    """Rows of a group that are decoded at once: fewer where they are long."""
    size = sum(group.column(index).total_uncompressed_size for index in leaves)
    return int(min(ROWS, max(1, BYTES * group.num_rows // max(size, 1))))


def _expands(file: Any, group: int, text: list[str]) -> bool:
    """Whether a value that is stored once may be referred to so often that the rows are too long together."""
    if not text:
        return False
    first = next(file.iter_batches(1, [group], text, use_threads=False), None)
    return first is not None and sum(map(_longest_value, first.columns)) * ROWS > BYTES


def _text_with_dictionary(metadata: Any, leaves: list[int]) -> list[str]:
    """Columns of text that are stored with a dictionary."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in leaves)
    found = {
        chunk.path_in_schema
        for chunk in chunks
        if chunk.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in one for one in chunk.encodings)
    }
    return sorted(found)


def _uuid_columns(schema: Any) -> list[str]:
    """Columns of UUIDs, which Arrow may give out as bytes."""
    columns = map(schema.column, range(len(schema)))
    return [column.path for column in columns if column.logical_type.type == "UUID"]


class _Columns:
    """The wanted columns, and how their values become JSON."""

    def __init__(self, url: str, schema: Any, names: list[str], uuid_columns: Any) -> None:
        self._url = url
        self._names = names
        self._row = 0
        self._converters: dict[Any, Convert] = {}
        self._uuid_columns = set(uuid_columns)
        for name in names:
            try:
                converter(schema.field(name).type)
            except NoJsonError as error:
                raise UnreadableFileError(
                    f"{error}; leave it out: columns=…", "a value", f"column {name!r}"
                ) from None

    def rows(self, batch: Any) -> Iterator[Row]:
        """The rows of a batch, made so many at a time as are not too long together."""
        longest = sum(map(_longest_value, batch.columns))
        step = max(1, min(ROWS, BYTES // max(longest, 1)))
        for start in range(0, batch.num_rows, step):
            yield from self._converted(batch.slice(start, step))

    def _converted(self, batch: Any) -> Iterator[Row]:
        try:
            values = [self._values(name, batch.column(name)) for name in self._names]
        except Exception:  # noqa: BLE001  # Arrow raises all kinds; which row it is shows when each is read alone
            yield from self._one_by_one(batch)
            return
        names = self._names
        for row in zip(*values, strict=True):
            yield dict(zip(names, row))  # noqa: B905  # to say strict takes 0.3 µs, and they are equally many
        self._row += batch.num_rows

    def _one_by_one(self, batch: Any) -> Iterator[Row]:
        for place in range(batch.num_rows):
            self._row += 1
            row: dict[str, Any] = {}
            for name in self._names:
                where = f"{self._url} row {self._row}, column {name!r}"
                try:
                    row[name] = self._values(name, batch.column(name).slice(place, 1))[0]
                except NoJsonError as error:
                    yield Broken(where=where, value="a value", rule=f"{error}; leave it out: columns=…")
                    break
                except Exception as error:  # noqa: BLE001  # as above
                    yield Broken(where=where, value=type(error).__name__, rule="it cannot be read")
                    break
            else:
                yield row

    def _values(self, name: str, array: Any) -> list[Any]:
        import pyarrow

        if name in self._uuid_columns and pyarrow.types.is_fixed_size_binary(array.type):
            return uuids(array)
        convert = self._converters.get(array.type)
        if convert is None:
            convert = self._converters[array.type] = converter(array.type)
        return convert(array)


def _longest_value(array: Any) -> int:
    """Bytes of the longest value of a column whose values lie in a dictionary; 0 for any other."""
    import pyarrow
    from pyarrow import compute

    if not pyarrow.types.is_dictionary(array.type):
        return 0
    return int(compute.max(compute.binary_length(array.dictionary)).as_py() or 0)
