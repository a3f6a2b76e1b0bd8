"""Tables as rows: of pandas, polars, Arrow, and whatever else hands itself over as Arrow does.

Nothing is imported to find out what is a table: its type says so by its module, and the library whose
object we were given is loaded already. A slice is made Python objects at a time, whatever the size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from airflow_claude_batch.batches.errors import (
    Fault,
    InputError,
    missing_package,
)
from airflow_claude_batch.batches.requests.descriptions import describe, shorten
from airflow_claude_batch.batches.requests.files.arrow_values import converter
from airflow_claude_batch.batches.requests.files.rows import Broken, Row
from airflow_claude_batch.batches.requests.objects import library_of, null_if_missing

ROWS_AT_A_TIME = 1_000
"""Rows of a table that are Python objects at the same time."""

_TABLES = {
    "pandas": ("DataFrame",),
    "polars": ("DataFrame", "LazyFrame"),
    "pyarrow": ("Table", "RecordBatch", "RecordBatchReader"),
}

Cut = Callable[[Any, int, int], Any]
"""Gives of a table so many rows, from a place on."""
RowsOf = Callable[[Any], list[Row]]


def is_table(value: Any) -> bool:
    """Whether a value is a table of pandas, polars, Arrow, or one that hands itself over as Arrow does."""
    kind = type(value)
    if (tables := _TABLES.get(library_of(value))) is not None:  # their columns speak Arrow, too
        return kind.__name__ in tables
    return hasattr(kind, "__arrow_c_stream__") and not isinstance(value, type)


def table_rows(table: Any) -> Iterator[Row]:
    """The rows of a table as mappings, a slice at a time; missing values are None.

    Of a pandas table the index is left out, unless it has a name.

    Raises:
        InputError: For columns that have no name, or the same one.
        ConfigurationError: Where pyarrow is needed and not installed.
    """
    kind, library = type(table).__name__, library_of(table)
    if library == "pandas":
        return _pandas_rows(table)
    if library == "polars":
        return _polars_rows(table)
    if library == "pyarrow" and kind == "RecordBatch":
        return _arrow_rows([table], table.schema.names)
    if library == "pyarrow" and kind == "Table":
        return _arrow_rows(table.to_batches(max_chunksize=ROWS_AT_A_TIME), table.schema.names)
    if library != "pyarrow":
        table = _as_reader(table)
    return _arrow_rows(table, table.schema.names)


def _pandas_rows(table: Any) -> Iterator[Row]:
    named = [name for name in table.index.names if name is not None]
    _check_names([*named, *table.columns])

    names = [*named, *table.columns]

    def rows_of(part: Any) -> list[Row]:
        columns = [part.index.get_level_values(name) for name in named]
        columns += [part[name] for name in table.columns]
        lists = [[null_if_missing(value) for value in column.tolist()] for column in columns]
        return [dict(zip(names, values, strict=True)) for values in zip(*lists, strict=True)]

    def cut(part: Any, start: int, length: int) -> Any:
        return part.iloc[start : start + length]

    return _in_slices(table, 0, cut, rows_of)


def _polars_rows(table: Any) -> Iterator[Row]:
    if type(table).__name__ == "LazyFrame":
        table = table.collect()
    return _in_slices(table, 0, type(table).slice, lambda part: list(part.iter_rows(named=True)))


def _arrow_rows(batches: Any, names: list[str]) -> Iterator[Row]:
    _check_names(names)

    def rows() -> Iterator[Row]:
        before = 0
        for batch in batches:
            yield from _in_slices(batch, before, type(batch).slice, _rows_of)
            before += batch.num_rows

    return rows()


def _in_slices(table: Any, before: int, cut: Cut, rows_of: RowsOf) -> Iterator[Row]:
    """The rows of a table, a slice at a time; ``before`` is how many rows are before them."""
    for start in range(0, len(table), ROWS_AT_A_TIME):
        part = cut(table, start, ROWS_AT_A_TIME)
        try:
            rows = rows_of(part)
        except Exception:  # noqa: BLE001  # of all kinds; which row it is shows when each is read alone
            first = before + start
            rows = [_row_of(cut(part, place, 1), first + place, rows_of) for place in range(len(part))]
        yield from rows


def _row_of(part: Any, number: int, rows_of: RowsOf) -> Row:
    try:
        return rows_of(part)[0]
    except Exception as error:  # noqa: BLE001
        rule = "Python has no form for a value of this row; make text of its column, or leave it out"
        return Broken(where=f"row {number} of the table", value=type(error).__name__, rule=rule)


def _rows_of(part: Any) -> list[Row]:
    columns = [_values(column) for column in part.columns]
    names = part.schema.names
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _values(array: Any) -> list[Any]:
    """The values of a column. Of maps and intervals Arrow makes lists; here they are what files have."""
    return converter(array.type)(array) if _holds_maps_or_intervals(array.type) else list(array.to_pylist())


def _holds_maps_or_intervals(type_: Any) -> bool:
    from pyarrow import types

    if types.is_map(type_) or types.is_interval(type_):
        return True
    inner = [type_.field(place).type for place in range(type_.num_fields)]
    inner += [getattr(type_, name) for name in ("value_type", "storage_type") if hasattr(type_, name)]
    return any(map(_holds_maps_or_intervals, inner))


def _as_reader(table: Any) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise missing_package(f"Reading a {type(table).__name__}", "pyarrow", "parquet") from None
    return pyarrow.RecordBatchReader.from_stream(table)


def _check_names(names: list[Any]) -> None:
    unnamed = next((name for name in names if not isinstance(name, str)), None)
    if unnamed is not None:
        rule = "the columns of a table have names, which are text; name them"
        raise InputError([Fault(index=0, where="table columns", value=describe(unnamed), rule=rule)])
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        rule = "each column of a table has a name of its own"
        raise InputError([Fault(index=0, where="table columns", value=shorten(repeated), rule=rule)])
