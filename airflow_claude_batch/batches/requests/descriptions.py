"""How an error names a value: by its kind and length, or by its key; never by its content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KINDS = {bool: "true or false", int: "a number", float: "a number"}


def describe(value: Any) -> str:
    """What a value is, for an error message: its type and length, never its content."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} entries"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} items"
    return _KINDS.get(type(value)) or f"a {type(value).__name__}"


def shorten(key: Any, limit: int = 80) -> str:
    """A key (a custom_id, names of columns) for an error message: enough to find the record by."""
    text = repr(key) if not isinstance(key, (bytes, bytearray)) else f"{len(key)} bytes"
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text)} characters)"
