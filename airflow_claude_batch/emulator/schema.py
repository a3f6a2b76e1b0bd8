"""JSON that satisfies a schema of ``output_config.format``, the same for the same seed."""

from __future__ import annotations

import functools
import random
from typing import Any

import msgspec

_TRIED_SEEDS = 3
_MAX_DEPTH = 6
_WORDS = [
    "usage",
    "rose",
    "steadily",
    "over",
    "the",
    "week",
    "while",
    "support",
    "requests",
    "fell",
    "and",
    "most",
    "accounts",
    "kept",
    "their",
    "plan",
    "the",
    "team",
    "logged",
    "in",
    "daily",
    "exports",
    "doubled",
    "and",
    "two",
    "dashboards",
    "were",
    "shared",
    "with",
    "new",
    "members",
]
_FORMATS = {
    "date": "2026-03-14",
    "date-time": "2026-03-14T09:26:53Z",
    "time": "09:26:53Z",
    "duration": "P3DT4H",
    "email": "ada@example.com",
    "hostname": "host.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uri": "https://example.com/report",
    "uuid": "3f0c9a52-5f0e-4a55-9d0c-6a4f0f6d2b11",
}


@functools.lru_cache(maxsize=512)
def problem_with(schema: bytes) -> str | None:
    """Why no value can be written for this schema (its JSON), or ``None``."""
    root = msgspec.json.decode(schema)
    try:
        for seed in range(_TRIED_SEEDS):
            SchemaWriter(root, seed).value()
    except RecursionError:
        return "the schema is recursive without end"
    except (LookupError, TypeError, ValueError) as error:
        return f"the schema is not valid: {error!r}"
    return None


class SchemaWriter:
    """Writes one value for a schema; references are resolved against the root."""

    def __init__(self, root: dict[str, Any], seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)

    def value(self, schema: Any = None, depth: int = 0) -> Any:
        """A value for ``schema`` (the root, if not given)."""
        schema = self._root if schema is None else schema
        if not isinstance(schema, dict):
            return self._text(2)
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        if "allOf" in schema:
            return self.value(self._all_of(schema), depth)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self.value(self._choose(schema[union], depth), depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._choose(kind, depth)
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "string":
            return self._string(schema)
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind == "boolean":
            return self._random.random() < 0.5
        return None

    def _choose(self, options: list[Any], depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            for option in options:
                if option in ("null", {"type": "null"}):
                    return option
            return min(options, key=lambda option: len(str(option)))
        return self._random.choice(options)

    def _resolve(self, reference: str) -> Any:
        target: Any = self._root
        for step in reference.lstrip("#/").split("/"):
            if step:
                target = target[step.replace("~1", "/").replace("~0", "~")]
        return target

    def _all_of(self, schema: dict[str, Any]) -> dict[str, Any]:
        combined = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            part = self._resolve(part["$ref"]) if "$ref" in part else part
            for key, value in part.items():
                if key == "properties":
                    combined[key] = {**combined.get(key, {}), **value}
                elif key == "required":
                    combined[key] = [*combined.get(key, []), *value]
                else:
                    combined[key] = value
        return combined

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        result = {
            name: self.value(part, depth + 1)
            for name, part in properties.items()
            if name in required or depth < _MAX_DEPTH
        }
        for name in required - set(properties):
            result[name] = self._text(2)
        return result

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        low = schema.get("minItems", 0)
        wish = 0 if depth >= _MAX_DEPTH else self._random.randint(1, 3)
        count = min(max(low, wish), schema.get("maxItems", max(low, wish)))
        fixed = [self.value(part, depth + 1) for part in schema.get("prefixItems", ())]
        result = fixed + [self.value(schema.get("items", {}), depth + 1) for _ in range(count - len(fixed))]
        if schema.get("uniqueItems"):
            result = [item for index, item in enumerate(result) if item not in result[:index]]
        return result

    def _string(self, schema: dict[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._text(self._random.randint(3, 9))
        if len(text) < (low := schema.get("minLength", 0)):
            text = (text + " ") * (low // (len(text) + 1) + 1)
            text = text[:low].replace(" ", "-")
        return text[: schema.get("maxLength", len(text))]

    def _number(self, schema: dict[str, Any], kind: str) -> int | float:
        step = schema.get("multipleOf", 1 if kind == "integer" else None)
        gap = step if kind == "integer" else 1e-6
        low = schema.get(
            "minimum", schema.get("exclusiveMinimum", 0) + (gap if "exclusiveMinimum" in schema else 0)
        )
        high = schema.get(
            "maximum",
            schema.get("exclusiveMaximum", max(low, 0) + 100) - (gap if "exclusiveMaximum" in schema else 0),
        )
        if "minimum" not in schema and "exclusiveMinimum" not in schema and low > high:
            low = high - 100
        value: float = low + self._random.random() * max(high - low, 0)
        if step:
            value = -(-low // step) * step + int((value - low) // step) * step
        if kind == "integer":
            return int(value)
        return round(value, 2) if low <= round(value, 2) <= high and not step else value

    def _text(self, words: int) -> str:
        return " ".join(self._random.choice(_WORDS) for _ in range(words))
