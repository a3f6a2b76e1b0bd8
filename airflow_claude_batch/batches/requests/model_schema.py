"""The JSON Schema of a pydantic model, which says more than pydantic's own.

Decimals are numbers, there a number or any text; times without a zone are told from those with one. What only
pydantic understands (a pattern in the words of its own engine, a bound that no float holds) is left to the
model; of a pattern the description tells.
"""

from __future__ import annotations

import math
import re
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError

LOCAL_DATE_TIME = "local-date-time"
"""Format of a date with a time and no zone, which the API does not know."""
PYDANTIC_PATTERN = "pydanticPattern"
"""Key for a pattern that Python's ``re`` does not take: no other reader of the schema looks at it."""
_WITHOUT_ZONE = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?$"
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}


def schema_of_model(model: Any) -> dict[str, Any]:
    """The JSON Schema of a model.

    Raises:
        ConfigurationError: For a field that is no JSON, or that no JSON can be asked for.
    """
    from pydantic.errors import PydanticUserError
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def str_schema(self, schema: Any) -> dict[str, Any]:
            return _with_known_pattern(super().str_schema(schema))

        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            return _decimal(schema)

        def datetime_schema(self, schema: Any) -> dict[str, Any]:
            if schema.get("tz_constraint") == "naive":
                return {"type": "string", "format": LOCAL_DATE_TIME, "pattern": _WITHOUT_ZONE}
            found: dict[str, Any] = super().datetime_schema(schema)
            return found

        def model_field_schema(self, schema: Any) -> dict[str, Any]:
            _refuse_path(model, schema)
            found: dict[str, Any] = super().model_field_schema(schema)
            return found

        def dataclass_field_schema(self, schema: Any) -> dict[str, Any]:
            _refuse_path(model, schema)
            found: dict[str, Any] = super().dataclass_field_schema(schema)
            return found

    try:
        schema: dict[str, Any] = model.model_json_schema(schema_generator=Generator)
    except PydanticUserError as error:
        raise ConfigurationError(
            f"output_schema: {model.__name__} has a field that is no JSON ({error.code})."
        ) from error
    return schema


def _with_known_pattern(schema: dict[str, Any]) -> dict[str, Any]:
    pattern = schema.get("pattern")
    try:
        re.compile(pattern or "")
    except re.error:
        return {PYDANTIC_PATTERN if key == "pattern" else key: value for key, value in schema.items()}
    return schema


def _decimal(schema: Any) -> dict[str, Any]:
    asked = {word: float(schema[name]) for name, word in _BOUNDS.items() if name in schema}
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
    held = {word: number for word, number in asked.items() if math.isfinite(number)}
    if held.get("multipleOf") == 0:
        del held["multipleOf"]
    return {"type": "number", "format": "decimal", **held}


def _refuse_path(model: Any, field: Any) -> None:
    """Refuse a field that is read from a place within another: it is asked for by a name."""
    alias = field.get("validation_alias")
    if not isinstance(alias, list) or any(isinstance(choice, list) and len(choice) == 1 for choice in alias):
        return
    path = ".".join(map(str, alias[0] if isinstance(alias[0], list) else alias))
    raise ConfigurationError(
        f"output_schema: {model.__name__} reads a field from the path {path} (AliasPath), and fields are "
        "asked for by their names. Give the model the field as it is answered, or a name as alias."
    )
