"""Arrow's values as JSON, for Parquet and ORC.

| Arrow | JSON |
|---|---|
| text; bytes that are UTF-8 | text; other bytes are a fault |
| whole numbers, truth values | the same |
| floating point numbers | numbers, of 32 bits with the digits that they were written with; NaN is null |
| decimals | text with all digits |
| dates, times | ISO 8601 text, whatever the year: ``2026-10-01``, ``13:45:00.250000`` |
| moments without a time zone | ISO 8601 text: ``2026-10-01T13:45:00`` |
| moments with one | the same in that zone, with its offset (else UTC): ``2026-10-01T15:45:00+02:00`` |
| durations | ISO 8601 text in seconds: ``PT90.5S`` |
| UUIDs | text |
| lists | arrays |
| structs | objects |
| maps | objects, their keys as text; a key that comes twice is a fault |
| dictionaries, extensions | what they stand for |
"""

from __future__ import annotations

import datetime
import math
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

_EPOCH = datetime.datetime(1970, 1, 1)  # noqa: DTZ001  # moments without a time zone
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400


class NoJsonError(Exception):
    """A value that JSON has no form for; the message is the rule."""


Convert = Callable[[Any], list[Any]]
"""Of an array, its values as Python has JSON."""


def converter(type_: Any) -> Convert:
    """What makes JSON of arrays of a type.

    Raises:
        NoJsonError: For a type that JSON has no form for.
    """
    from pyarrow import types

    if (
        types.is_string(type_)
        or types.is_large_string(type_)
        or types.is_integer(type_)
        or types.is_boolean(type_)
    ):
        return _as_it_is
    for is_type, convert in _table():
        if is_type(type_):
            return convert
    raise NoJsonError(f"JSON has no form for the type {type_}")


