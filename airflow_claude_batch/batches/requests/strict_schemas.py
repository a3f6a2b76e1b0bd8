"""Schemas that requests bring along themselves, which are sent as they are.

They are in ``output_config.format`` and in tools with ``strict: true``. What the API does not take is refused
here. It compiles all schemas of a request into one grammar, so its limits hold for their sum; that includes
the one of ``output_schema``. Sources: as in ``schema_language``, and "Strict tools per request" there.
"""

from __future__ import annotations

import graphlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.requests.schema_language import (
    FORMATS,
    MOST_OPTIONAL,
    MOST_UNIONS,
    NO_MAPS,
    TYPES,
    map_values,
    resolve,
)

MOST_STRICT_TOOLS = 20
"""Tools with ``strict: true`` in a request."""
MOST_KNOWN = 1_000
"""Different sets of schemas whose verdict is remembered."""

_SPOKEN = {"title", "description", "default", "examples"}
_NAMES = {"$schema", "$id", "$ref", "$defs", "definitions"}
_COMMON = _SPOKEN | _NAMES | {"type", "enum", "const", "anyOf", "allOf"}
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
}
_SHAPES: dict[str, type | tuple[type, ...]] = {
    "properties": Mapping,
    "$defs": Mapping,
    "definitions": Mapping,
    "required": (list, tuple),
    "enum": (list, tuple),
    "anyOf": (list, tuple),
    "allOf": (list, tuple),
    "pattern": str,
    "format": str,
}
_REFUSED_PATTERN = re.compile(r"\(\?<?[=!]|\(\?P=|(?<!\\)(?:\\\\)*\\[bB1-9]")
_AS_OUTPUT_SCHEMA = "leave it out, or give the schema as output_schema, which says it in a description"

_encode = msgspec.json.Encoder().encode


class Problem(NamedTuple):
    """What is wrong with the parameters of a request."""

    where: str
    """Path among the parameters."""
    found: str
    rule: str

    def within(self, where: str) -> Problem:
        """The same, in a part that is somewhere among the parameters."""
        return self._replace(where=where + self.where)

    def of_defaults(self) -> ConfigurationError:
        """As a fault of what all requests have."""
        return ConfigurationError(
            f"Nothing was sent. The parameters of all requests (message_params): {self.where} = "
            f"{self.found}: {self.rule}"
        )

    def of_record(self, index: int) -> InputError:
        """As a fault of the record at a position in the input."""
        return InputError([Fault(index=index, where=self.where, value=self.found, rule=self.rule)])


class StrictSchemas:
    """Checks the schemas of requests; those of all requests, or seen already, cost little."""

    def __init__(self) -> None:
        self._own: tuple[Any, Any] = (None, None)
        """The defaults' own, which nobody changes meanwhile as they may those of records."""
        self._known: dict[bytes, Problem | None] = {}

    def check_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Refuse what the API would in the parameters of all requests.

        Raises:
            ConfigurationError: Naming the place and the limit.
        """
        if (problem := self._problem(defaults)) is not None:
            raise problem.of_defaults()
        self._own = (defaults.get("output_config"), defaults.get("tools"))

    def check(self, params: Mapping[str, Any], index: int) -> None:
        """Refuse what the API would in one request.

        Args:
            params: The body of a Messages API call.
            index: The record's position in the input, for messages.

        Raises:
            InputError: Naming the place and the limit.
        """
        if (problem := self._problem(params)) is not None:
            raise problem.of_record(index)

    def _problem(self, params: Mapping[str, Any]) -> Problem | None:
        if params.get("output_format") is not None:
            rule = 'the API takes it as output_config={"format": …}'
            return Problem("output_format", "a schema of its own", rule)
        config, tools = params.get("output_config"), params.get("tools")
        if config is self._own[0] and tools is self._own[1]:
            return None
        format_ = config.get("format") if isinstance(config, Mapping) else None
        strict = list(_strict_tools(tools))
        key = b""
        if format_ is not None or strict:
            try:
                key = hashlib.blake2b(_encode([format_, strict]), digest_size=16).digest()
            except UnicodeEncodeError:  # half a surrogate pair, which no request can hold
                return None
            if key not in self._known:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[key] = _problem_of(format_, strict)
        return self._known.get(key)


def asks_for_shape(params: Mapping[str, Any]) -> bool:
    """Whether a request has a schema that the API compiles."""
    config = params.get("output_config")
    has_format = isinstance(config, Mapping) and config.get("format") is not None
    return has_format or next(_strict_tools(params.get("tools")), None) is not None


def _strict_tools(tools: Any) -> Iterator[tuple[int, Any]]:
    """Tools with ``strict: true``, each with its place."""
    for number, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        if isinstance(tool, Mapping) and tool.get("strict") is True:
            yield number, tool


def _problem_of(format_: Any, strict: list[tuple[int, Any]]) -> Problem | None:
    schemas = [
        (f"tools[{number}].input_schema", tool["input_schema"])
        for number, tool in strict
        if "input_schema" in tool
    ]
    if format_ is not None:
        where = "output_config.format"
        schema = format_.get("schema") if isinstance(format_, Mapping) else None
        if not isinstance(schema, Mapping) or format_.get("type") != "json_schema":
            return Problem(where, "another format", 'it is {"type": "json_schema", "schema": {…}}')
        schemas.insert(0, (f"{where}.schema", schema))
    parts = [(part, path, root) for where, root in schemas for part, path in _walk(root, where)]
    for part, path, root in parts:
        if (fault := _fault_of(part, root)) is not None:
            return Problem(path, *fault)
    for where, root in schemas:
        if (chain := _circle(root)) is not None:
            rule = "the API takes no recursive schemas: write out its levels"
            return Problem(where, f"a schema that contains itself ({chain})", rule)
    where = " + ".join(where for where, _ in schemas[:3]) + (" + …" if schemas[3:] else "")
    return _too_many([part for part, _, _ in parts], where, len(strict))


def _too_many(parts: list[Mapping[str, Any]], where: str, tools: int) -> Problem | None:
    """Which of the API's counts is exceeded, over all schemas of a request."""
    optional = sum(
        name not in (part.get("required") or ()) for part in parts for name in part.get("properties") or ()
    )
    unions = sum(isinstance(part.get("type"), list) or len(part.get("anyOf") or ()) > 1 for part in parts)
    for count, limit, what, way_out in (
        (tools, MOST_STRICT_TOOLS, "strict tools", "leave out strict where you can do without"),
        (optional, MOST_OPTIONAL, "optional fields", "make some required"),
        (unions, MOST_UNIONS, "fields of several types (or null)", "give some a single type"),
    ):
        if count > limit:
            rule = f"the API takes {limit} in all strict schemas of a request; {way_out}"
            return Problem(where or "tools", f"{count} {what}", rule)
    return None


