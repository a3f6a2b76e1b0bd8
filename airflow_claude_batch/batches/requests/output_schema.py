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
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.errors import CheckError, ConfigurationError
from airflow_claude_batch.batches.requests.model_schema import LOCAL_DATE_TIME, schema_of_model
from airflow_claude_batch.batches.requests.schema_language import (
    UUID_VERSIONS,
    UnsupportedSchemaError,
    translate,
)
from airflow_claude_batch.batches.requests.schema_maps import RepeatedKeyError, turn_back

SHOWN_CHARACTERS = 200
MAPS = "x-claude-batch-maps"
"""Key of a recorded JSON Schema whose maps are asked for as lists of entries."""
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
            ConfigurationError: For anything else, or a schema that is not valid.
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, Schema):
            return cls._with_maps(given)
        if isinstance(given, type) and hasattr(given, "model_json_schema"):
            import pydantic

            if given is pydantic.BaseModel:
                raise ConfigurationError("output_schema is BaseModel itself; give a subclass with fields.")
            schema = schema_of_model(given)
            _check(_decode(_encode(schema)))  # as a later task finds it recorded
            return cls(json_schema=schema, model=given)
        if not isinstance(given, dict):
            raise ConfigurationError(
                f"output_schema is a {type(given).__name__}; give a pydantic model or a JSON Schema (dict)."
            )
        _check(given)
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

    def parse(self, text: str, custom_id: str = "") -> tuple[Any, str | None]:
        """An answer's value, and what is wrong with it (None when nothing is).

        Args:
            text: The answer.
            custom_id: Whose it is.

        Raises:
            CheckError: When a validator of the model fails itself.
        """
        try:
            return self._parse(text, custom_id)
        except RecursionError:
            return None, "the answer has more levels than can be followed"

    def _parse(self, text: str, custom_id: str) -> tuple[Any, str | None]:
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
        fault = self._fault_of_model(text, custom_id) if self.model is not None else None
        fault = fault or self._fault(value)
        return (None, fault) if fault else (value, None)

    def _fault_of_model(self, text: str, custom_id: str) -> str | None:
        import pydantic

        try:
            self.model.model_validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return shorten(f"{_path(first['loc'])}: {first['msg']}")
        except Exception as error:  # noqa: BLE001  # of the user's own code
            # Neither its text nor its traceback, which may quote the answer.
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise CheckError(
                f"A validator of {self.model.__name__} raised {type(error).__name__} for the answer of "
                f"{custom_id} ({place.filename}, line {place.lineno}). Let it raise ValueError where an "
                "answer is wrong, and clear the task: the answers are not lost, and nothing is sent again."
            ) from None
        return None

    def _fits(self, value: Any, schema: Any) -> bool:
        return bool(self._validating().evolve(schema=schema).is_valid(value))

    def _fault(self, value: Any) -> str | None:
        from referencing.exceptions import Unresolvable

        try:
            error = next(iter(self._validating().iter_errors(value)), None)
        except Unresolvable:
            raise ConfigurationError(
                "output_schema: a reference leads nowhere or out of the schema; put its definition in $defs."
            ) from None
        return None if error is None else shorten(f"{_path(error.absolute_path)}: {error.message}")

    def _validating(self) -> Any:
        if self._validator is None:
            import jsonschema  # type: ignore[import-untyped]
            from referencing import Registry

            formats = jsonschema.FormatChecker(formats=())
            for name, parse in _FORMATS.items():
                formats.checks(name, raises=ValueError)(_checks(parse))
            validating = jsonschema.validators.extend(
                jsonschema.Draft202012Validator, {"multipleOf": _multiple_of}
            )
            # The default registry opens whatever files and addresses a schema refers to.
            self._validator = validating(self.json_schema, format_checker=formats, registry=Registry())
        return self._validator


def _check(schema: dict[str, Any]) -> None:
    """Refuse what is no JSON Schema."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = ".".join(map(str, error.absolute_path)) or "its root"
        raise ConfigurationError(
            f"output_schema is not a valid JSON Schema, at {where}: {shorten(error.message)}"
        ) from error
    except RecursionError:
        rule = "its levels are more than can be followed; flatten it, or put parts of it into $defs"
        raise UnsupportedSchemaError("", rule) from None


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


def _path(parts: Any) -> str:
    return ".".join(map(str, parts)) or "the answer"


def shorten(text: str) -> str:
    """What is wrong with an answer, which may quote all of it, as far as a message holds it."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
