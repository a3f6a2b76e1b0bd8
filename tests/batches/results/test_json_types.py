"""The type that values have in common, and that arrays of it hold the same values."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from airflow_claude_batch.batches.results.output import json_types
from airflow_claude_batch.batches.results.output.json_types import JsonColumn, infer, json_texts

INT, FLOAT, TEXT, BOOL = pa.int64(), pa.float64(), pa.string(), pa.bool_()


def blocks(values: list[Any], per_block: int = 3) -> list[bytes]:
    lines = [msgspec.json.encode({"custom_id": "r", "input": value}) + b"\n" for value in values]
    return [b"".join(lines[start : start + per_block]) for start in range(0, len(lines), per_block)]


def column(values: list[Any], **how: Any) -> tuple[JsonColumn, pa.Array]:
    made = JsonColumn(infer(blocks(values, **how), key="input"))
    raw = [msgspec.Raw(msgspec.json.encode(value)) for value in values]
    array = made.array(
        made.decode([None if value is None else own for value, own in zip(values, raw, strict=True)])
    )
    array.validate(full=True)
    return made, array


def of(*values: Any) -> tuple[Any, list[Any]]:
    """Type and values of the one key ``x`` over some rows."""
    made, array = column([{"x": value} for value in values])
    return made.arrow.field("x").type, [row["x"] for row in array.to_pylist()]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([True, None, False], BOOL),
        ([1, -(2**63), 2**63 - 1], INT),
        ([1, 0.5, 2**53], FLOAT),
        (["a", None, "é", ""], TEXT),
        ([None, None], TEXT),
        ([{"a": 1}, {"b": "t"}, None, {}], pa.struct([("a", INT), ("b", TEXT)])),
        ([[1], [], None, [2, None, 3]], pa.list_(pa.field("element", INT))),
        (
            [[{"a": [0.5]}], [{"a": None}, {"b": True}]],
            pa.list_(
                pa.field("element", pa.struct([("a", pa.list_(pa.field("element", FLOAT))), ("b", BOOL)]))
            ),
        ),
    ],
)
def test_values_with_a_common_type_are_held_in_it(values: list[Any], type_: Any) -> None:
    found, held = of(*values)
    assert found == type_
    assert held == pa.array(values, type_).to_pylist()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, "1"], "several types"),
        ([True, 1], "several types"),
        ([[1], {"a": 1}], "several types"),
        ([2**63], "beyond 64 bits"),
        ([18446744073709551617, 1], "beyond 64 bits"),
        ([0.5, 2**53 + 1], "beyond 2\\*\\*53"),
        ([2**53 + 1, 0.5], "beyond 2\\*\\*53"),
        ([{}, None], "always empty"),
        ([[], []], "always empty"),
        ([{"a\0b": 1}], "zero character"),
    ],
)
def test_values_without_one_are_json_text_that_says_the_same(values: list[Any], reason: str) -> None:
    type_, held = of(*values)
    assert type_ == TEXT
    assert [None if text is None else json.loads(text) for text in held] == values
    [(path, why)] = json_texts(infer(blocks([{"x": value} for value in values]), key="input"), "input")
    assert path == "input.x"
    assert re.search(reason, why)


def test_json_text_is_only_the_lowest_level_that_has_no_type() -> None:
    made, array = column([{"team": "a", "more": [{"n": 1}]}, {"team": "b", "more": [{"n": "x"}]}])
    assert made.arrow.field("team").type == TEXT
    assert array.to_pylist()[1] == {"team": "b", "more": [{"n": '"x"'}]}
    [(path, _)] = json_texts(
        infer(blocks([{"more": [{"n": 1}]}, {"more": [{"n": "x"}]}]), key="input"), "input"
    )
    assert path == "input.more[].n"


def test_records_without_columns_are_null_beside_those_with_some() -> None:
    _, array = column([None, {"a": 1}, None])
    assert array.to_pylist() == [None, {"a": 1}, None]
    made, array = column([None, None])
    assert (made.arrow, array.to_pylist()) == (TEXT, [None, None])
    assert infer([b'{"custom_id":"r"}\n'], key="input") == json_types.NULL


def test_a_value_far_behind_widens_the_type_as_one_at_the_start() -> None:
    values: list[Any] = [{"n": number} for number in range(3_000)]
    late = [*values, {"n": 0.5, "late": "x"}]
    for per_block in (7, 2_000, 5_000):
        made, array = column(late, per_block=per_block)
        assert made.arrow == pa.struct([("n", FLOAT), ("late", TEXT)])
        assert array.to_pylist()[-1] == {"n": 0.5, "late": "x"}


def test_thousands_of_different_keys_are_json_text_where_they_are_and_nowhere_else() -> None:
    values = [{"team": "a", "attributes": {f"key-{number}": number}} for number in range(3_000)]
    made, array = column(values, per_block=500)
    assert made.arrow == pa.struct([("team", TEXT), ("attributes", TEXT)])
    assert array.to_pylist()[2_999] == {"team": "a", "attributes": '{"key-2999":2999}'}


def test_many_small_objects_in_one_another_end_at_the_most_columns() -> None:
    wide: Any = {f"k{a}": {f"k{b}": {f"k{c}": 1 for c in range(20)} for b in range(20)} for a in range(20)}
    made, array = column([wide])
    assert made.arrow.field("k0").type.field("k0").type == TEXT
    assert json.loads(array.to_pylist()[0]["k3"]["k4"]) == wide["k3"]["k4"]


def test_what_is_nested_too_deeply_is_json_text() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = {"d": [deep]}
    _, array = column([deep])
    assert '"d":' in json.dumps(array.to_pylist())


def test_keys_of_any_form_are_columns() -> None:
    row = {"": 1, "a.b": 2, "A": 3, "a": 4, "é ü": 5, "f0": 6, "None": 7}
    made, array = column([row, {"f0": None}])
    assert array.to_pylist() == [row, dict.fromkeys(row)]
    assert [field.name for field in made.arrow] == list(row)
