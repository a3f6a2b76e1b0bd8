"""Made-up answers look like what a field asks for, and keep to the schema."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from airflow_claude_batch.emulator.answers.schema import SchemaWriter

CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER
TEXT = {"type": "string"}
SENTENCE = re.compile(r"^[A-Z].*\.$")


def made(schema: dict[str, Any], seed: int = 7) -> Any:
    value = SchemaWriter(schema, seed).value()
    assert SchemaWriter(schema, seed).value() == value
    jsonschema.Draft202012Validator(schema, format_checker=CHECKER).validate(value)
    return value


def field(name: str, schema: dict[str, Any], seed: int = 7) -> Any:
    return made({"type": "object", "properties": {name: schema}, "required": [name]}, seed)[name]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("invoice_number", r"INV-2026-\d{4}"),
        ("invoiceNo", r"INV-2026-\d{4}"),
        ("due_date", r"202[56]-\d\d-\d\d"),
        ("issuedOn", r"202[56]-\d\d-\d\d"),
        ("contact_email", r"[a-z]+\.[a-z]+@example\.com"),
        ("currency", r"[A-Z]{3}"),
        ("author", r"[A-Z]\w+ [A-Z]\w+"),
        ("vat_amount", r"\d+\.\d\d"),
        ("phone", r"\+44 [\d ]+"),
        ("summary", r"[A-Z].+\."),
        ("something_else", r"[A-Z].+\."),
    ],
)
def test_a_text_looks_like_its_name(name: str, form: str) -> None:
    for seed in range(20):
        assert re.fullmatch(form, field(name, TEXT, seed)), name


@pytest.mark.parametrize("format", ["date", "date-time", "email", "uuid", "uri", "time", "ipv4", "duration"])
def test_a_format_is_kept_to_and_varies(format: str) -> None:
    schema = {"type": "string", "format": format}
    assert len({field("value", schema, seed) for seed in range(20)}) > 1


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("total", {"type": "number"}),
        ("total", {"type": "number", "maximum": 3}),
        ("quantity", {"type": "integer", "minimum": 1, "maximum": 2}),
        ("price", {"type": "number", "multipleOf": 0.25}),
        ("confidence", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
        ("year", {"type": "integer", "minimum": 1990, "maximum": 1999}),
        ("currency", {"type": "string", "pattern": "^[A-Z]{3}$", "maxLength": 3}),
        ("date", {"type": "string", "pattern": r"^\d{2}/\d{2}/\d{4}$"}),
        ("amount", {"type": "string", "pattern": r"^-?\d{1,8}(\.\d{1,2})?$"}),
        ("summary", {"type": "string", "maxLength": 12}),
        ("summary", {"type": "string", "minLength": 400, "maxLength": 410}),
        ("name", {"type": "string", "maxLength": 1}),
        ("tags", {"type": "array", "items": TEXT, "minItems": 3, "uniqueItems": True}),
        ("lines", {"type": "array", "items": {"type": "object", "properties": {"description": TEXT}}}),
        ("email", {"enum": ["a", "b"]}),
        ("vendor", {"anyOf": [TEXT, {"type": "null"}]}),
    ],
)
def test_what_a_name_asks_for_never_breaks_the_schema(name: str, schema: dict[str, Any]) -> None:
    for seed in range(40):
        field(name, schema, seed)


def test_amounts_are_amounts_and_lines_of_an_invoice_are_goods() -> None:
    assert 20 <= field("total", {"type": "number"}) <= 4000
    line = {"type": "object", "properties": {"description": TEXT, "quantity": {"type": "integer"}}}
    found = field("line_items", {"type": "array", "items": line, "minItems": 3})
    assert all(not SENTENCE.match(one["description"]) for one in found)
    assert all(1 <= one["quantity"] <= 12 for one in found)
