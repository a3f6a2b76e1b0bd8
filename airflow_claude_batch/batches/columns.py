"""Arrow arrays made from Python values by way of their buffers.

``pyarrow.array`` would do, but its first call imports pandas wherever that is installed: a second and
60 MB for every task that writes Parquet.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any


def texts(values: Sequence[bytes | None], type_: Any) -> Any:
    """A column of texts, given as UTF-8."""
    filled = [value or b"" for value in values]
    ends = array("i", accumulate(map(len, filled), initial=0))
    return _column(type_, values, ends, b"".join(filled))


def integers(values: Sequence[int | None], type_: Any) -> Any:
    """A column of 64-bit integers.

    :raises OverflowError: for one that needs more
    """
    return _column(type_, values, array("q", [value or 0 for value in values]))


def numbers(values: Sequence[float | None], type_: Any) -> Any:
    """A column of 64-bit floating point numbers."""
    return _column(type_, values, array("d", [value or 0.0 for value in values]))


def booleans(values: Sequence[bool | None], type_: Any) -> Any:
    """A column of truth values."""
    return _column(type_, values, _bits([bool(value) for value in values]))


def structs(fields: Sequence[Any], missing: Sequence[bool], type_: Any) -> Any:
    """A column of structs.

    :param fields: a column for each field
    :param missing: which rows are null
    """
    import pyarrow as pa

    valid = _bits([not gone for gone in missing]) if any(missing) else None
    buffer = None if valid is None else pa.py_buffer(valid)
    return pa.Array.from_buffers(type_, len(missing), [buffer], children=list(fields))


def _column(type_: Any, values: Sequence[Any], *buffers: Any) -> Any:
    import pyarrow as pa

    valid = _bits([value is not None for value in values]) if None in values else None
    stored = [None if buffer is None else pa.py_buffer(buffer) for buffer in (valid, *buffers)]
    return pa.Array.from_buffers(type_, len(values), stored)


def _bits(flags: Sequence[bool]) -> bytes:
    """Flags as Arrow keeps them: eight in a byte, the first one lowest."""
    number = int("".join(["1" if flag else "0" for flag in reversed(flags)]) or "0", 2)
    return number.to_bytes((len(flags) + 7) // 8, "little")
