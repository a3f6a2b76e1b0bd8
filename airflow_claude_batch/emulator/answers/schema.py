"""JSON that satisfies a schema of ``output_config.format``, the same for the same seed."""

from __future__ import annotations

import decimal
import functools
import random
import re
from typing import Any

import msgspec

from airflow_claude_batch.emulator.answers.pattern import text_for
from airflow_claude_batch.emulator.answers.plausible import (
    number_named,
    sentence,
    text_fitting,
    text_named,
    text_of_format,
)

_TRIED_SEEDS = 3
_MAX_DEPTH = 6
_LOWER = frozenset({"minimum", "exclusiveMinimum"})
_UPPER = frozenset({"maximum", "exclusiveMaximum"})
_TRIED_ITEMS = 8
"""How often another item is made, where a list has the same one already."""
_SAID = re.compile(
    r"\b(minimum|maximum|exclusiveMinimum|exclusiveMaximum|multipleOf|minLength|maxLength|minItems|maxItems"
    r"|uniqueItems): (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|[Tt]rue)\b"
)
"""A bound that the API does not take; SDKs write it into the description, where a model reads it."""


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

    def value(self, schema: Any = None, depth: int = 0, name: str = "") -> Any:
        """A value for ``schema`` (the root, if not given), of the field ``name``."""
        schema = self._root if schema is None else schema
        if not isinstance(schema, dict):
            return text_named(name, self._random)
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]), depth + 1, name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        if "allOf" in schema:
            return self.value(self._all_of(schema), depth, name)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self.value(self._choose(schema[union], depth), depth + 1, name)
        return self._typed(schema, depth, name)

    def _typed(self, schema: dict[str, Any], depth: int, name: str) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._choose(kind, depth)
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        schema = {**_said_in(schema.get("description")), **schema}
        if kind == "object":
            return self._object(schema, depth, name)
        if kind == "array":
            return self._array(schema, depth, name)
        if kind == "string":
            return self._string(schema, name)
        if kind in ("integer", "number"):
            return self._number(schema, kind, name)
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

    def _object(self, schema: dict[str, Any], depth: int, name: str) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        result = {
            key: self.value(part, depth + 1, f"{name}_{key}")
            for key, part in properties.items()
            if key in required or depth < _MAX_DEPTH
        }
        for key in sorted(required - set(properties)):
            result[key] = text_named(key, self._random)
        return result

    def _array(self, schema: dict[str, Any], depth: int, name: str) -> list[Any]:
        low = schema.get("minItems", 0)
        wish = 0 if depth >= _MAX_DEPTH else self._random.randint(1, 3)
        count = min(max(low, wish), schema.get("maxItems", max(low, wish)))
        one = name.removesuffix("s")
        result = [self.value(part, depth + 1, one) for part in schema.get("prefixItems", ())]
        for _ in range(count - len(result)):
            item = self.value(schema.get("items", {}), depth + 1, one)
            for _ in range(_TRIED_ITEMS):
                if item not in result:
                    break
                item = self.value(schema.get("items", {}), depth + 1, one)
            if item not in result or not schema.get("uniqueItems"):
                result.append(item)
        return result

    def _string(self, schema: dict[str, Any], name: str) -> str:
        text = text_of_format(schema.get("format", ""), self._random)
        if text is not None:
            return text
        text = text_named(name, self._random)
        pattern = schema.get("pattern")
        if pattern is not None and not re.search(pattern, text):
            fitting = text_fitting(pattern, self._random) or text_for(pattern, self._random)
            if fitting is not None:
                return fitting
        return self._of_length(text, schema.get("minLength", 0), schema.get("maxLength"))

    def _of_length(self, text: str, low: int, high: int | None) -> str:
        """A text within bounds, cut between words where that is possible."""
        while len(text) < low:
            text = f"{text} {sentence(self._random)}"
        if high is None or len(text) <= high:
            return text
        cut = text[:high].rpartition(" ")[0] if text[high] != " " else text[:high]
        return cut if len(cut) >= max(low, 1) else text[:high]

    def _number(self, schema: dict[str, Any], kind: str, name: str) -> int | float:
        has_low = not _LOWER.isdisjoint(schema)
        has_high = not _UPPER.isdisjoint(schema)
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
        likely = number_named(name, self._random)
        if likely is not None and (step is None or step <= 1):
            likely = (
                round(likely)
                if kind == "integer"
                else _whole_steps(round(likely / (step or 1)), step, likely)
            )
            if (likely >= low or not has_low) and (likely <= high or not has_high):
                return likely
        value: float = low + self._random.random() * max(high - low, 0)
        if step:
            value = _whole_steps(-(-low // step) + int((value - low) // step), step, value)
        if kind == "integer":
            return int(value)
        return round(value, 2) if low <= round(value, 2) <= high and not step else value


def _whole_steps(count: float, step: float | None, otherwise: float) -> float:
    """So many steps, written without the dust of binary fractions."""
    if step is None:
        return otherwise
    return float(round(decimal.Decimal(count) * decimal.Decimal(str(step)), 15).normalize())


def _said_in(description: Any) -> dict[str, Any]:
    """The bounds in the braces that a description ends with."""
    start = description.rfind("{") if isinstance(description, str) and description.endswith("}") else -1
    if start < 0:
        return {}
    return {key: msgspec.json.decode(value.lower()) for key, value in _SAID.findall(description[start:])}
