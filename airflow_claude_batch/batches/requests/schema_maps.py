"""Maps that were asked for as lists of entries, turned back into objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_claude_batch.batches.requests.schema_language import map_values, resolve


class RepeatedKeyError(ValueError):
    """Two entries of a map have the same key."""


def turn_back(value: Any, schema: Any, root: Mapping[str, Any], fits: Callable[[Any, Any], bool]) -> Any:
    """An answer of the schema that was asked for, as one of the user's.

    Args:
        value: The answer, or a part of it.
        schema: The user's schema for it.
        root: The user's whole schema, for references.
        fits: Whether a value keeps to a schema; it decides between the alternatives of a union.

    Raises:
        RepeatedKeyError: For a map with a key twice.
    """

    def back(value: Any, schema: Any) -> Any:
        if not isinstance(schema, Mapping):
            return value
        if "$ref" in schema:
            return back(value, resolve(root, schema["$ref"]))
        for part in schema.get("allOf") or ():
            value = back(value, part)
        variants = schema.get("anyOf") or schema.get("oneOf")
        if variants:
            candidates = (back(value, variant) for variant in variants)
            pairs = zip(candidates, variants, strict=True)
            return next((candidate for candidate, variant in pairs if fits(candidate, variant)), value)
        if isinstance(value, list):
            return _map(value, schema, back)
        if isinstance(value, dict):
            properties = schema.get("properties") or {}
            return {key: back(own, properties.get(key)) for key, own in value.items()}
        return value

    return back(value, schema)


def _map(value: list[Any], schema: Mapping[str, Any], back: Callable[[Any, Any], Any]) -> Any:
    values = map_values(schema)
    if values is None:
        places = schema.get("prefixItems") or [None]
        return [back(item, schema.get("items") or places[0]) for item in value]
    if not all(isinstance(entry, dict) and entry.keys() == {"key", "value"} for entry in value):
        return value
    keys = [entry["key"] for entry in value]
    if not all(isinstance(key, str) for key in keys):
        return value
    if len(set(keys)) < len(keys):
        raise RepeatedKeyError("a key comes twice in a list of entries")
    return {entry["key"]: back(entry["value"], values) for entry in value}
