"""A JSON Schema in the part of the language that the API compiles, or the reason why there is none.

The rules are those of https://platform.claude.com/docs/en/build-with-claude/structured-outputs, sections
"JSON Schema limitations" (below: limitations) and "Schema complexity limits" (below: complexity), as of
November 2026. What the API does not take and a description can say (bounds, lengths, unknown formats) goes
into the description; it is checked on the answer. The SDK's ``transform_schema`` is not used: it fails on
lists of types, and asks for an empty object where a map is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError

MOST_OPTIONAL = 24
"""Fields that are not required, in the whole schema (source: complexity)."""
MOST_UNIONS = 16
"""Fields of more than one type, in the whole schema (source: complexity)."""
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
"""Formats of text that the API knows (source: limitations)."""

TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean", "null"))
UUID_VERSIONS = frozenset(f"uuid{number}" for number in range(1, 9))
"""Pydantic's formats of a UUID of one version; asked for as any, with the version in the description."""
_UNSAFE_PATTERN = re.compile(r"\(\?(?!:)|\\[bBAZ1-9]|\{\d*,?\d{4,}\}")
"""Look-around, back references, word boundaries, large repetitions (source: limitations, patterns)."""
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]")
"""What would have to be escaped in a reference."""
_ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
_NO_CONSTRAINT = _ANNOTATIONS | {
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "discriminator",
    "decimalPlaces",
}
NO_MAPS = (
    "an object with any keys (a map); the API takes named fields only. Name its fields; or ask for a list of "
    'entries with a key and a value, which Schema(..., maps="entries") does by itself and turns back'
)


class UnsupportedSchemaError(ConfigurationError):
    """A schema that the API does not take; the message names the place in it."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"output_schema{path}: {rule}")


def translate(schema: Mapping[str, Any], *, entries: bool = False) -> dict[str, Any]:
    """The schema that the API is asked for.

    Args:
        schema: Any JSON Schema.
        entries: Whether maps become lists of entries.

    Raises:
        UnsupportedSchemaError: Naming the place and the limit.
    """
    return _Translator(schema, entries=entries).result()


def resolve(root: Mapping[str, Any], reference: Any) -> Any:
    """What a local reference points to; None where nothing is there."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    target: Any = root
    for name in reference[2:].split("/") if reference != "#" else ():
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and name.isdigit() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, Mapping) and name in target:
            target = target[name]
        else:
            return None
    return target


def map_values(schema: Any) -> Any:
    """The schema of a map's values; None for what is no map, ``{}`` for values of any kind."""
    if not isinstance(schema, Mapping):
        return None
    patterns = schema.get("patternProperties")
    if isinstance(patterns, Mapping) and patterns:
        values = list(patterns.values())
        return values[0] if all(value == values[0] for value in values) else {}
    additional = schema.get("additionalProperties")
    if isinstance(additional, Mapping):
        return additional
    is_open = additional is True or (additional is None and "properties" not in schema)
    return {} if schema.get("type") == "object" and not schema.get("properties") and is_open else None


