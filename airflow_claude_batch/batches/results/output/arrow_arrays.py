"""Arrow arrays and scalars made from Python values by way of their buffers.

``pyarrow.array`` and ``pyarrow.scalar`` would do, and so would a Python value given to ``pyarrow.compute``.
But the first such call imports pandas wherever that is installed: a second and 60 MB for every task that
writes Parquet or reuses answers.
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


def strings(values: Sequence[str | None], type_: Any) -> Any:
    """A column of texts."""
    filled = [value or "" for value in values]
    text = "".join(filled)
    data = text.encode()
    if len(data) > len(text):  # offsets count bytes
        return texts([None if value is None else value.encode() for value in values], type_)
    return _column(type_, values, array("i", accumulate(map(len, filled), initial=0)), data)


def fixed(values: Sequence[bytes], type_: Any) -> Any:
    """A column of bytes of one length."""
    return _column(type_, values, b"".join(values))


def integers(values: Sequence[int | None], type_: Any) -> Any:
    """A column of 64-bit integers.

    Raises:
        OverflowError: For one that needs more
    """
    return _column(type_, values, array("q", [value or 0 for value in values]))


def integer(value: int, type_: Any) -> Any:
    """A scalar, of any type that 64-bit integers can be cast to."""
    import pyarrow as pa

    return integers([value], pa.int64()).cast(type_)[0]


def numbers(values: Sequence[float | None], type_: Any) -> Any:
    """A column of 64-bit floating point numbers."""
    return _column(type_, values, array("d", [value or 0.0 for value in values]))


def booleans(values: Sequence[bool | None], type_: Any) -> Any:
    """A column of truth values."""
    return _column(type_, values, _bits([bool(value) for value in values]))


def structs(fields: Sequence[Any], missing: Sequence[bool], type_: Any) -> Any:
    """A column of structs.

    Args:
        fields: A column for each field
        missing: Which rows are null
        type_: Of the structs
    """
    import pyarrow as pa

    valid = _bits([not gone for gone in missing]) if any(missing) else None
    buffer = None if valid is None else pa.py_buffer(valid)
    return pa.Array.from_buffers(type_, len(missing), [buffer], children=list(fields))


def lists(values: Sequence[Sequence[Any] | None], items: Any, type_: Any) -> Any:
    """A column of lists.

    Args:
        values: The lists
        items: A column of all their items, one list after the other
        type_: Of the lists
    """
    ends = array("i", accumulate([len(value or ()) for value in values], initial=0))
    return _column(type_, values, ends, children=[items])


def _column(type_: Any, values: Sequence[Any], *buffers: Any, children: list[Any] | None = None) -> Any:
    import pyarrow as pa

    valid = _bits([value is not None for value in values]) if None in values else None
    stored = [None if buffer is None else pa.py_buffer(buffer) for buffer in (valid, *buffers)]
    return pa.Array.from_buffers(type_, len(values), stored, children=children)


def _bits(flags: Sequence[bool]) -> bytes:
    """Flags as Arrow keeps them: eight in a byte, the first one lowest."""
    number = int("".join(["1" if flag else "0" for flag in reversed(flags)]) or "0", 2)
    return number.to_bytes((len(flags) + 7) // 8, "little")
