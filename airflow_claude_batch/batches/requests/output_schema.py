"""Structured output: what the API is asked for, and whether an answer keeps to it.

The API takes a part of JSON Schema (see ``schema_language``), without bounds such as ``minimum`` or
``maxLength``; so answers are checked here against the schema as the user wrote it. Of a pydantic
model a later task knows the JSON Schema only: formats of dates, times and UUIDs are checked there, too, its
own validators are not.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.schema_language import (
    UUID_VERSIONS,
    UnsupportedSchemaError,
    translate,
)
from airflow_claude_batch.batches.requests.schema_maps import RepeatedKeyError, turn_back

SHOWN_CHARACTERS = 200
MAPS = "x-claude-batch-maps"
"""Key of a recorded JSON Schema whose maps are asked for as lists of entries."""
LOCAL_DATE_TIME = "local-date-time"
"""Format of a date with a time and no zone, which the API does not know."""
_WITHOUT_ZONE = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Schema:
    """An output schema with a choice about it.

    Args:
        schema: A pydantic model or a JSON Schema (dict).
        maps: What becomes of objects with any keys, which the API does not take: ``"refuse"``, or
            ``"entries"``: they are asked for as lists of ``{"key": …, "value": …}`` and turned back.
    """

    schema: Any
    maps: Literal["refuse", "entries"] = "refuse"

    def __post_init__(self) -> None:
        if self.maps not in ("refuse", "entries"):
            raise ValueError(f"maps = {self.maps!r}: it is 'refuse' or 'entries'")


@dataclass(kw_only=True)
class OutputSchema:
    """The shape of answers that a user wants."""

    json_schema: dict[str, Any]
    """JSON Schema (draft 2020-12), bounds included."""
    model: Any = None
    """The pydantic model that it came from, whose own validators then count too."""
    entries: bool = False
    """Whether maps are asked for as lists of entries, and turned back."""
    _validator: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Any) -> OutputSchema:
        """From a pydantic model class, a JSON Schema, or a ``Schema`` of either.

        Raises:
            ConfigurationError: for anything else, or a schema that is not valid.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Schema):
            return cls._with_maps(given)
        if isinstance(given, type) and hasattr(given, "model_json_schema"):
            import pydantic

            if given is pydantic.BaseModel:
                raise ConfigurationError("output_schema is BaseModel itself; give a subclass with fields.")
            return cls(json_schema=_schema_of_model(given), model=given)
        if not isinstance(given, dict):
            raise ConfigurationError(
                f"output_schema is a {type(given).__name__}; give a pydantic model or a JSON Schema (dict)."
            )
        import jsonschema  # type: ignore[import-untyped]

        try:
            jsonschema.Draft202012Validator.check_schema(given)
        except jsonschema.SchemaError as error:
            where = ".".join(map(str, error.absolute_path)) or "its root"
            raise ConfigurationError(
                f"output_schema is not a valid JSON Schema, at {where}: {_shorten(error.message)}"
            ) from error
        except RecursionError:
            rule = "its levels are more than can be followed; flatten it, or put parts of it into $defs"
            raise UnsupportedSchemaError("", rule) from None
        return cls(json_schema=given, entries=given.get(MAPS) == "entries")

    @classmethod
    def _with_maps(cls, given: Schema) -> OutputSchema:
        schema = cls.of(given.schema)
        if given.maps == "entries":
            # The results step may be another task, which knows the recorded JSON Schema only.
            schema = replace(schema, json_schema={**schema.json_schema, MAPS: "entries"}, entries=True)
        return schema

    def output_config(self) -> dict[str, Any]:
        """The Messages API parameter ``output_config`` that asks for this shape.

        Raises:
            UnsupportedSchemaError: For a schema that the API does not take.
        """
        asked = {key: value for key, value in self.json_schema.items() if key != MAPS}
        schema = translate(asked, entries=self.entries)
        return {"format": {"type": "json_schema", "schema": schema}}

    def parse(self, text: str) -> tuple[Any, str | None]:
        """An answer's value, and what is wrong with it (None when nothing is)."""
        try:
            value = _decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return None, f"the answer is not JSON: {error}"
        if self.entries:
            try:
                value = turn_back(value, self.json_schema, self.json_schema, self._fits)
            except RepeatedKeyError as error:
                return None, str(error)
            text = _encode(value).decode()
        fault = (self._fault_of_model(text) if self.model is not None else None) or self._fault(value)
        return (None, fault) if fault else (value, None)

    def _fault_of_model(self, text: str) -> str | None:
        import pydantic

        try:
            self.model.model_validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return _shorten(f"{_path(first['loc'])}: {first['msg']}")
        return None

    def _fits(self, value: Any, schema: Any) -> bool:
        return bool(self._validating().evolve(schema=schema).is_valid(value))

    def _fault(self, value: Any) -> str | None:
        error = next(iter(self._validating().iter_errors(value)), None)
        return None if error is None else _shorten(f"{_path(error.absolute_path)}: {error.message}")

    def _validating(self) -> Any:
        if self._validator is None:
            import jsonschema

            formats = jsonschema.FormatChecker(formats=())
            for name, parse in _FORMATS.items():
                formats.checks(name, raises=ValueError)(_checks(parse))
            validating = jsonschema.validators.extend(
                jsonschema.Draft202012Validator, {"multipleOf": _multiple_of}
            )
            self._validator = validating(self.json_schema, format_checker=formats)
        return self._validator


