"""Data as JSON: what is none is made such where that is safe, and else refused by its place in the record.

Dates, times, UUIDs and decimals become text, objects mappings; NaN is null in columns and a fault in what is
sent. Nothing here knows what a request is.
"""

from __future__ import annotations

import datetime
import decimal
import math
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import describe, shorten
from airflow_claude_batch.batches.requests.objects import (
    MOST_LEVELS,
    fields_of,
    is_missing,
    plain,
    repeated_names,
)

_CONVERT = "convert it to text or a number"

_encode = msgspec.json.Encoder().encode


def as_json(record: Any, index: int, is_parameter: Callable[[str], bool]) -> dict[str, Any]:
    """A record as JSON: a mapping, or an object by its fields.

    Args:
        record: What somebody gave as one.
        index: Its position in the input, for messages.
        is_parameter: Whether a key says what is sent. Where it does, NaN is a fault; elsewhere it is null.

    Raises:
        InputError: With every fault of this record.
    """
    if type(record) is dict and is_json(record):
        return record
    fields = fields_of(record)
    if fields is None:
        raise InputError([_no_record(record, index)])
    faults: list[Fault] = []
    copy: dict[str, Any] = {}
    for given, value in fields.items():
        key = plain(given)
        if isinstance(key, str) and key not in copy:
            nulls = not is_parameter(key)
            copy[str(key)] = to_json(value, index, str(key), faults, nulls=nulls, levels=MOST_LEVELS - 1)
        else:
            faults.append(_no_key(key, index, "record", "the names of columns are text"))
    if faults:
        raise InputError(faults)
    return copy


def lenient_json(record: Any) -> dict[str, Any]:
    """What of a bad record can be stored; the rest is null."""
    fields = fields_of(record) or {}
    copy = {str(plain(key)): to_json(value, 0, "", [], nulls=True) for key, value in fields.items()}
    try:
        _encode(copy)
    except (ValueError, TypeError, OverflowError):
        return {key: value for key, value in copy.items() if not_encodable({key: value}) is None}
    return copy


def _no_record(value: Any, index: int) -> Fault:
    rule = 'a record is a mapping such as {"custom_id": "a", "prompt": "..."}'
    if repeated := repeated_names(value):
        rule = f"each column of a row has a name of its own, and several are called {shorten(repeated)}; "
        rule += "give them names with AS"
    elif isinstance(value, (list, tuple)):
        rule += "; rows without the names of their columns tell no prompt from an id: read a database with "
        rule += "Sql(conn_id, sql), or make mappings or named tuples of them"
    return Fault(index=index, where="record", value=describe(value), rule=rule)


def is_json(value: Any, levels: int = MOST_LEVELS) -> bool:
    """Whether the value can be encoded as it is; msgspec would turn NaN into null, bytes into base64."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if levels == 0:
        return False
    if kind is dict:
        # A plain loop: this runs for every value of every record, and a generator costs twice as much.
        for key, item in value.items():
            if type(key) is not str:
                return False
            kind = type(item)
            if kind is not str and kind is not int and not is_json(item, levels - 1):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) is str or is_json(item, levels - 1) for item in value)
    return kind is float and math.isfinite(value)


def to_json(
    value: Any, index: int, path: str, faults: list[Fault], *, nulls: bool = False, levels: int = MOST_LEVELS
) -> Any:
    """A JSON copy of the value: dates, times, UUIDs and decimals become text, objects mappings.

    Anything else that is not JSON is a fault, named by its path.

    Args:
        value: Any value.
        index: Of its record, for messages.
        path: Where it is in the record.
        faults: Gets what is wrong.
        nulls: Whether NaN and its like stand for no value; without, they are faults.
        levels: How many mappings and lists may still be in each other.
    """
    if is_json(value, levels):
        return value
    value = plain(value)
    if nulls and is_missing(value):
        return None
    fields, items = fields_of(value), isinstance(value, (list, tuple))
    if levels == 0 and (fields is not None or items):
        rule = f"data has at most {MOST_LEVELS} mappings and lists in each other"
        faults.append(Fault(index=index, where=shorten(path), value="deeper", rule=rule))
        return None
    if fields is not None:
        return _json_mapping(fields, index, path, faults, nulls=nulls, levels=levels - 1)
    if items:
        return [
            to_json(item, index, f"{path}[{number}]", faults, nulls=nulls, levels=levels - 1)
            for number, item in enumerate(value)
        ]
    return _json_scalar(value, index, path, faults)


def _json_mapping(
    fields: Mapping[Any, Any], index: int, path: str, faults: list[Fault], *, nulls: bool, levels: int
) -> dict[str, Any]:
    copy = {}
    for given, item in fields.items():
        key = plain(given)
        if isinstance(key, str) and key not in copy:
            where = f"{path}.{key}".lstrip(".")
            copy[str(key)] = to_json(item, index, where, faults, nulls=nulls, levels=levels)
        else:
            faults.append(_no_key(key, index, path or "record", "keys are text in JSON"))
    return copy


def _no_key(key: Any, index: int, where: str, rule: str) -> Fault:
    """For a key that is no text, or that another one is as text: an enumeration's member and its value."""
    if not isinstance(key, str):
        return Fault(index=index, where=where, value=describe(key), rule=rule)
    rule = "a key comes once; an enumeration's member is its value, and another key is that, too"
    return Fault(index=index, where=where, value=shorten(key), rule=rule)


def _json_scalar(value: Any, index: int, path: str, faults: list[Fault]) -> Any:
    if is_missing(value) and not isinstance(value, float):
        kind = f"a {type(value).__name__}"
    elif isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    elif isinstance(value, datetime.timedelta):
        # Those of pandas and pendulum are of kinds of their own.
        return msgspec.to_builtins(datetime.timedelta(seconds=value.total_seconds()))
    elif isinstance(value, (uuid.UUID, decimal.Decimal, str)):
        return str(value)
    elif isinstance(value, int):
        return int(value)
    elif isinstance(value, float) and math.isfinite(value):
        return float(value)
    else:
        kind = "NaN or infinite" if isinstance(value, float) else f"a {type(value).__name__}"
    way_out = "path.read_text() is its file's text" if isinstance(value, os.PathLike) else _CONVERT
    rule = f"{kind} is not a JSON value; {way_out}"
    faults.append(Fault(index=index, where=path or "record", value=describe(value), rule=rule))
    return None


def not_encodable(columns: Mapping[str, Any]) -> str | None:
    """The first column that JSON cannot hold."""
    for name, value in columns.items():
        try:
            _encode({name: value})
        except (ValueError, TypeError, OverflowError):
            return f"column {shorten(name)}"
    return None
