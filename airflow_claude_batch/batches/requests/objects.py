"""What people hand over as data: objects with fields are mappings, enumerations their values.

Nothing is imported to find that out: an object says by its type's module whose it is.
"""

from __future__ import annotations

import dataclasses
import decimal
import enum
from collections.abc import Mapping
from typing import Any

_COLUMNAR = ("pandas", "polars", "pyarrow", "numpy")
"""Whose objects have keys that are columns, not fields."""

MOST_LEVELS = 200
"""Mappings and lists in each other. What is deeper is no data, and what reads it back has a limit, too."""


def held(record: Any, levels: int = MOST_LEVELS) -> Any:
    """A record to keep while others are read: whoever made it may go on to change its mappings and lists."""
    if levels and type(record) is dict:
        return {key: held(item, levels - 1) for key, item in record.items()}
    if levels and type(record) is list:
        return [held(item, levels - 1) for item in record]
    return record


def fields_of(value: Any) -> Mapping[str, Any] | None:
    """The fields of an object that has such, by name; None where it is no record.

    Mappings, named tuples, dataclasses, rows of SQLAlchemy and database drivers, and objects of SQLAlchemy,
    pydantic (those of the anthropic SDK, too), attrs and msgspec.
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    for read in (_row, _model, _class_fields):
        try:
            found = read(value)
        except Exception:  # noqa: BLE001  # a field that was never set, an object whose session is closed
            return None
        if found is not None:
            return found
    return None


def _row(value: Any) -> Mapping[str, Any] | None:
    mapping = getattr(value, "_mapping", None)  # SQLAlchemy; before named tuples, whose look it has
    if isinstance(mapping, Mapping):
        return None if repeated_names(value) else mapping
    names = getattr(value, "_fields", None)
    if isinstance(value, tuple) and isinstance(names, tuple):
        return dict(zip(names, value, strict=True))
    if not hasattr(value, "keys") or library_of(value) in _COLUMNAR or repeated_names(value):
        return None
    return {name: value[name] for name in value.keys()}  # noqa: SIM118  # sqlite3.Row iterates over values


def repeated_names(row: Any) -> list[str]:
    """The names that several columns of a database's row have: a mapping would lose one of them."""
    try:
        names = list(row._fields if hasattr(row, "_fields") else row.keys())
        return [] if len(set(names)) == len(names) else sorted({n for n in names if names.count(n) > 1})
    except (AttributeError, TypeError):  # it is no row
        return []


def _model(value: Any) -> Mapping[str, Any] | None:
    kind = type(value)
    if _is_root_model(value):
        return fields_of(value.root)
    if hasattr(kind, "model_fields") and hasattr(value, "model_dump"):
        if kind.__module__.partition(".")[0] == "anthropic":
            # As the SDK itself sends what it has received.
            hidden = getattr(kind, "__api_exclude__", None)
            return dict(value.model_dump(by_alias=True, exclude_unset=True, exclude=hidden))
        return dict(value)
    mapper = getattr(kind, "__mapper__", None)
    if mapper is not None:
        return {attribute.key: getattr(value, attribute.key) for attribute in mapper.column_attrs}
    if library_of(value) == "pandas" and kind.__name__ == "Series":
        return {name: null_if_missing(item) for name, item in value.to_dict().items()}
    return None


def _is_root_model(value: Any) -> bool:
    return getattr(type(value), "__pydantic_root_model__", False) is True


def _class_fields(value: Any) -> Mapping[str, Any] | None:
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    names = getattr(type(value), "__struct_fields__", None)
    return None if names is None else {name: getattr(value, name) for name in names}


def null_if_missing(value: Any) -> Any:
    """None for NaN, ``pandas.NaT`` and ``pandas.NA``."""
    return None if is_missing(value) else value


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, ``NaT``, ``pandas.NA``."""
    if value is None:
        return True
    if isinstance(value, float):
        return value != value
    if isinstance(value, decimal.Decimal):
        return value.is_nan()
    name = type(value).__name__
    if name in ("NaTType", "NAType"):
        return True
    return name in ("datetime64", "timedelta64") and bool(value != value)


def plain(value: Any) -> Any:
    """A value as Python's own: a scalar of numpy or Arrow is a Python one.

    A member of an enumeration and a ``RootModel`` of pydantic are their values. Anything else comes back as
    it is.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if _is_root_model(value):
        return plain(value.root)
    if is_missing(value):
        return value
    library = library_of(value)
    if library == "numpy" and hasattr(value, "tolist"):
        if type(value).__name__ in ("datetime64", "timedelta64"):
            return str(value)  # its own conversion makes a number of nanoseconds
        return value.tolist()
    if library == "pyarrow" and hasattr(value, "as_py"):
        return value.as_py()
    return value


def library_of(value: Any) -> str:
    """The package that a value's type comes from."""
    return str(type(value).__module__).partition(".")[0]


def to_python(value: Any) -> Any:
    """A value for a template: missing ones are None, objects mappings; dates stay what they are."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    value = plain(value)
    if is_missing(value):  # as a scalar of numpy or Arrow, or an enumeration's member, it may not show
        return None
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [to_python(item) for item in value]
    fields = fields_of(value)
    if fields is None:
        return value
    return {str(plain(key)): to_python(item) for key, item in fields.items()}
