"""Which schemas of a request the API compiles, in its words where they are known.

They are those of ``output_config.format`` and of tools with ``strict``; counts are over all of them.

Sources: https://platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations"
and "Schema complexity limits" (as of November 2026), and error messages that users report.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import msgspec

_MAX_OPTIONAL = 24  # "Optional parameters"
_MAX_UNIONS = 16  # "Parameters with union types"
_MAX_STRICT_TOOLS = 20  # "Strict tools per request"
_FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
)
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_COMMON = {"type", "title", "description", "default", "enum", "const", "anyOf", "allOf", "$ref"}
_COMMON |= {"$defs", "definitions", "$schema", "$id", "examples"}
_OWN = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
}
_BAD_PATTERN = re.compile(r"\(\?[=!<]|\\[bB1-9]")


class _RefusedError(Exception):
    """A schema that is a 400; the message is the API's."""


@functools.lru_cache(maxsize=512)
def refusal(schema: bytes) -> str | None:
    """Why the API does not compile a schema (its JSON), or ``None``."""
    try:
        _check_schema(msgspec.json.decode(schema))
    except _RefusedError as error:
        return str(error)
    except (AttributeError, LookupError, TypeError, RecursionError) as error:
        return f"the schema is not valid: {error!r}"
    return None


@functools.lru_cache(maxsize=512)
def excess(schemas: tuple[bytes, ...], strict_tools: int) -> str | None:
    """Which count of a request is above its limit, or ``None``; each schema is one that ``refusal`` takes."""
    if strict_tools > _MAX_STRICT_TOOLS:
        return f"Too many strict tools ({strict_tools}), the limit is {_MAX_STRICT_TOOLS}."
    try:
        _check_counts([schema for root in schemas for schema in _walk(msgspec.json.decode(root))])
    except _RefusedError as error:
        return str(error)
    return None


def _check_schema(root: dict[str, Any]) -> None:
    for schema in _walk(root):
        _check(schema, root)
    _check_circles(root)


def _check_counts(schemas: list[dict[str, Any]]) -> None:
    optional = sum(
        name not in schema.get("required", ()) for schema in schemas for name in schema.get("properties", ())
    )
    if optional > _MAX_OPTIONAL:
        raise _RefusedError(
            f"Schemas contains too many optional parameters ({optional}), which would make grammar"
            f" compilation inefficient. Reduce the number of optional parameters (limit: {_MAX_OPTIONAL})."
        )
    unions = sum(
        len(schema.get("anyOf", ())) > 1 or isinstance(schema.get("type"), list) for schema in schemas
    )
    if unions > _MAX_UNIONS:
        raise _RefusedError(
            f"Schemas contains too many parameters with union types ({unions} parameters with type arrays or"
            f" anyOf). Reduce the number of nullable or union-typed parameters (limit: {_MAX_UNIONS})."
        )


def _walk(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema in a schema, itself first."""
    if not isinstance(schema, dict):
        raise _RefusedError("a schema is an object")
    yield schema
    for key in ("properties", "$defs", "definitions"):
        for part in (schema.get(key) or {}).values():
            yield from _walk(part)
    for key in ("anyOf", "allOf"):
        for part in schema.get(key) or ():
            yield from _walk(part)
    if "items" in schema:
        yield from _walk(schema["items"])


def _check(schema: dict[str, Any], root: dict[str, Any]) -> None:
    reference = schema.get("$ref")
    if reference is not None:
        if not str(reference).startswith("#"):
            raise _RefusedError(f"External references are not supported: {reference}")
        _target(root, reference)
        return
    if any("$ref" in part for part in schema.get("allOf", ())):
        raise _RefusedError("allOf with $ref is not supported")
    if any(key in schema and not schema[key] for key in ("enum", "anyOf", "allOf")):
        raise _RefusedError("enum, anyOf and allOf have at least 1 item")
    if any(isinstance(value, (dict, list)) for value in schema.get("enum", ())):
        raise _RefusedError("Complex types in enums are not supported")
    if not schema.keys() & {"type", "enum", "const", "anyOf", "allOf"}:
        raise _RefusedError("a schema needs a type, an enum, a const, anyOf or allOf")
    _check_keywords(schema)


def _check_keywords(schema: dict[str, Any]) -> None:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if bad := [one for one in kinds if one not in (None, *_TYPES)]:
        raise _RefusedError(f"Schema type '{bad[0]}' is not supported")
    allowed = _COMMON.union(*(_OWN.get(str(one), set()) for one in kinds))
    if unknown := sorted(schema.keys() - allowed):
        raise _RefusedError(f"For '{kind}' type, properties {', '.join(unknown)} are not supported")
    if "object" in kinds and schema.get("additionalProperties") is not False:
        raise _RefusedError("For 'object' type, 'additionalProperties' must be explicitly set to false")
    if schema.get("minItems", 0) not in (0, 1):
        raise _RefusedError("For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if schema.get("format", "date") not in _FORMATS:
        raise _RefusedError(f"String format '{schema['format']}' is not supported")
    if _BAD_PATTERN.search(schema.get("pattern", "")):
        raise _RefusedError("Pattern has lookaround, back references or word boundaries")


def _target(root: dict[str, Any], reference: str) -> Any:
    target: Any = root
    for step in reference.lstrip("#/").split("/"):
        if step:
            target = target[step.replace("~1", "/").replace("~0", "~")]
    return target


def _check_circles(root: dict[str, Any]) -> None:
    done: set[str] = set()

    def follow(reference: str, chain: tuple[str, ...]) -> None:
        if reference in chain or reference == "#":
            names = " -> ".join(one.rsplit("/", 1)[-1] for one in (*chain, reference))
            raise _RefusedError(
                f"Circular reference detected in schema definitions: {names}. Self-referencing or"
                " mutually-referencing definitions are not supported."
            )
        if reference not in done:
            for schema in _walk(_target(root, reference)):
                if "$ref" in schema:
                    follow(schema["$ref"], (*chain, reference))
            done.add(reference)

    for schema in _walk(root):
        if "$ref" in schema:
            follow(schema["$ref"], ())