_FORMATS: dict[str, Callable[[str], Any]] = {
    "date": datetime.date.fromisoformat,
    "date-time": datetime.datetime.fromisoformat,
    "time": datetime.time.fromisoformat,
    LOCAL_DATE_TIME: datetime.datetime.fromisoformat,
    **dict.fromkeys(("uuid", *UUID_VERSIONS), uuid.UUID),
}


def _multiple_of(validator: Any, unit: Any, value: Any, schema: Any) -> Iterator[Any]:
    """In decimals: 12.3 is a multiple of 0.01, which it is not in binary fractions."""
    import jsonschema

    if validator.is_type(value, "number"):
        with contextlib.suppress(decimal.InvalidOperation):  # a number of more digits than can be told
            if decimal.Decimal(str(value)) % decimal.Decimal(str(unit)):
                yield jsonschema.ValidationError(f"{value!r} is not a multiple of {unit}")


def _checks(parse: Callable[[str], Any]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if isinstance(value, str):
            parse(value)
        return True

    return check


def _schema_of_model(model: Any) -> dict[str, Any]:
    """The model's JSON Schema, which says more than pydantic's own.

    Decimals are numbers, there a number or any text; times without a zone are told from those with one.
    """
    from pydantic.errors import PydanticUserError
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            bounds = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
            asked = {word: float(schema[name]) for name, word in bounds.items() if name in schema}
            places, digits = schema.get("decimal_places"), schema.get("max_digits")
            if places is not None:
                asked |= {"decimalPlaces": places, "multipleOf": float(f"1e-{places}")}
            if schema.get("multiple_of") is not None:
                asked["multipleOf"] = float(schema["multiple_of"])
            if digits is not None:
                bound = float(f"1e{digits - (places or 0)}")
                if not {"maximum", "exclusiveMaximum"} & asked.keys():
                    asked["exclusiveMaximum"] = bound
                if not {"minimum", "exclusiveMinimum"} & asked.keys():
                    asked["exclusiveMinimum"] = -bound
            return {"type": "number", "format": "decimal", **asked}

        def datetime_schema(self, schema: Any) -> dict[str, Any]:
            if schema.get("tz_constraint") == "naive":
                return {"type": "string", "format": LOCAL_DATE_TIME, "pattern": _WITHOUT_ZONE}
            found: dict[str, Any] = super().datetime_schema(schema)
            return found

    try:
        schema: dict[str, Any] = model.model_json_schema(schema_generator=Generator)
    except PydanticUserError as error:
        raise ConfigurationError(
            f"output_schema: {model.__name__} has a field that is no JSON ({error.code})."
        ) from error
    return schema


def _path(parts: Any) -> str:
    return ".".join(map(str, parts)) or "the answer"


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
