"""Structured output: what the API is asked for, and whether an answer keeps to it.

The API takes a part of JSON Schema and drops bounds such as ``minimum`` or ``maxLength`` on the way; so
answers are checked here against the schema as the user wrote it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError

SHOWN_CHARACTERS = 200
_decode = msgspec.json.Decoder().decode


@dataclass(kw_only=True)
class OutputSchema:
    """The shape of answers that a user wants."""

    json_schema: dict[str, Any]
    """JSON Schema (draft 2020-12), bounds included."""
    model: Any = None
    """The pydantic model that it came from, whose own validators then count too."""
    _validator: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Any) -> OutputSchema:
        """From a pydantic model class or a JSON Schema.

        :raises ConfigurationError: for anything else, or a schema that is not valid
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, type) and hasattr(given, "model_json_schema"):
            return cls(json_schema=given.model_json_schema(), model=given)
        if not isinstance(given, dict):
            raise ConfigurationError(
                f"output_schema is a {type(given).__name__}; give a pydantic model or a JSON Schema (dict)."
            )
        import jsonschema  # type: ignore[import-untyped]

        try:
            jsonschema.Draft202012Validator.check_schema(given)
        except jsonschema.SchemaError as error:
            raise ConfigurationError(f"output_schema is not a valid JSON Schema: {error.message}") from error
        return cls(json_schema=given)

    def output_config(self) -> dict[str, Any]:
        """The Messages API parameter ``output_config`` that asks for this shape."""
        from anthropic import transform_schema

        schema = transform_schema(self.model or self.json_schema)
        return {"format": {"type": "json_schema", "schema": schema}}

    def parse(self, text: str) -> tuple[Any, str | None]:
        """An answer's value, and what is wrong with it (None when nothing is)."""
        try:
            value = _decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            return None, f"the answer is not JSON: {error}"
        fault = self._fault_of_model(text) if self.model is not None else self._fault(value)
        return (None, fault) if fault else (value, None)

    def _fault_of_model(self, text: str) -> str | None:
        import pydantic

        try:
            self.model.model_validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            return _shorten(f"{_path(first['loc'])}: {first['msg']}")
        return None

    def _fault(self, value: Any) -> str | None:
        if self._validator is None:
            import jsonschema

            self._validator = jsonschema.Draft202012Validator(self.json_schema)
        error = next(iter(self._validator.iter_errors(value)), None)
        return None if error is None else _shorten(f"{_path(error.absolute_path)}: {error.message}")


def _path(parts: Any) -> str:
    return ".".join(map(str, parts)) or "the answer"


def _shorten(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."
