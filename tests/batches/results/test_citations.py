"""Which fields may quote, as far as a schema tells."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.citations import check_quotes


class Item(pydantic.BaseModel):
    quote: str
    price: float
    part: Item | None = None


class Bill(pydantic.BaseModel):
    total: float
    total_quote: str | None
    items: list[Item]
    notes: dict[str, Item]
    free: Any


@pytest.mark.parametrize(
    "name",
    ["total_quote", "items.quote", "items.part.quote", "items.part.part.part.quote", "notes.any", "free.x.y"],
)
def test_a_field_that_an_output_may_have_may_quote(name: str) -> None:
    check_quotes([name], OutputSchema.of(Bill).json_schema)
    check_quotes([name], {"type": "object"})


def test_references_that_lead_nowhere_end() -> None:
    alike = [{"$ref": f"#/$defs/{name}"} for name in "ab"]
    schema = {"$defs": {name: {"type": "array", "items": {"anyOf": alike * 9}} for name in "ab"}, **alike[0]}
    with pytest.raises(ConfigurationError):
        check_quotes(["quote"], schema)


@pytest.mark.parametrize("name", ["totl_quote", "items.qoute", "items.part.qoute", "total.quote", ""])
def test_a_field_that_no_output_can_have_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"quotes names '{name}', which output_schema has not"):
        check_quotes(["total_quote", name], OutputSchema.of(Bill).json_schema)
