"""The type that JSON values have in common, and Arrow arrays of that type.

A type is inferred by widening: it begins as "nothing seen", and each value that does not fit widens it as
little as needed. What has no common type is JSON text, at the lowest level where that is so; a value is
never bent to fit. Whether values fit is asked of msgspec, some thousand at a time; only those that do not
are looked at in Python.

=====================================================  ==============================================
values                                                 type
=====================================================  ==============================================
true and false; texts                                  boolean; text
whole numbers of 64 bits                               64-bit integer
fractions, with whole numbers up to 2**53 or without   64-bit floating point number
objects                                                struct of all their keys; a missing one is null
lists                                                  list of what their items have in common
null, or nothing                                       fits into every type; alone: text
all else                                               JSON text
=====================================================  ==============================================

JSON text are mixed types, whole numbers beyond 64 bits (or beyond 2**53 among fractions), objects and lists
that are always empty, objects of more than 200 keys in all, and what is nested too deeply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import attrgetter
from typing import Annotated, Any, TypeAlias

import msgspec

from airflow_claude_batch.batches.results.output import arrow_arrays as columns

MAX_KEYS = 200
"""Different keys of the objects in one place; with more they are no columns but data."""
MAX_COLUMNS = 1_000
"""Columns in all, nested ones included."""
MAX_DEPTH = 10
"""Objects and lists in one another."""
SLICE = 256
"""Lines that are looked at together where not all of a block fit."""

NULL, BOOLEAN, SAFE_INTEGER, INTEGER, NUMBER, TEXT = range(6)
"""Types of plain values; a safe integer is one that a floating point number holds exactly."""

JSON_TEXT = {"content_type": "application/json"}
"""Metadata of Arrow fields whose texts are JSON."""

_SAFE = 2**53
_NULL_TEXT = msgspec.Raw(b"null")
_INTEGERS = frozenset((SAFE_INTEGER, INTEGER))
_ANNOTATIONS: dict[int, Any] = {
    NULL: None,
    BOOLEAN: bool | None,
    SAFE_INTEGER: Annotated[int, msgspec.Meta(ge=-_SAFE, le=_SAFE)] | None,
    INTEGER: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    NUMBER: Annotated[int, msgspec.Meta(ge=-_SAFE, le=_SAFE)] | float | None,
    TEXT: str | None,
}


@dataclass(frozen=True)
class Struct:
    """Objects, by the types of all their keys."""

    fields: dict[str, Type]


@dataclass(frozen=True)
class List:
    """Lists, by the type of their items."""

    item: Type


@dataclass(frozen=True)
class Json:
    """Values without a common type, and why."""

    reason: str


Type: TypeAlias = int | Struct | List | Json


def infer(blocks: Iterable[bytes], *, key: str | None = None) -> Type:
    """The type of the values in JSON lines.

    Args:
        blocks: Whole lines
        key: Of the value in each line's object; None where the line itself is the value
    """
    known: Type = NULL
    fits = _checker(known, key)
    for block in blocks:
        if fits(block):
            continue
        lines = block.split(b"\n")
        for start in range(0, len(lines), SLICE):
            some = b"\n".join(lines[start : start + SLICE])
            if not fits(some):
                known = _bounded(reduce(_join, map(_type_of, _values(some, key)), known))
                fits = _checker(known, key)
    return _settle(known)


def json_texts(type_: Type, name: str) -> Iterator[tuple[str, str]]:
    """Where a type gives up: path and reason of what is JSON text."""
    if isinstance(type_, Json):
        yield name, type_.reason
    elif isinstance(type_, Struct):
        for key, field in type_.fields.items():
            yield from json_texts(field, f"{name}.{key}")
    elif isinstance(type_, List):
        yield from json_texts(type_.item, f"{name}[]")


def _type_of(value: Any, depth: int = 0) -> Type:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, str):
        return TEXT
    if isinstance(value, float):
        return NUMBER
    if isinstance(value, int):
        return _type_of_integer(value)
    if depth == MAX_DEPTH:
        return Json(f"nested in more than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return _struct({key: _type_of(own, depth + 1) for key, own in value.items()})
    items: Type = NULL
    for item in value:
        items = _join(items, _type_of(item, depth + 1))
    return List(items)


def _type_of_integer(value: int) -> Type:
    if -_SAFE <= value <= _SAFE:
        return SAFE_INTEGER
    return INTEGER if -(2**63) <= value < 2**63 else Json("whole numbers beyond 64 bits")


def _struct(fields: dict[str, Type]) -> Type:
    if len(fields) > MAX_KEYS:
        return Json(f"more than {MAX_KEYS} different keys")
    if any("\0" in key for key in fields):
        return Json("a key with a zero character")
    return Struct(fields)


def _join(one: Type, other: Type) -> Type:
    """The narrowest type that both fit into."""
    if one == other or other == NULL or isinstance(one, Json):
        return one
    if one == NULL or isinstance(other, Json):
        return other
    if isinstance(one, Struct) and isinstance(other, Struct):
        both = {key: _join(own, other.fields.get(key, NULL)) for key, own in one.fields.items()}
        return _struct(both | {key: own for key, own in other.fields.items() if key not in both})
    if isinstance(one, List) and isinstance(other, List):
        return List(_join(one.item, other.item))
    pair = {type_ for type_ in (one, other) if isinstance(type_, int)}
    if pair == _INTEGERS:
        return INTEGER
    if pair == {SAFE_INTEGER, NUMBER}:
        return NUMBER
    if pair == {INTEGER, NUMBER}:
        return Json("fractions beside whole numbers beyond 2**53")
    return Json("values of several types")


def _bounded(type_: Type) -> Type:
    """The type with as many of its levels as keep it below the most columns."""
    levels = MAX_DEPTH
    while levels and _count(type_) > MAX_COLUMNS:
        type_ = _cut(type_, levels)
        levels -= 1
    return type_


def _count(type_: Type) -> int:
    if isinstance(type_, Struct):
        return sum(map(_count, type_.fields.values()))
    return _count(type_.item) if isinstance(type_, List) else 1


def _cut(type_: Type, levels: int) -> Type:
    if isinstance(type_, (Struct, List)) and not levels:
        return Json(f"more than {MAX_COLUMNS} columns in all")
    if isinstance(type_, Struct):
        return Struct({key: _cut(field, levels - 1) for key, field in type_.fields.items()})
    return List(_cut(type_.item, levels - 1)) if isinstance(type_, List) else type_


def _settle(type_: Type) -> Type:
    """The type with what nothing is known of as text."""
    if isinstance(type_, Struct):
        fields = {key: _settle(field) for key, field in type_.fields.items()}
        return Struct(fields) if fields else Json("objects that are always empty")
    if isinstance(type_, List):
        return Json("lists that are always empty") if type_.item == NULL else List(_settle(type_.item))
    return type_


def _values(lines: bytes, key: str | None) -> Iterator[Any]:
    for value in msgspec.json.Decoder().decode_lines(lines):
        yield value if key is None else value.get(key)


def _checker(type_: Type, key: str | None) -> Callable[[bytes], bool]:
    """Tells whether all values of some lines fit into a type."""
    annotation = _annotation(type_)
    if key is not None:
        annotation = msgspec.defstruct("Line", [("value", annotation, _optional(type_, key))], gc=False)
    decode = msgspec.json.Decoder(annotation).decode_lines

    def fits(lines: bytes) -> bool:
        try:
            decode(lines)
        except msgspec.ValidationError:
            return False
        return True

    return fits


def _optional(type_: Type, key: str) -> Any:
    return msgspec.field(name=key, default=_NULL_TEXT if isinstance(type_, Json) else None)


def _annotation(type_: Type) -> Any:
    """What msgspec decodes values of a type into."""
    if isinstance(type_, Json):
        return msgspec.Raw
    if isinstance(type_, List):
        return list[_annotation(type_.item)] | None  # type: ignore[misc]
    if isinstance(type_, Struct):
        fields = [
            (f"f{number}", _annotation(field), _optional(field, key))
            for number, (key, field) in enumerate(type_.fields.items())
        ]
        return msgspec.defstruct("Object", fields, forbid_unknown_fields=True, gc=False) | None
    return _ANNOTATIONS[type_]


class JsonColumn:
    """Makes Arrow arrays of values of one type.

    Args:
        type_: As inferred from all values
    """

    def __init__(self, type_: Type) -> None:
        self._type = type_
        self.annotation = _annotation(type_)
        """What values are decoded into before :meth:`array`."""
        self.arrow = arrow_type(type_)
        self.metadata = JSON_TEXT if isinstance(type_, Json) else None
        self._decode = msgspec.json.Decoder(list[self.annotation]).decode  # type: ignore[name-defined]

    def decode(self, values: Sequence[msgspec.Raw | None]) -> list[Any]:
        """JSON values, decoded in one go."""
        return self._decode(b"[" + b",".join([value or b"null" for value in values]) + b"]")

    def array(self, values: Sequence[Any]) -> Any:
        """An array of decoded values."""
        return _array(self._type, values, self.arrow)


def arrow_type(type_: Type) -> Any:
    """The Arrow type of a type."""
    import pyarrow as pa

    if isinstance(type_, Struct):
        return pa.struct([arrow_field(key, field) for key, field in type_.fields.items()])
    if isinstance(type_, List):
        return pa.list_(arrow_field("element", type_.item))
    if isinstance(type_, int):
        plain = {BOOLEAN: pa.bool_(), SAFE_INTEGER: pa.int64(), INTEGER: pa.int64(), NUMBER: pa.float64()}
        return plain.get(type_, pa.string())
    return pa.string()


def arrow_field(name: str, type_: Type) -> Any:
    """A field of a type; it says so where its texts are JSON."""
    import pyarrow as pa

    return pa.field(name, arrow_type(type_), metadata=JSON_TEXT if isinstance(type_, Json) else None)


_PLAIN: dict[int, Callable[[Sequence[Any], Any], Any]] = {
    NULL: columns.strings,
    BOOLEAN: columns.booleans,
    SAFE_INTEGER: columns.integers,
    INTEGER: columns.integers,
    NUMBER: columns.numbers,
    TEXT: columns.strings,
}


def _array(type_: Type, values: Sequence[Any], arrow: Any) -> Any:
    if isinstance(type_, int):
        return _PLAIN[type_](values, arrow)
    if isinstance(type_, Json):
        return columns.texts([_text(value) for value in values], arrow)
    if isinstance(type_, List):
        items = [item for value in values if value for item in value]
        return columns.lists(values, _array(type_.item, items, arrow.value_type), arrow)
    missing = [value is None for value in values]
    present = (
        [_NoFields() if gone else value for value, gone in zip(values, missing, strict=True)]
        if any(missing)
        else values
    )
    fields = [
        _array(field, list(map(attrgetter(f"f{number}"), present)), arrow[number].type)
        for number, field in enumerate(type_.fields.values())
    ]
    return columns.structs(fields, missing, arrow)


class _NoFields:
    """In place of an object that is null."""

    def __getattr__(self, name: str) -> None:
        return None


def _text(value: msgspec.Raw | None) -> bytes | None:
    text = None if value is None else bytes(value)
    return None if text == b"null" else text
