"""What a record may be: each kind of object, and what is no record."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import sqlite3
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np
import pandas as pd
import pendulum
import pyarrow as pa
import pydantic
import pytest
import sqlalchemy
from anthropic.types import TextBlock

from airflow_claude_batch.batches.errors import EmptyInputError, InputError
from airflow_claude_batch.batches.job.part_reader import read_inputs
from airflow_claude_batch.batches.job.rejected import read_rejected
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.runtime.records import read_records

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10}


class Color(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Role(enum.StrEnum):
    USER = "user"


@dataclasses.dataclass
class Data:
    custom_id: str
    prompt: str
    n: int


@attrs.define
class Attrs:
    custom_id: str
    prompt: str
    n: int


class Model(pydantic.BaseModel):
    custom_id: str
    prompt: str
    n: int = 1


class Struct(msgspec.Struct):
    custom_id: str
    prompt: str
    n: int


def sqlalchemy_row() -> Any:
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        return connection.execute(sqlalchemy.text("select 'a' custom_id, 'Hi' prompt, 1 n")).one()


def sqlite_row() -> Any:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute("select 'a' custom_id, 'Hi' prompt, 1 n").fetchone()


def build(record: Any, **recipe: Any) -> dict[str, Any]:
    request = RequestBuilder(Recipe(**recipe), DEFAULTS)(record, 0)
    columns = msgspec.json.decode(request.columns) if request.columns else {}
    return {"columns": columns, **msgspec.json.decode(request.line)}


def prompt_of(built: dict[str, Any]) -> Any:
    return built["params"]["messages"][0]["content"]


@pytest.mark.parametrize(
    "record",
    [
        collections.namedtuple("Row", "custom_id prompt n")("a", "Hi", 1),
        Data("a", "Hi", 1),
        Attrs("a", "Hi", 1),
        Model(custom_id="a", prompt="Hi"),
        Struct("a", "Hi", 1),
        sqlalchemy_row(),
        sqlite_row(),
        pd.Series({"custom_id": "a", "prompt": "Hi", "n": 1}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_an_object_is_a_record_by_its_fields(record: Any) -> None:
    built = build(record)
    assert (built["custom_id"], prompt_of(built), built["columns"]) == ("a", "Hi", {"n": 1})


class Tags(pydantic.RootModel[list[str]]):
    """A model that is its one value."""


class Row(pydantic.RootModel[dict[str, Any]]):
    """A model that is a mapping."""


def test_a_model_that_is_one_value_is_that_value() -> None:
    record = Row({"custom_id": "a", "prompt": "x", "tags": Tags(["b", "c"])})
    request = RequestBuilder(Recipe(), DEFAULTS)(record, 0)
    assert msgspec.json.decode(request.columns or b"") == {"tags": ["b", "c"]}
    prompt = RequestBuilder(Recipe(prompt="{{ tags[1] }}"), DEFAULTS)({"tags": Tags(["b", "c"])}, 0)
    assert msgspec.json.decode(prompt.line)["params"]["messages"][0]["content"] == "c"


def test_a_block_of_the_sdk_is_sent_as_the_sdk_would() -> None:
    messages = [{"role": Role.USER, "content": [TextBlock.model_construct(type="text", text="Hi")]}]
    sent = build({"custom_id": "a", "messages": messages})["params"]["messages"]
    assert sent == [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Color.RED, "red"),
        (float("nan"), None),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        (pa.scalar(3), 3),
        (datetime.timedelta(minutes=1), "PT60S"),
        (pd.Timedelta(minutes=1), "PT60S"),
        (pendulum.duration(days=1, seconds=1), "P1DT1S"),
        (decimal.Decimal("NaN"), None),
        (decimal.Decimal("sNaN"), None),
        (decimal.Decimal("1.50"), "1.50"),
        ({Color.RED: [np.float32(0.5)]}, {"red": [0.5]}),
    ],
)
def test_a_column_holds_pythons_own_values(value: Any, stored: Any) -> None:
    assert build({"prompt": "Hi", "v": value})["columns"] == {"v": stored}
    built = build({"v": value}, prompt="x{{ v if v is mapping or v is iterable else '' }}")
    assert built["columns"] == {"v": stored}


def test_a_template_sees_dates_as_dates_and_enumerations_as_values() -> None:
    record = {"day": datetime.date(2026, 11, 28), "color": Color.RED, "none": pd.NaT}
    assert prompt_of(build(record, prompt="{{ day.year }} {{ color }}{{ none }}")) == "2026 red"


class Missing(enum.Enum):
    NAN = float("nan")


@pytest.mark.parametrize(
    "value", [np.float32("nan"), np.float16("nan"), pa.scalar(float("nan")), Missing.NAN]
)
def test_a_missing_value_of_any_kind_is_an_empty_place_in_a_template(value: Any) -> None:
    built = build({"v": value, "inner": [value]}, prompt="<{{ v }}> {{ inner }}")
    assert (prompt_of(built), built["columns"]) == ("<> [None]", {"v": None, "inner": [None]})


class Name(enum.Enum):
    BODY = "body"


@pytest.mark.parametrize(
    "record",
    [{"prompt": "Hi", Name.BODY: 1, "body": 2}, {"prompt": "Hi", "v": [{"body": 2, Name.BODY: 1}]}],
)
@pytest.mark.parametrize("template", [None, "{{ record | length }}"])
def test_of_two_keys_that_are_one_text_none_is_lost_unsaid(record: Any, template: str | None) -> None:
    with pytest.raises(InputError, match=r"'body': a key comes once"):
        build(record, prompt=template)


def nested(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "half \ud800"},
        {"prompt": "Hi", "note": "half \udfff"},
        {"prompt": "Hi", "half \ud800": 1},
        {"prompt": "Hi", "deep": nested(3_000)},
        {"prompt": "Hi", "deep": nested(300)},
        {"prompt": "Hi", 7: 1},
        {"prompt": "Hi", "v": {None: 1}},
        {"prompt": "Hi", "temperature": 1},
        {"messages": [{"role": "user", "content": float("nan")}]},
        ("id1", "text one"),
        ["id1", "text one"],
        None,
        7,
    ],
)
@pytest.mark.parametrize("template", [None, "{{ record | length }}"])
def test_what_is_no_record_is_a_fault_with_its_number(
    record: Any, template: str | None, tmp_path: Path
) -> None:
    if template and isinstance(record, dict) and {"temperature", "messages"} & record.keys():
        pytest.skip("a column like any other")
    with pytest.raises(InputError, match="record 1: ") as caught:
        spool(
            [{"custom_id": "good", "prompt": "Hi"}, record],
            Folder.at(f"file://{tmp_path}/job"),
            defaults=DEFAULTS,
            recipe=Recipe(prompt=template),
        )
    assert caught.value.total >= 1
    str(caught.value).encode()


def test_rows_without_names_are_told_how_to_get_them() -> None:
    with pytest.raises(InputError, match=r"Sql\(conn_id, sql\).*mappings or named tuples"):
        build(("id1", "text one"))


@pytest.mark.parametrize("row", [("id1", "text one"), (1, "text one"), ("text one",), ({"prompt": "x"}, 1)])
def test_a_row_is_not_taken_for_a_list_of_prompts(row: Any) -> None:
    for source in (row, lambda: row):
        with pytest.raises(InputError, match=r"Sql\(conn_id, sql\) reads a database"):
            read_records(source, {}, lambda _: None)  # type: ignore[arg-type]


def test_records_may_come_in_a_tuple() -> None:
    records = (Data("a", "Hi", 1), {"prompt": "Ho"}, pd.DataFrame({"prompt": ["He"]}), [{"prompt": "Hu"}])
    found = list(read_records(records, {}, lambda _: None))  # type: ignore[arg-type]
    assert [prompt_of(build({"custom_id": "x", **record})) for record in found[1:]] == ["Ho", "He", "Hu"]


def sqlite_row_of_two_bodies() -> Any:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    return connection.execute("select 'Hi' prompt, 1 body, 2 body").fetchone()


def sqlalchemy_row_of_two_bodies() -> Any:
    with sqlalchemy.create_engine("sqlite://").connect() as connection:
        return connection.execute(sqlalchemy.text("select 'Hi' prompt, 1 body, 2 body")).one()


@pytest.mark.parametrize("row", [sqlite_row_of_two_bodies(), sqlalchemy_row_of_two_bodies()])
def test_a_row_with_two_columns_of_one_name_loses_none_of_them_unsaid(row: Any) -> None:
    with pytest.raises(InputError, match=r"several are called \['body'\]; give them names with AS"):
        build(row)


@attrs.define
class Unreadable:
    """Of which a field was never set, like the lazy columns of a session that is closed."""

    prompt: str = attrs.field(init=False)


def test_an_object_whose_fields_cannot_be_read_is_a_fault_of_its_record() -> None:
    half_made = Unreadable()
    with pytest.raises(InputError, match=r"record 0: record = a Unreadable.*a record is a mapping"):
        build(half_made)
    with pytest.raises(InputError, match=r"record 0: v = a Unreadable.*is not a JSON value"):
        build({"prompt": "Hi", "v": half_made})


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({"prompt": Path("x.md")}, "prompt"),
        ({"messages": [{"role": "user", "content": Path("x.md")}]}, r"messages\[0\].content"),
        ({"prompt": "Hi", "note": Path("x.md")}, "note"),
    ],
)
def test_a_path_in_place_of_a_text_is_a_fault_that_says_how_it_is_read(record: Any, where: str) -> None:
    with pytest.raises(InputError, match=rf"record 0: {where} = .*read_text\(\)"):
        build({"custom_id": "a", **record})


COLUMNS = {"custom_id": ["a", "b"], "prompt": ["x", "y"], "score": [1.0, None]}


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS).set_index("custom_id"),
        pa.table(COLUMNS),
        pa.RecordBatch.from_pydict(COLUMNS),
        pa.table(COLUMNS).to_reader(),
    ],
    ids=lambda table: type(table).__name__,
)
def test_the_rows_of_a_table_are_records(table: Any) -> None:
    rows = [{"custom_id": "a", "prompt": "x", "score": 1.0}, {"custom_id": "b", "prompt": "y", "score": None}]
    assert list(read_records(table, {}, lambda _: None)) == rows  # type: ignore[arg-type]


def test_the_rows_of_a_callable_may_be_series_of_pandas() -> None:
    rows = pd.DataFrame(COLUMNS)
    records = list(read_records(lambda: (row for _, row in rows.iterrows()), {}, lambda _: None))  # type: ignore[arg-type]
    assert [build(record)["custom_id"] for record in records] == ["a", "b"]


@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_a_value_of_a_table_that_python_cannot_hold_costs_its_own_row_only(
    tmp_path: Path, library: str
) -> None:
    days = pa.array([0, 2**62, 1], pa.timestamp("s"))
    table: Any = pa.table({"prompt": ["x", "y", "z"], "day": days})
    if library == "pandas":
        table = table.to_pandas(types_mapper=pd.ArrowDtype)
    records = list(read_records(table, {}, lambda _: None))  # type: ignore[arg-type]
    folder = Folder.at(f"file://{tmp_path}/job")
    with pytest.raises(InputError, match=r"row 1 of the table.*make text of its column"):
        spool(records, folder, defaults=DEFAULTS)
    spooled = spool(records, folder, defaults=DEFAULTS, bad_fraction=0.5)
    assert [part.request_count for part in spooled.parts] == [2, 1]
    [rejected] = read_rejected(folder, spooled.parts[1].inputs)
    assert msgspec.json.decode(rejected.input) is None, "the row itself could not be read"


def test_a_map_of_an_arrow_table_is_an_object_as_in_a_file() -> None:
    maps = pa.array([[("a", 1), ("b", None)], None], pa.map_(pa.string(), pa.int64()))
    deeper = pa.array([{"m": [("x", "y")]}, None], pa.struct({"m": pa.map_(pa.string(), pa.string())}))
    numbers = pa.array([[(7, "x")], []], pa.map_(pa.int32(), pa.string()))
    table = pa.table({"maps": maps, "deeper": deeper, "numbers": numbers})
    assert list(read_records(table, {}, lambda _: None)) == [  # type: ignore[arg-type]
        {"maps": {"a": 1, "b": None}, "deeper": {"m": {"x": "y"}}, "numbers": {"7": "x"}},
        {"maps": None, "deeper": None, "numbers": {}},
    ]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_a_value_of_an_arrow_table_that_would_become_another_is_a_fault(values: Any) -> None:
    [row] = read_records(pa.table({"v": values}), {}, lambda _: None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="row 0 of the table"):
        build(row)


def test_a_callable_yields_tables_chunks_and_records() -> None:
    def source() -> Any:
        yield pd.DataFrame({"prompt": ["x"]})
        yield [{"prompt": "y"}, {"prompt": "z"}]
        yield {"prompt": "w"}

    records = list(read_records(source, {}, lambda _: None))  # type: ignore[arg-type]
    assert [record["prompt"] for record in records] == ["x", "y", "z", "w"]


@pytest.mark.parametrize(
    "table",
    [pd.DataFrame([["a", "b"]]), pd.DataFrame([[1, 2]], columns=["a", "a"])],
)
def test_a_table_without_names_is_refused(table: Any) -> None:
    with pytest.raises(InputError, match="name"):
        read_records(table, {}, lambda _: None)  # type: ignore[arg-type]


def some(bad: int, good: int) -> list[Any]:
    return [
        *({"custom_id": f"b{n}", "prompt": ""} for n in range(bad)),
        *({"prompt": f"{n}"} for n in range(good)),
    ]


def test_bad_records_are_put_aside_and_the_others_sent(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/job")
    records = [
        *some(1, 20),
        {"custom_id": "twice", "prompt": "1"},
        {"custom_id": "twice", "prompt": "2", "n": 5},
    ]
    spooled = spool(records, folder, defaults=DEFAULTS, bad_fraction=0.1)
    sent, rejected = spooled.parts
    assert (sent.request_count, rejected.request_count) == (21, 2)
    first, second = read_rejected(folder, rejected.inputs)
    assert (first.custom_id, first.error_type) == ("b0", "invalid_record")
    assert second.custom_id != "twice"
    assert "an earlier record has it too" in second.reason
    assert msgspec.json.decode(second.input) == {"n": 5}


def test_what_a_bad_record_without_a_key_is_called_no_other_is(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/job")
    records = [{"custom_id": 5, "prompt": "1"}, {"custom_id": "bad-record-0", "prompt": "2"}]
    sent, rejected = spool(records, folder, defaults=DEFAULTS, bad_fraction=0.5).parts
    [row] = read_rejected(folder, rejected.inputs)
    assert row.custom_id == "bad-record:0"
    assert "custom_id='name of a column'" in row.reason
    assert [custom_id for custom_id, _ in read_inputs(folder, sent.inputs)] == ["bad-record-0"]


def test_too_many_bad_records_fail_with_their_count(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 of 23 records are bad; bad_records allows a share of 0.1"):
        spool(some(3, 20), Folder.at(f"file://{tmp_path}/job"), defaults=DEFAULTS, bad_fraction=0.1)


def test_no_records_are_an_error_of_their_own_or_an_empty_job(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/job")
    with pytest.raises(EmptyInputError, match="on_empty"):
        spool([], folder, defaults=DEFAULTS)
    assert spool([], folder, defaults=DEFAULTS, may_be_empty=True).request_count == 0