def _walk(schema: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Every schema in a schema with its path, itself first."""
    yield schema, path
    if not isinstance(schema, Mapping):
        return
    for key in ("properties", "$defs", "definitions"):
        parts = schema.get(key)
        for name, part in parts.items() if isinstance(parts, Mapping) else ():
            yield from _walk(part, f"{path}.{name}" if key == "properties" else f"{path}.{key}.{name}")
    for key in ("anyOf", "allOf"):
        parts = schema.get(key)
        for number, part in enumerate(parts if isinstance(parts, (list, tuple)) else ()):
            yield from _walk(part, f"{path}.{key}[{number}]")
    if "items" in schema:
        yield from _walk(schema["items"], f"{path}[]")


def _fault_of(schema: Any, root: Any) -> tuple[str, str] | None:
    """What was found in a schema, its parts aside, and the rule that it breaks."""
    if not isinstance(schema, Mapping) or not schema.keys() - _SPOKEN:
        return "any value", "say which type is wanted"
    for key, kind in _SHAPES.items():
        if key in schema and not isinstance(schema[key], kind):
            return f"{key} of the wrong kind", "this is no JSON Schema"
    if "$ref" in schema:
        if resolve(root, schema["$ref"]) is None:
            return "a reference that leads nowhere in this schema", "put the definition in $defs"
        return None
    if any(isinstance(part, Mapping) and "$ref" in part for part in schema.get("allOf", ())):
        return "allOf with a reference", "the API takes none; write the fields of all parts into one object"
    if map_values(schema) is not None:
        return "an object with any keys (a map)", NO_MAPS
    kinds = schema["type"] if isinstance(schema.get("type"), (list, tuple)) else [schema.get("type")]
    return _fault_of_keywords(schema, kinds) or _fault_of_values(schema, kinds)


def _fault_of_keywords(schema: Mapping[str, Any], kinds: Any) -> tuple[str, str] | None:
    if any(not (kind is None or (isinstance(kind, str) and kind in TYPES)) for kind in kinds):
        return "an unknown type", f"a type is one of {', '.join(sorted(TYPES))}"
    allowed = _COMMON.union(*(_OF_TYPE.get(kind, ()) for kind in kinds))
    if unknown := sorted(schema.keys() - allowed):
        if "oneOf" in unknown:
            return "oneOf", "the API takes anyOf"
        if kinds == [None] and {"properties", "items"} & set(unknown):
            return "no type", "say which type is wanted"
        of_type = f" for the type {', '.join(kinds)}" if kinds != [None] else ""
        return ", ".join(unknown), f"the API does not take that{of_type}; {_AS_OUTPUT_SCHEMA}"
    if kinds == [None] and not schema.keys() & {"enum", "const", "anyOf", "allOf"}:
        return "any value", "say which type is wanted"
    return None


def _fault_of_values(schema: Mapping[str, Any], kinds: Any) -> tuple[str, str] | None:
    if "object" in kinds and schema.get("additionalProperties") is not False:
        return "an object without additionalProperties: false", "the API wants that on every object"
    if any(isinstance(value, (Mapping, list, tuple)) for value in schema.get("enum", ())):
        return "an enum of objects or lists", "it holds texts, numbers, true, false or null only"
    if [] in (schema.get("enum"), schema.get("anyOf"), schema.get("allOf")):
        return "a choice of nothing", "no answer keeps to it"
    if schema.get("minItems", 0) not in (0, 1):
        return "minItems", f"the API takes 0 and 1; {_AS_OUTPUT_SCHEMA}"
    if schema.get("format", "date") not in FORMATS:
        return "an unknown format", f"the API knows {', '.join(sorted(FORMATS))}; {_AS_OUTPUT_SCHEMA}"
    if _REFUSED_PATTERN.search(schema.get("pattern", "")):
        return (
            "pattern",
            f"the API takes no look-around, back references and word boundaries; {_AS_OUTPUT_SCHEMA}",
        )
    return None


def _circle(root: Any) -> str | None:
    """The references of a definition that contains itself, or None."""
    leads_to: dict[str, list[str]] = {}
    waiting = _references(root)
    while waiting:
        reference = waiting.pop()
        if reference not in leads_to:
            leads_to[reference] = _references(resolve(root, reference))
            waiting += leads_to[reference]
    try:
        graphlib.TopologicalSorter(leads_to).prepare()
    except graphlib.CycleError as error:
        return " → ".join(reversed(error.args[1]))
    return None


def _references(schema: Any) -> list[str]:
    return [part["$ref"] for part, _ in _walk(schema, "") if isinstance(part, Mapping) and "$ref" in part]