class _Translator:
    def __init__(self, root: Mapping[str, Any], *, entries: bool) -> None:
        self._root = root
        self._entries = entries
        self._names: dict[str, str] = {}
        self._done: dict[str, Any] = {}
        self._open: list[str] = []
        self._optional = 0
        self._unions = 0

    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.of(self._root, "")
        if self._done:
            result = {**result, "$defs": self._done}
        if self._optional > MOST_OPTIONAL:
            raise UnsupportedSchemaError(
                "", f"{self._optional} optional fields; the API takes {MOST_OPTIONAL}. Make some required"
            )
        if self._unions > MOST_UNIONS:
            raise UnsupportedSchemaError(
                "",
                f"{self._unions} fields of several types (or null); the API takes {MOST_UNIONS} in a schema",
            )
        return result

    def of(self, schema: Any, path: str) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError(path, "any value is allowed here; say which type is wanted")
        if "$ref" in schema:
            reference = self._reference(schema["$ref"], path)
            # Beside a reference the API takes nothing.
            described = _described({"anyOf": [reference]}, schema, frozenset(("$ref",)))
            return described if "description" in described else reference
        if "allOf" in schema:
            return self.of(self._merged(schema, path), path)
        for union in ("anyOf", "oneOf"):
            if isinstance(schema.get(union), list):
                return self._union(schema, union, path)
        if "not" in schema or "if" in schema:
            raise UnsupportedSchemaError(path, "the API knows no 'not' and no 'if'")
        if "enum" in schema or "const" in schema:
            return self._values(schema, path)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._types(schema, kind, path)
        return self._typed(schema, self._kind(schema, path), path)

    def _kind(self, schema: Mapping[str, Any], path: str) -> str:
        kind = schema.get("type")
        if kind is None:
            known = {"properties": "object", "patternProperties": "object", "items": "array"}
            kind = next((type_ for key, type_ in known.items() if key in schema), None)
        if kind not in TYPES:
            raise UnsupportedSchemaError(path, "any value is allowed here; say which type is wanted")
        return str(kind)

    def _reference(self, reference: Any, path: str) -> dict[str, Any]:
        target = resolve(self._root, reference)
        if target is None:
            what = "leads nowhere" if str(reference).startswith("#") else "leads out of the schema"
            raise UnsupportedSchemaError(
                path, f"the reference {reference!r} {what}; put the definition in $defs"
            )
        if reference == "#" or reference in self._open:
            chain = " → ".join([*self._open, reference])
            raise UnsupportedSchemaError(
                path,
                f"it contains itself ({chain}); the API takes no recursive schemas: write out its levels",
            )
        if reference not in self._names:
            name = _NO_NAME.sub("_", reference.rsplit("/", 1)[1])
            taken = set(self._names.values())
            self._names[reference] = name if name not in taken else f"{name}_{len(taken)}"
            self._open.append(reference)
            self._done[self._names[reference]] = self.of(target, path)
            self._open.pop()
        return {"$ref": f"#/$defs/{self._names[reference]}"}

    def _merged(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        """``allOf`` of one schema, or of several that do not contradict each other, as one."""
        parts = schema["allOf"]
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
            raise UnsupportedSchemaError(path, "allOf is a list of schemas")
        if len(parts) == 1 and not rest.keys() - _NO_CONSTRAINT:
            return {**rest, **parts[0]}
        merged: dict[str, Any] = rest
        for part in parts:
            if "$ref" in part or any(merged.get(key, value) != value for key, value in part.items()):
                raise UnsupportedSchemaError(
                    path,
                    "the API takes no allOf with references; write the fields of all parts into one object",
                )
            merged = {**merged, **part}
        return merged

    def _union(self, schema: Mapping[str, Any], union: str, path: str) -> dict[str, Any]:
        outer = {key: schema[key] for key in ("type",) if key in schema}
        if {"properties", "items", "enum", "const"} & schema.keys():
            raise UnsupportedSchemaError(
                path, f"{union} beside other fields; write each alternative out whole"
            )
        variants = [
            self.of({**outer, **one} if isinstance(one, Mapping) else one, f"{path}.{union}[{number}]")
            for number, one in enumerate(schema[union])
        ]
        return _described({"anyOf": variants}, schema, self._several(variants))

    def _several(self, variants: list[Any]) -> frozenset[str]:
        self._unions += len(variants) > 1
        return frozenset(("anyOf", "oneOf", "type", "$ref"))

    def _types(self, schema: Mapping[str, Any], kinds: list[Any], path: str) -> dict[str, Any]:
        rest = {key: value for key, value in schema.items() if key not in ("type", *_NO_CONSTRAINT)}
        variants = []
        for kind in kinds:
            keywords = rest if kind != "null" else {}
            variants.append(self.of({"type": kind, **keywords}, path))
        if len(variants) == 1:
            return variants[0]
        return _described({"anyOf": variants}, schema, self._several(variants) | rest.keys())

    def _values(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        keyword = "const" if "const" in schema else "enum"
        values = [schema["const"]] if keyword == "const" else schema["enum"]
        plain = isinstance(values, list) and all(
            value is None or isinstance(value, (str, int, float)) for value in values
        )
        if not plain or not values:
            raise UnsupportedSchemaError(path, f"{keyword} holds texts, numbers, true, false or null only")
        return _described({keyword: schema[keyword]}, schema, frozenset((keyword, "type", "format")))

    def _typed(self, schema: Mapping[str, Any], kind: str, path: str) -> dict[str, Any]:
        if kind == "object":
            return self._object(schema, path)
        if kind == "array":
            return self._array(schema, path)
        result: dict[str, Any] = {"type": kind}
        said = {"type"} | ({"format"} if schema.get("format") == "decimal" else set())
        if kind == "string":
            if schema.get("format") in FORMATS:
                result["format"] = schema["format"]
                said.add("format")
            elif schema.get("format") in UUID_VERSIONS:
                result["format"] = "uuid"
            pattern = schema.get("pattern")
            if isinstance(pattern, str) and "format" not in result and not _UNSAFE_PATTERN.search(pattern):
                result["pattern"] = pattern
                said.add("pattern")
        return _described(result, schema, frozenset(said))

    def _object(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        values = map_values(schema)
        if values is not None:
            return self._map(schema, values, path)
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        if absent := [name for name in required if name not in properties]:
            raise UnsupportedSchemaError(
                path, f"required names {absent[0]!r}, which is not among its properties"
            )
        self._optional += len(properties) - len(set(required))
        result = {
            "type": "object",
            "properties": {name: self.of(own, f"{path}.{name}") for name, own in properties.items()},
            "required": list(dict.fromkeys(required)),
            "additionalProperties": False,
        }
        return _described(result, schema, frozenset(result))

    def _map(self, schema: Mapping[str, Any], values: Any, path: str) -> dict[str, Any]:
        if not self._entries:
            raise UnsupportedSchemaError(path, NO_MAPS)
        if schema.get("properties"):
            raise UnsupportedSchemaError(
                path, "named fields and others in one object; put the map into a field"
            )
        key, said = self._key(schema.get("propertyNames"), path)
        entry = {
            "type": "object",
            "properties": {"key": key, "value": self.of(values, f"{path}.*")},
            "required": ["key", "value"],
            "additionalProperties": False,
        }
        hidden = frozenset(("type", "additionalProperties", "patternProperties", "properties", *said))
        return _described({"type": "array", "items": entry}, schema, hidden)

    def _key(self, names: Any, path: str) -> tuple[dict[str, Any], Sequence[str]]:
        """The schema of a map's keys, and what it says: those that are no texts are only described."""
        target = names
        if isinstance(names, Mapping) and "$ref" in names:
            target = resolve(self._root, names["$ref"])
        if not isinstance(target, Mapping) or target.get("type", "string") != "string":
            return {"type": "string"}, ()
        if not all(isinstance(value, str) for value in target.get("enum", ())):
            return {"type": "string"}, ()
        key = self.of(names if names is not target else {"type": "string", **names}, path)
        return key, ("propertyNames",)

    def _array(self, schema: Mapping[str, Any], path: str) -> dict[str, Any]:
        items, said = schema.get("items"), {"type", "items", "prefixItems"}
        places = schema.get("prefixItems")
        if isinstance(places, list) and places:
            if any(place != places[0] for place in places) or (items and items != places[0]):
                raise UnsupportedSchemaError(
                    path, "a list with a type for each place (a tuple); the API takes none: name the fields"
                )
            items = places[0]
        if items is None:
            raise UnsupportedSchemaError(path, "a list of anything; say which type its items are")
        result: dict[str, Any] = {"type": "array", "items": self.of(items, f"{path}[]")}
        if schema.get("minItems") in (0, 1):
            result["minItems"] = schema["minItems"]
            said.add("minItems")
        return _described(result, schema, frozenset(said))


def _described(
    result: dict[str, Any], schema: Mapping[str, Any], said: frozenset[str] | set[str]
) -> dict[str, Any]:
    """With its title and description; constraints that are not said otherwise are said there."""
    if isinstance(schema.get("title"), str):
        result["title"] = schema["title"]
    unsaid = {key: schema[key] for key in schema if key not in said and key not in _NO_CONSTRAINT}
    texts = [schema["description"]] if isinstance(schema.get("description"), str) else []
    if unsaid:
        texts.append("{" + ", ".join(f"{key}: {value}" for key, value in unsaid.items()) + "}")
    if texts:
        result["description"] = "\n\n".join(texts)
    return result
