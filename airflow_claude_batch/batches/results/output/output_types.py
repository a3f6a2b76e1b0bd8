"""The Parquet types of answers that keep to a JSON Schema, and how to fit values into them.

=====================================  ==================================================
schema                                 Parquet
=====================================  ==================================================
text, UUID, time, duration, enum       text (an enum of whole numbers: 64-bit integer)
date; date-time                        date; timestamp in UTC (one without a zone is UTC)
whole number; number; true and false   64-bit integer; 64-bit floating point; boolean
decimal                                decimal of 38 digits, 18 or as many places as said
a whole number or a number             64-bit floating point
a type or null; a list; named fields   that type, nullable; list; struct
unions, maps, anything                 JSON text
=====================================  ==================================================
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import msgspec

from airflow_claude_batch.batches.results.output.json_types import JSON_TEXT

DIGITS = 38
"""Digits of a decimal in all."""
PLACES = 18
"""Those after the point, where the schema does not say how many."""

_NUMBERS = {frozenset(("integer", "number")): "number"}
"""Alternatives that have one type together."""
_encode = msgspec.json.Encoder().encode

Convert = Callable[[Any], Any]


def column_type(schema: dict[str, Any]) -> tuple[Any, Convert | None]:
    """The Parquet type for answers of a JSON Schema, and how to fit a value into it."""
    return _Types(schema).of(schema)


class _Types:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []

    def of(self, schema: Any) -> tuple[Any, Convert | None]:
        import pyarrow as pa

        if not isinstance(schema, dict):
            return pa.string(), encode_text
        if "$ref" in schema:
            return self._of_reference(schema["$ref"])
        kind = self._kind(schema)
        if isinstance(kind, dict):
            return self.of(kind)
        formatted = _formatted(schema) if kind in ("string", "number") else None
        if formatted is not None:
            return formatted
        simple = {"string": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
        if kind in simple:
            return simple[kind], None
        if kind == "number":
            return pa.float64(), _number
        if kind == "array" and "items" in schema:
            item, convert = self.of(schema["items"])
            return pa.list_(typed_field("element", item, convert)), _list_of(convert)
        if kind == "object" and schema.get("properties"):
            return self._of_object(schema["properties"])
        return pa.string(), encode_text

    def _kind(self, schema: dict[str, Any]) -> Any:
        """Its type's name; or the schema that is meant, where null is the only alternative."""
        kind = schema.get("type")
        if isinstance(kind, list):
            others = [name for name in kind if name != "null"]
            return others[0] if len(others) == 1 else _NUMBERS.get(frozenset(others))
        alternatives = [s for s in schema.get("anyOf", ()) if s != {"type": "null"}]
        if kind is None and len(alternatives) == 1:
            return alternatives[0]
        if kind is None and alternatives and all(s.keys() <= {"type", "title"} for s in alternatives):
            return _NUMBERS.get(frozenset(str(s.get("type")) for s in alternatives))
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        return _kind_of_values(values) if kind is None and values else kind

    def _of_reference(self, reference: str) -> tuple[Any, Convert | None]:
        import pyarrow as pa

        target: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            target = target.get(name, {}) if isinstance(target, dict) else {}
        if reference in self._open or not target:
            return pa.string(), encode_text
        self._open.append(reference)
        try:
            return self.of(target)
        finally:
            self._open.pop()

    def _of_object(self, properties: dict[str, Any]) -> tuple[Any, Convert | None]:
        import pyarrow as pa

        fields = {name: self.of(schema) for name, schema in properties.items()}
        converts = [(name, convert) for name, (_, convert) in fields.items() if convert is not None]

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                return None
            if not converts:
                return value
            return value | {name: fit(value[name]) for name, fit in converts if name in value}

        return pa.struct([typed_field(name, type_, fit) for name, (type_, fit) in fields.items()]), convert


def typed_field(name: str, type_: Any, convert: Convert | None) -> Any:
    """An Arrow field; it says so where its texts are JSON."""
    import pyarrow as pa

    return pa.field(name, type_, metadata=JSON_TEXT if convert is encode_text else None)


def _formatted(schema: dict[str, Any]) -> tuple[Any, Convert] | None:
    import pyarrow as pa

    if schema.get("format") == "date":
        return pa.date32(), _date
    if schema.get("format") in ("date-time", "local-date-time"):
        return pa.timestamp("us", tz="UTC"), _timestamp
    if schema.get("format") == "decimal":
        places = min(int(schema.get("decimalPlaces", PLACES)), DIGITS)
        return pa.decimal128(DIGITS, places), _decimal(places)
    return None


def _kind_of_values(values: list[Any]) -> str | None:
    kinds = {type(value) for value in values if value is not None}
    names = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(kinds.pop()) if len(kinds) == 1 else None


def _date(value: Any) -> datetime.date | None:
    return datetime.date.fromisoformat(value) if isinstance(value, str) else None


def _timestamp(value: Any) -> datetime.datetime | None:
    if not isinstance(value, str):
        return None
    time = datetime.datetime.fromisoformat(value)
    # In UTC, where the first and the last hours of all years may be none that can be read back.
    return time.astimezone(datetime.UTC) if time.tzinfo else time.replace(tzinfo=datetime.UTC)


def _decimal(places: int) -> Convert:
    unit = decimal.Decimal(1).scaleb(-places)
    context = decimal.Context(prec=DIGITS)

    def convert(value: Any) -> decimal.Decimal | None:
        if not isinstance(value, (int, float, decimal.Decimal)) or isinstance(value, bool):
            return None
        said = held = value if isinstance(value, decimal.Decimal) else decimal.Decimal(repr(value))
        if isinstance(value, decimal.Decimal):  # the answer's own digits; it is parsed to a float
            held = decimal.Decimal(repr(float(value)))
        try:
            rounded = held.quantize(unit, context=context)
        except decimal.InvalidOperation:
            raise OverflowError(f"a number of more than {DIGITS - places} digits before the point") from None
        if rounded != said:
            raise OverflowError(f"a number of more than {places} places, or of more digits than a float has")
        return rounded

    return convert


def encode_text(value: Any) -> str | None:
    return None if value is None or value is msgspec.UNSET else _encode(value).decode()


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)):
        return None
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise OverflowError("a whole number of more digits than a float has")
    return number


def _list_of(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda values: [convert(value) for value in values] if isinstance(values, list) else None