@cache
def _table() -> list[tuple[Callable[[Any], bool], Convert]]:
    import pyarrow
    from pyarrow import types

    def is_extension(type_: Any) -> bool:
        return isinstance(type_, pyarrow.BaseExtensionType)

    def is_bytes(type_: Any) -> bool:
        return bool(
            types.is_binary(type_)
            or types.is_large_binary(type_)
            or types.is_fixed_size_binary(type_)
            or types.is_binary_view(type_)
        )

    return [
        (types.is_string_view, _as_it_is),
        (types.is_null, _as_it_is),
        (is_extension, _extension),
        (types.is_dictionary, lambda array: _converted(array.dictionary_decode())),
        (types.is_floating, _floats),
        (types.is_decimal, lambda array: _each(array.to_pylist(), _decimal)),
        (types.is_date32, lambda array: _each(_integers(array, 32), _date)),
        (types.is_date64, lambda array: _each(_integers(array, 64), lambda ms: _date(ms // 86_400_000))),
        (types.is_time, _times),
        (types.is_timestamp, _timestamps),
        (types.is_duration, _durations),
        (is_bytes, lambda array: _each(array.to_pylist(), _text)),
        (types.is_struct, _structs),
        (types.is_map, _maps),
        (types.is_list, _lists),
        (types.is_large_list, _lists),
        (types.is_fixed_size_list, lambda array: _lists(array.cast(pyarrow.list_(array.type.value_type)))),
    ]


def uuids(array: Any) -> list[Any]:
    """UUIDs, stored as 16 bytes."""
    return _each(array.to_pylist(), lambda data: str(uuid.UUID(bytes=data)))


def _converted(array: Any) -> list[Any]:
    return converter(array.type)(array)


def _each(values: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _as_it_is(array: Any) -> list[Any]:
    return array.to_pylist()  # type: ignore[no-any-return]


def _extension(array: Any) -> list[Any]:
    return uuids(array.storage) if array.type.extension_name == "arrow.uuid" else _converted(array.storage)


def _integers(array: Any, bits: int) -> list[Any]:
    """What moments are stored as: Arrow itself cannot give those out that Python has no object for."""
    import pyarrow

    return array.view(pyarrow.int32() if bits == 32 else pyarrow.int64()).to_pylist()  # type: ignore[no-any-return]


def _floats(array: Any) -> list[Any]:
    import pyarrow

    if array.type != pyarrow.float64():
        # 0.1 of 32 bits is 0.10000000149011612 of 64.
        narrow = array.cast(pyarrow.float32()).cast(pyarrow.string()).to_pylist()
        values = [None if value is None else float(value) for value in narrow]
    else:
        values = array.to_pylist()
    return [None if value is None or math.isnan(value) else value for value in values]


def _decimal(value: Decimal) -> str:
    return format(value, "f")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise NoJsonError("bytes are text where they are UTF-8; these are not") from None


def _date(days: int) -> str:
    try:
        return (_EPOCH + datetime.timedelta(days=days)).date().isoformat()
    except OverflowError:
        year, month, day = _civil(days)
        return f"{'-' if year < 0 else ''}{abs(year):04d}-{month:02d}-{day:02d}"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of any day since 1970, by the calendar's cycle of 400 years."""
    cycles, rest = divmod(days, 146_097)
    date = datetime.date(1970, 1, 1) + datetime.timedelta(days=rest)
    return date.year + 400 * cycles, date.month, date.day


def _fraction(value: int, unit: int) -> str:
    """Behind the seconds: six digits as Python writes them, nine where there are nanoseconds."""
    if not value:
        return ""
    nanoseconds = value * (10**9 // unit)
    return f".{nanoseconds:09d}" if nanoseconds % 1000 else f".{nanoseconds // 1000:06d}"


def _clock(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}"


def _times(array: Any) -> list[Any]:
    unit = _UNITS[array.type.unit]

    def convert(value: int) -> str:
        seconds, rest = divmod(value, unit)
        return _clock(seconds) + _fraction(rest, unit)

    return _each(_integers(array, array.type.bit_width), convert)


def _durations(array: Any) -> list[Any]:
    unit = _UNITS[array.type.unit]

    def convert(value: int) -> str:
        seconds, rest = divmod(abs(value), unit)
        return f"{'-' if value < 0 else ''}PT{seconds}{_fraction(rest, unit).rstrip('0')}S"

    return _each(_integers(array, 64), convert)


def _timestamps(array: Any) -> list[Any]:
    unit = _UNITS[array.type.unit]
    zone = _zone(array.type.tz) if array.type.tz else None

    def convert(value: int) -> str:
        seconds, rest = divmod(value, unit)
        offset = ""
        if zone is not None:
            shift = _offset(seconds, zone)
            seconds, offset = seconds + shift, _offset_text(shift)
        days, second = divmod(seconds, _DAY)
        return f"{_date(days)}T{_clock(second)}{_fraction(rest, unit)}{offset}"

    return _each(_integers(array, 64), convert)


@cache
def _zone(name: str) -> datetime.tzinfo:
    try:
        if name[:1] in "+-":
            moment = datetime.datetime.fromisoformat(f"2000-01-01T00:00:00{name}")
            return moment.tzinfo or datetime.UTC
        return zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return datetime.UTC


def _offset(seconds: int, zone: datetime.tzinfo) -> int:
    """Seconds that the zone is before UTC at that moment; none where Python has no such year."""
    try:
        moment = (_EPOCH + datetime.timedelta(seconds=seconds)).replace(tzinfo=datetime.UTC).astimezone(zone)
    except OverflowError:
        return 0
    return int((moment.utcoffset() or datetime.timedelta()).total_seconds())


def _offset_text(shift: int) -> str:
    minutes, seconds = divmod(abs(shift), 60)
    end = f":{seconds:02d}" if seconds else ""
    return f"{'-' if shift < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}{end}"


def _structs(array: Any) -> list[Any]:
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        raise NoJsonError("each field of a struct has a name of its own")
    # Flattened, a field is null where its struct is.
    columns = [_converted(column) for column in array.flatten()]
    if not columns:
        return [None if value is None else {} for value in array.to_pylist()]
    valid = array.is_valid().to_pylist()
    rows = zip(valid, zip(*columns, strict=True), strict=True)
    return [dict(zip(names, values, strict=True)) if there else None for there, values in rows]


def _ranges(array: Any, *children: list[Any]) -> Iterator[tuple[list[Any], ...] | None]:
    """Of each list of an array, its part of the children; the first of them begins the first list."""
    offsets = array.offsets.to_pylist()
    start = offsets[0] if offsets else 0
    for place, there in enumerate(array.is_valid().to_pylist()):
        first, last = offsets[place] - start, offsets[place + 1] - start
        yield tuple(child[first:last] for child in children) if there else None


def _inner(array: Any, child: Any) -> list[Any]:
    """The values of a child of lists, as far as these lists go."""
    offsets = array.offsets
    start = offsets[0].as_py() if len(offsets) else 0
    end = offsets[len(offsets) - 1].as_py() if len(offsets) else 0
    return _converted(child.slice(start, end - start))


def _lists(array: Any) -> list[Any]:
    return [None if part is None else part[0] for part in _ranges(array, _inner(array, array.values))]


def _maps(array: Any) -> list[Any]:
    keys, items = _inner(array, array.keys), _inner(array, array.items)
    return [None if part is None else _object(*part) for part in _ranges(array, keys, items)]


def _object(keys: list[Any], items: list[Any]) -> dict[str, Any]:
    texts = [key if isinstance(key, str) else _key(key) for key in keys]
    result = dict(zip(texts, items, strict=True))
    if len(result) < len(keys):
        raise NoJsonError("a key of a map comes once; one comes twice here")
    return result


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise NoJsonError("keys of maps are text, numbers or moments")
