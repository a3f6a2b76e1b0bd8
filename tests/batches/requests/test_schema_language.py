"""The table of docs/structured-output.md, and what is refused before it is sent."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import duckdb
import pyarrow as pa
import pydantic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.output_schema import OutputSchema, Schema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output.output_types import column_type
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to, submit_all

D = decimal.Decimal
UTC = datetime.UTC
ID = "3f0c9a52-5f0e-4a55-9d0c-6a4f0f6d2b11"


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


Money = Annotated[D, pydantic.Field(ge=0, decimal_places=2, max_digits=10)]
Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
Code = Annotated[str, pydantic.Field(pattern=r"^[A-Z]{2}\d{3}$")]
TIME = "2026-03-14T09:26:53+02:00"
ASKED_CAT = {"$ref": "#/$defs/Cat"}
ANY_PET = {"anyOf": [ASKED_CAT, {"$ref": "#/$defs/Dog"}]}

TABLE: list[tuple[Any, dict[str, Any], Any, Any, Any, Any]] = [
    # type, what is asked, a good answer, a bad one, Parquet type, Parquet value
    (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 5, "5", pa.int64(), 5),
    (Colour, {"$ref": "#/$defs/Colour"}, "red", "green", pa.string(), "red"),
    (Level, {"$ref": "#/$defs/Level"}, 2, 3, pa.int64(), 2),
    (Literal["a", "b"], {"enum": ["a", "b"]}, "b", "c", pa.string(), "b"),
    (
        datetime.date,
        {"type": "string", "format": "date"},
        "2026-03-14",
        "tomorrow",
        pa.date32(),
        datetime.date(2026, 3, 14),
    ),
    (
        datetime.datetime,
        {"type": "string", "format": "date-time"},
        TIME,
        "noon",
        pa.timestamp("us", tz="UTC"),
        datetime.datetime(2026, 3, 14, 7, 26, 53, tzinfo=UTC),
    ),
    (datetime.date | None, {}, "2026-03-14", "1700000000", pa.date32(), datetime.date(2026, 3, 14)),
    (D, {"type": "number"}, 12.3, "twelve", pa.decimal128(38, 18), D("12.3")),
    (
        Money,
        {"type": "number", "description": "{exclusiveMaximum: 100000000.0, minimum: 0.0, multipleOf: 0.01}"},
        12.3,
        1.234,
        pa.decimal128(38, 2),
        D("12.30"),
    ),
    (Money, {}, 7, -1, pa.decimal128(38, 2), D("7.00")),
    (Money, {}, 1234567.89, 123456789.5, pa.decimal128(38, 2), D("1234567.89")),
    (Annotated[D, pydantic.Field(multiple_of=0.25)], {}, 1.75, 1.8, pa.decimal128(38, 18), D("1.75")),
    (
        Annotated[float, pydantic.Field(multiple_of=0.01)],
        {"type": "number", "description": "{multipleOf: 0.01}"},
        12.3,
        12.345,
        pa.float64(),
        12.3,
    ),
    (int | float, {"anyOf": [{"type": "integer"}, {"type": "number"}]}, 2, "two", pa.float64(), 2.0),
    (
        pydantic.UUID4,
        {"type": "string", "format": "uuid", "description": "{format: uuid4}"},
        ID,
        "one",
        pa.string(),
        ID,
    ),
    (
        pydantic.NaiveDatetime,
        {"type": "string", "description": "{format: local-date-time}"},
        "2026-03-14T09:26:53",
        TIME,
        pa.timestamp("us", tz="UTC"),
        datetime.datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC),
    ),
    (list[Money], {}, [1.5, 2], [1.555], pa.list_(pa.decimal128(38, 2)), [D("1.50"), D("2.00")]),
    (uuid.UUID, {"type": "string", "format": "uuid"}, ID, "one", pa.string(), ID),
    (Code, {"type": "string", "pattern": r"^[A-Z]{2}\d{3}$"}, "AB123", "ab1", pa.string(), "AB123"),
    (Annotated[int, pydantic.Field(ge=1, le=5)], {"type": "integer"}, 5, 6, pa.int64(), 5),
    (Pet, ANY_PET, {"kind": "cat", "lives": 9}, {"kind": "cow"}, pa.string(), '{"kind":"cat","lives":9}'),
    (list[list[int]], {}, [[1], [2, 3]], [1], pa.list_(pa.list_(pa.int64())), [[1], [2, 3]]),
    (bool, {"type": "boolean"}, True, 1.5, pa.bool_(), True),
    (float, {"type": "number"}, 2, "x", pa.float64(), 2.0),
]


def answer(value: Any) -> str:
    return json.dumps({"total": value})


@pytest.mark.parametrize("row", TABLE, ids=[f"{number}-{row[0]}"[:40] for number, row in enumerate(TABLE)])
@pytest.mark.parametrize("as_model", [True, False], ids=["model", "recorded schema"])
def test_the_table_of_types(row: tuple[Any, ...], as_model: bool) -> None:
    type_, asked, good, bad, arrow, value = row
    model = pydantic.create_model("Answer", total=(type_, ...))
    schema = OutputSchema.of(model)
    if not as_model:
        schema = OutputSchema.of(schema.json_schema)
    wanted = schema.output_config()["format"]["schema"]["properties"]["total"]
    assert asked.items() <= wanted.items()
    assert schema.parse(answer(good)) == ({"total": good}, None)
    output, fault = schema.parse(answer(bad))
    assert output is None
    assert fault
    column, convert = column_type(schema.json_schema)
    assert column.field("total").type == arrow
    output = {"total": good}
    made = pa.array([convert(output) if convert else output, None], column).to_pylist()
    assert made == [{"total": value}, None]


def test_an_alias_is_what_is_asked_checked_and_returned() -> None:
    class Invoice(pydantic.BaseModel):
        total: int = pydantic.Field(alias="Total (EUR)")

    schema = OutputSchema.of(Invoice)
    asked = schema.output_config()["format"]["schema"]
    assert asked["required"] == ["Total (EUR)"]
    assert schema.parse('{"Total (EUR)": 5}') == ({"Total (EUR)": 5}, None)
    assert schema.parse('{"total": 5}')[0] is None
    assert column_type(schema.json_schema)[0] == pa.struct([("Total (EUR)", pa.int64())])


def test_a_field_that_is_read_from_a_path_is_refused() -> None:
    class Invoice(pydantic.BaseModel):
        total: int = pydantic.Field(validation_alias=pydantic.AliasPath("sums", 0))

    with pytest.raises(ConfigurationError, match=r"Invoice reads a field from the path sums\.0"):
        OutputSchema.of(Invoice)


def test_what_is_said_beside_a_reference_is_said() -> None:
    class Car(pydantic.BaseModel):
        colour: Colour = pydantic.Field(description="of the doors")
        level: Level

    wanted = OutputSchema.of(Car).output_config()["format"]["schema"]["properties"]
    assert wanted["colour"] == {"anyOf": [{"$ref": "#/$defs/Colour"}], "description": "of the doors"}
    assert wanted["level"] == {"$ref": "#/$defs/Level"}


def test_the_keys_of_a_map_are_asked_for_as_they_are_checked() -> None:
    class Sums(pydantic.BaseModel):
        sums: dict[Colour, int]

    schema = OutputSchema.of(Schema(Sums, maps="entries"))
    wanted = schema.output_config()["format"]["schema"]["properties"]["sums"]
    assert wanted["items"]["properties"]["key"] == {"$ref": "#/$defs/Colour"}
    assert schema.parse('{"sums": [{"key": "red", "value": 1}]}') == ({"sums": {"red": 1}}, None)
    assert schema.parse('{"sums": [{"key": ["red"], "value": 1}]}')[0] is None


def test_a_model_that_is_no_json_is_refused_by_name() -> None:
    model = pydantic.create_model("Answer", call=(Callable[[], int], ...))
    with pytest.raises(ConfigurationError, match="Answer has a field that is no JSON"):
        OutputSchema.of(model)


def of(field: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": field}, "required": ["a"], **more}


def wide(count: int, field: Any, *, required: bool) -> dict[str, Any]:
    fields = {f"f{number}": field for number in range(count)}
    return {"type": "object", "properties": fields, "required": list(fields) if required else []}


TEXT = {"type": "string"}
CLOSED = {"type": "object", "properties": {"x": TEXT}, "required": [], "additionalProperties": False}
OR_NULL = {"type": ["string", "null"]}


class Node(pydantic.BaseModel):
    children: list[Node]


class One(pydantic.BaseModel):
    other: Other | None


class Other(pydantic.BaseModel):
    one: One | None


class Anything(pydantic.BaseModel):
    value: Any


class Totals(pydantic.BaseModel):
    totals: dict[str, int]


def deep(levels: int) -> dict[str, Any]:
    return of(deep(levels - 1)) if levels else of(TEXT)


REFUSED: list[tuple[Any, str]] = [
    (deep(150), "its levels are more than can be followed"),
    (of(True), r"output_schema\.a: any value"),
    (of({}), r"\.a: any value"),
    (of({"title": "A"}), r"\.a: any value"),
    (Anything, r"\.value: any value"),
    (of({"type": "array"}), r"\.a: a list of anything"),
    (of({"type": "array", "prefixItems": [TEXT, {"type": "integer"}]}), "tuple"),
    (Totals, r"\.totals: an object with any keys.*list of entries.*maps"),
    (of({"type": "object"}), "any keys"),
    (of({"type": "object", "additionalProperties": {"type": "integer"}}), "any keys"),
    (of({"type": "object", "patternProperties": {"^x": TEXT}}), "any keys"),
    (of(TEXT, additionalProperties=TEXT), "any keys"),
    (Node, r"contains itself.*no recursive schemas"),
    (One, r"contains itself"),
    (of({"$ref": "#"}), "contains itself"),
    (of({"$ref": "#/$defs/Gone"}), "leads nowhere"),
    (of({"$ref": "https://example.com/a.json"}), "leads out of the schema"),
    (of({"allOf": [{"$ref": "#/$defs/X"}, of(TEXT)]}, **{"$defs": {"X": of(TEXT)}}), "allOf with references"),
    (of({"not": TEXT}), "no 'not'"),
    (of({"enum": [{"x": 1}]}), "enum holds texts, numbers"),
    ({"properties": {}, "required": ["a"], "additionalProperties": False}, "not among its properties"),
    (wide(25, TEXT, required=False), "25 optional fields; the API takes 24"),
    (wide(17, OR_NULL, required=True), "17 fields of several types.* takes 16"),
]


@pytest.mark.parametrize(("given", "rule"), REFUSED)
def test_what_the_api_does_not_take_is_refused_with_place_and_limit(given: Any, rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        OutputSchema.of(given).output_config()


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        (OR_NULL, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"type": ["string"]}, TEXT),
        ({"type": "string", "minLength": 3}, {**TEXT, "description": "{minLength: 3}"}),
        ({"type": "string", "pattern": "(?=x)"}, {**TEXT, "description": "{pattern: (?=x)}"}),
        ({"allOf": [{"type": "integer"}]}, {"type": "integer"}),
        ({"allOf": [TEXT, {"minLength": 1}]}, {**TEXT, "description": "{minLength: 1}"}),
        ({"oneOf": [TEXT, {"type": "integer"}]}, {"anyOf": [TEXT, {"type": "integer"}]}),
        ({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1}),
        ({"type": "array", "prefixItems": [TEXT, TEXT]}, {"type": "array", "items": TEXT}),
        ({"const": 5}, {"const": 5}),
        ({"properties": {"x": TEXT}}, CLOSED),
    ],
)
def test_what_can_be_said_in_the_apis_language_is(field: Any, asked: Any) -> None:
    assert OutputSchema.of(of(field)).output_config()["format"]["schema"]["properties"]["a"] == asked


def test_definitions_of_older_schemas_are_found_and_sent_as_the_api_names_them() -> None:
    given = of({"$ref": "#/definitions/Money"}, definitions={"Money": {"type": "number"}})
    schema = OutputSchema.of(given).output_config()["format"]["schema"]
    assert schema["properties"]["a"] == {"$ref": "#/$defs/Money"}
    assert schema["$defs"] == {"Money": {"type": "number"}}


def test_a_definition_whose_name_has_to_be_escaped_is_found_and_gets_a_plain_one() -> None:
    given = of({"$ref": "#/$defs/a~1b"}, **{"$defs": {"a/b": TEXT}})
    config = OutputSchema.of(given).output_config()
    assert config["format"]["schema"]["$defs"] == {"a_1b": TEXT}
    RequestBuilder(Recipe(), {"model": "claude-haiku-4-5", "max_tokens": 10, "output_config": config})


@pytest.mark.parametrize("as_model", [True, False])
def test_maps_are_asked_for_as_entries_and_turned_back(as_model: bool) -> None:
    class Row(pydantic.BaseModel):
        totals: dict[str, dict[str, int]]
        best: Annotated[dict[str, int], pydantic.Field(min_length=1)] | None
        names: list[str]

    schema = OutputSchema.of(Schema(Row, maps="entries"))
    if not as_model:
        schema = OutputSchema.of(schema.json_schema)
    asked = schema.output_config()["format"]["schema"]["properties"]["totals"]
    assert asked["type"] == "array"
    assert asked["items"]["required"] == ["key", "value"]
    answer = '{"totals": [{"key": "a", "value": [{"key": "x", "value": 1}]}], "best": null, "names": ["n"]}'
    back = {"totals": {"a": {"x": 1}}, "best": None, "names": ["n"]}
    assert schema.parse(answer) == (back, None)
    best = answer.replace("null", '[{"key": "x", "value": 2}]')
    assert schema.parse(best) == (back | {"best": {"x": 2}}, None)
    twice = answer.replace("null", '[{"key": "x", "value": 2}, {"key": "x", "value": 3}]')
    assert schema.parse(twice) == (None, "a key comes twice in a list of entries")
    assert schema.parse(answer.replace('"value": 1', '"value": "one"'))[0] is None


def test_a_choice_about_maps_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="maps"):
        Schema(Totals, maps="list")  # type: ignore[arg-type]


def cited(*flags: bool, **params: Any) -> dict[str, Any]:
    source = {"type": "text", "media_type": "text/plain", "data": "x"}
    blocks = [{"type": "document", "source": source, "citations": {"enabled": flag}} for flag in flags]
    text = {"type": "text", "text": "Read."}
    return {"custom_id": "a", "messages": [{"role": "user", "content": [*blocks, text]}], **params}


def begun(content: Any) -> dict[str, Any]:
    config = OutputSchema.of(of(TEXT)).output_config()
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
    return {"custom_id": "a", "messages": messages, "output_config": config}


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        (cited(True, output_config=OutputSchema.of(of(TEXT)).output_config()), "citations together with an"),
        (cited(True, False), "all documents of a request have citations, or none"),
        (cited(False, True, True), "2 of 3 documents"),
        (begun("{"), r"begun \(prefilled\) together with an output schema"),
        (begun([{"type": "text", "text": "{"}]), "the last message"),
    ],
)
def test_citations_that_the_api_refuses_are_a_fault_of_the_record(record: Any, rule: str) -> None:
    build = RequestBuilder(Recipe(), {"model": "claude-haiku-4-5", "max_tokens": 10})
    with pytest.raises(InputError, match=rule):
        build(record, 0)
    full = {"custom_id": "a", "params": {key: value for key, value in record.items() if key != "custom_id"}}
    with pytest.raises(InputError, match=rule):
        build(full, 0)


def test_citations_of_all_documents_and_of_none_are_taken() -> None:
    build = RequestBuilder(Recipe(), {"model": "claude-haiku-4-5", "max_tokens": 10})
    config = OutputSchema.of(of(TEXT)).output_config()
    paused = begun([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}])
    for record in (cited(True, True), cited(False, False), cited(False, output_config=config), paused):
        assert build(record, 0).custom_id == "a"  # type: ignore[union-attr]


class Bill(pydantic.BaseModel):
    total: Money
    due: datetime.date
    colour: Colour
    items: list[Literal["pen", "paper"]]
    by_month: dict[str, int]
    note: str | None


def test_answers_to_a_model_are_summed_as_decimals_by_duckdb(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    schema = OutputSchema.of(Schema(Bill, maps="entries"))
    rows = [
        {"custom_id": f"r-{n}", "prompt": f"{n}", "max_tokens": 4000, "output_config": schema.output_config()}
        for n in range(20)
    ]
    url = submit_all(root, api, rows)
    output = open_directory(
        Folder.at((tmp_path / "out").as_uri()), format="parquet", output_schema=schema.json_schema
    )
    summary = deliver(
        root, url, delivery_to(tmp_path, api, output=output, reading=Reading(output_schema=schema)), emulator
    )
    assert summary["counts"]["succeeded"] == 20
    query = "SELECT sum(output.total), max(output.due), any_value(output.colour), any_value(output.by_month)"
    [row] = duckdb.sql(f"{query} FROM '{tmp_path}/out/succeeded/*.parquet'").fetchall()
    assert isinstance(row[0], decimal.Decimal)
    assert isinstance(row[1], datetime.date)
    assert row[2] in ("red", "blue")
    assert isinstance(json.loads(row[3]), dict)


def test_a_map_in_one_alternative_of_a_union_is_turned_back_too() -> None:
    class Sheet(pydantic.BaseModel):
        cells: dict[str, int]

    class Book(pydantic.BaseModel):
        best: Sheet | None
        pages: list[Sheet | dict[str, str]]

    schema = OutputSchema.of(Schema(Book, maps="entries"))
    sheet = '{"cells": [{"key": "A1", "value": 1}]}'
    names = '[{"key": "a", "value": "x"}]'
    assert schema.parse(f'{{"best": {sheet}, "pages": [{sheet}, {names}]}}') == (
        {"best": {"cells": {"A1": 1}}, "pages": [{"cells": {"A1": 1}}, {"a": "x"}]},
        None,
    )
