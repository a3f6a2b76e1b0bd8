from __future__ import annotations

import datetime
import gc
import gzip
import json
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.result_lines import read_lines
from airflow_claude_batch.batches.cost.prices import Meter, PriceBook
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.classify import Classifier
from airflow_claude_batch.batches.results.download import Arrivals
from airflow_claude_batch.batches.results.moves import Moves
from airflow_claude_batch.batches.results.output import arrow_arrays as columns
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output.output_types import column_type
from airflow_claude_batch.batches.results.output.parquet import Parquet
from airflow_claude_batch.batches.results.output_records import ErroredRecord, SucceededRecord
from airflow_claude_batch.batches.results.sent_requests import UNKNOWN
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.results import read_errored
from tests.batches.delivering import contents, deliver, delivery_to, message_line, read_set, submit_all
from tests.batches.helpers import records

NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
FAILED = {"custom_ids": ["r-1"], "error_type": "api_error"}


def delivered(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    path: Path,
    *,
    reading: Reading | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Six requests in two parts, one of which failed."""
    emulator.settings(outcomes={"failures": [FAILED]})
    url = submit_all(root, api, records(6), per_part=4)
    output = open_directory(Folder.at(path.as_uri()), **how)
    delivery = delivery_to(path, api, output=output, reading=reading or Reading())
    return deliver(root, url, delivery, emulator)


def test_gzip_and_zstd_hold_the_same_records_as_plain_files(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    plain, gz, zstd = (tmp_path / name for name in ("plain", "gz", "zstd"))
    delivered(root, api, emulator, plain)
    delivered(root, api, emulator, gz, compression="gzip")
    delivered(root, api, emulator, zstd, compression="zstd")
    for name, data in contents(plain).items():
        if name == "progress.json":
            continue
        assert gzip.decompress((gz / f"{name}.gz").read_bytes()) == data
        with pa.CompressedInputStream(pa.OSFile(str(zstd / f"{name}.zst")), "zstd") as file:
            assert file.read() == data


def test_the_same_delivery_again_gives_the_same_bytes_compressed_too(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    for how in ({"compression": "gzip"}, {"format": "parquet"}):
        delivered(root, api, emulator, tmp_path / "a", **how)
        delivered(root, api, emulator, tmp_path / "b", **how)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


MARK_OF_THE_PART = re.compile(rb'_[a-z2-7]{10}"')


def test_raw_files_hold_the_apis_own_lines(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    summary = delivered(root, api, emulator, tmp_path / "out", format="raw")
    with api.results(summary["batch_ids"][0]) as blocks:
        lines = {MARK_OF_THE_PART.sub(b'"', line) for line in b"".join(blocks).split(b"\n") if line}
    part = [(tmp_path / "out" / set_ / "part-00000.jsonl").read_bytes() for set_ in ("succeeded", "errored")]
    assert {line for line in b"".join(part).split(b"\n") if line} == lines
    assert summary["cost"]["total_usd"] > 0


def test_files_of_another_format_are_replaced(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    delivered(root, api, emulator, tmp_path / "out")
    delivered(root, api, emulator, tmp_path / "out", format="parquet")
    assert {path.suffix for path in (tmp_path / "out").rglob("part-*")} == {".parquet"}


def test_parquet_has_typed_columns_also_where_a_set_is_empty(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    delivered(
        root,
        api,
        emulator,
        tmp_path / "out",
        format="parquet",
        include_message=True,
        reading=Reading(include_message=True),
    )
    delivered(root, api, emulator, tmp_path / "jsonl")
    table = pq.read_table(tmp_path / "out" / "succeeded")
    assert table.schema.field("cost_usd").type == pa.float64()
    assert table.schema.field("usage").type.field("input_tokens").type == pa.int64()
    expected = {record["custom_id"]: record for record in read_set(tmp_path / "jsonl", "succeeded")}
    for row in table.to_pylist():
        record = expected[row["custom_id"]]
        assert json.loads(row.pop("message"))["content"][0]["text"] == row["text"]
        usage = row.pop("usage")
        assert usage == {key: record["usage"][key] for key in usage}
        assert row == {key: record.get(key) for key in row}
    empty = pq.read_table(tmp_path / "out" / "errored" / "part-00001.parquet")
    assert empty.num_rows == 0
    assert empty.schema == pq.read_schema(tmp_path / "out" / "errored" / "part-00000.parquet")


def test_columns_are_what_pyarrow_makes_of_the_same_values() -> None:
    for make, type_, values in [
        (columns.texts, pa.string(), ["é".encode(), None, b"", b"x" * 70]),
        (columns.integers, pa.int64(), [1, None, -(2**62), 0]),
        (columns.numbers, pa.float64(), [0.25, None, 3]),
        (columns.booleans, pa.bool_(), [True, False, None] * 7),
        (columns.booleans, pa.bool_(), []),
    ]:
        for some in (values, [value for value in values if value is not None], [None] * 9):
            made = make(some, type_)  # type: ignore[operator]
            made.validate(full=True)
            assert made.equals(pa.array(some, type_))
    with pytest.raises(OverflowError):
        columns.integers([2**63], pa.int64())


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
def test_an_answer_that_waits_to_be_written_holds_nothing_of_its_block(tmp_path: Path, format: Any) -> None:
    """One answer a block of half a megabyte, as where nearly all requests fail."""
    message = {"content": [{"type": "text", "text": "a"}], "model": "claude-haiku-4-5", "usage": {}}
    results = [{"type": "succeeded", "message": message}, {"type": "expired", "filler": "x" * 500_000}]

    def arrivals(number: int) -> Arrivals:
        lines = [{"custom_id": f"r-{number}-{n}", "result": result} for n, result in enumerate(results)]
        block = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        return Arrivals(read_lines(block)[0], [UNKNOWN, UNKNOWN])

    with open_directory(Folder.at(tmp_path.as_uri()), format=format).part(0) as part:
        classifier = Classifier(
            reading=Reading(), writer=part, meter=Meter(PriceBook(NOW)), moves=Moves(round=1)
        )
        tracemalloc.start()
        for number in range(100):
            classifier.add(arrivals(number))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert classifier.tally.counts == {"succeeded": 100}
    assert held < 10_000_000


def test_writing_parquet_loads_no_pandas(tmp_path: Path) -> None:
    script = f"""
import sys, msgspec
from airflow_claude_batch.batches.results.output_records import SucceededRecord
from airflow_claude_batch.batches.api.result_lines import NOTHING, read_lines
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.results.output.directory import open_directory
record = SucceededRecord("r-1", msgspec.Raw(b'"a"'), "end_turn", None, None, None)
with open_directory(Folder.at({tmp_path.as_uri()!r}), format="parquet").part(0) as part:
    part.succeeded.add([record])
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert pq.read_table(tmp_path / "succeeded").num_rows == 1


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "stars": {"type": "integer"},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "owner": {"$ref": "#/$defs/owner"},
        "kind": {"enum": ["a", "b"]},
        "maybe": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "free": {"type": "object"},
    },
    "$defs": {
        "owner": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "boss": {"$ref": "#/$defs/owner"}},
        }
    },
}


def test_the_output_column_has_the_type_that_the_schema_describes() -> None:
    type_, convert = column_type(SCHEMA)
    fields = {field.name: field.type for field in type_}
    assert fields["stars"] == pa.int64()
    assert fields["score"] == pa.float64()
    assert fields["tags"] == pa.list_(pa.string())
    assert fields["owner"] == pa.struct([("name", pa.string()), ("boss", pa.string())])
    assert fields["kind"] == pa.string()
    assert fields["maybe"] == pa.bool_()
    value = {
        "stars": 3,
        "score": 1,
        "tags": ["x"],
        "owner": {"name": "n", "boss": {"name": "b"}},
        "kind": "a",
        "free": {"any": [1]},
    }
    assert convert is not None
    [row] = pa.array([convert(value)], type_).to_pylist()
    assert row == value | {
        "score": 1.0,
        "owner": {"name": "n", "boss": '{"name":"b"}'},
        "free": '{"any":[1]}',
        "maybe": None,
    }


def test_parquet_holds_parsed_answers(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    schema = OutputSchema.of({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
    rows = [r | {"output_config": schema.output_config(), "max_tokens": 500} for r in records(3)]
    url = submit_all(root, api, rows)
    output = open_directory(
        Folder.at((tmp_path / "out").as_uri()), format="parquet", output_schema=schema.json_schema
    )
    delivery = delivery_to(tmp_path, api, output=output, reading=Reading(output_schema=schema))
    deliver(root, url, delivery, emulator)
    table = pq.read_table(tmp_path / "out" / "succeeded")
    assert table.schema.field("output").type == pa.struct([("n", pa.int64())])
    assert all(isinstance(row["output"]["n"], int) for row in table.to_pylist())


WIDE_NUMBERS = [
    ({"type": "integer"}, "36893488147419103232"),
    ({"type": ["integer", "null"]}, "-9223372036854775809"),
    ({"type": "number", "format": "decimal"}, "1e25"),
    ({"type": "array", "items": {"type": "integer"}}, "[1, 9223372036854775808]"),
    ({"type": "object", "properties": {"id": {"type": "integer"}}}, '{"id": 9223372036854775808}'),
    ({"type": "integer"}, "123456789012345e9"),  # pragma: allowlist secret
    ({"type": "number", "format": "decimal"}, "123456789012345e9"),  # pragma: allowlist secret
    ({"type": "number", "format": "decimal", "decimalPlaces": 30}, "123456789.5"),
    ({"type": "number"}, "9007199254740993"),
    ({"type": "number", "format": "decimal"}, "12345678901234567.89"),
    ({"type": "number", "format": "decimal", "decimalPlaces": 2}, "0.005"),
    ({"type": "string", "format": "date-time"}, '"9999-12-31T23:59:59-05:00"'),
    ({"type": "string", "format": "date-time"}, '"0001-01-01T00:00:00+01:00"'),
]
"""Fields, and values that fit them and not their columns."""
KEPT_NUMBERS = [
    ({"type": "number"}, "9007199254740992"),
    ({"type": "number", "format": "decimal"}, "12345678901234567890"),
    ({"type": "number", "format": "decimal"}, "0.6666666666666666"),
    ({"type": "number", "format": "decimal", "decimalPlaces": 2}, "1.50"),
]
"""The same, and their columns too."""


def test_parquet_has_every_field_of_a_record(tmp_path: Path) -> None:
    output = open_directory(
        Folder.at(tmp_path.as_uri()), format="parquet", include_message=True, include_reused=True
    )
    with output.part(0) as part:
        part.succeeded.add([SucceededRecord("r-1", msgspec.Raw(b'"a"'), "end_turn", None, None, None)])
        part.errored.add([ErroredRecord(custom_id="r-2", outcome="expired")])
    for name, record in (("succeeded", SucceededRecord), ("errored", ErroredRecord)):
        [file] = (tmp_path / name).glob("*.parquet")
        assert set(pq.read_schema(file).names) == set(record.__struct_fields__)


@pytest.mark.parametrize(("field", "value"), KEPT_NUMBERS)
def test_a_number_that_parquet_holds_whole_fits(field: dict[str, Any], value: str) -> None:
    schema = {"type": "object", "properties": {"n": field}}
    format = Parquet(None, schema, include_message=False, include_reused=False)
    text = f'{{"n": {value}}}'
    assert format.misfit(msgspec.json.decode(text), text) is None


@pytest.mark.parametrize(("field", "value"), WIDE_NUMBERS)
def test_a_number_that_parquet_does_not_hold_costs_its_own_record_only(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, field: dict[str, Any], value: str
) -> None:
    schema = OutputSchema.of({"type": "object", "properties": {"n": field}, "required": ["n"]})
    rows = [r | {"output_config": schema.output_config(), "max_tokens": 500} for r in records(3)]
    url = submit_all(root, api, rows)
    line = message_line("r-1", [{"type": "text", "text": f'{{"n": {value}}}'}], "end_turn")
    emulator.fault("raw_lines", times=None, lines=[line], position="start")
    for format, failed in (("parquet", {"r-1"}), ("jsonl", set())):
        output = open_directory(
            Folder.at((tmp_path / format).as_uri()), format=format, output_schema=schema.json_schema
        )
        delivery = delivery_to(tmp_path, api, output=output, reading=Reading(output_schema=schema))
        summary = deliver(root, url, delivery, emulator)
        errored = list(read_errored(summary))
        assert {record["custom_id"] for record in errored} == failed
        for record in errored:
            assert record["outcome"] == "invalid"
            assert "does not fit into Parquet" in record["message"]
            assert value.strip('"') in str(record["result"])


@pytest.mark.parametrize(("format", "file"), [("jsonl", "*.jsonl"), ("parquet", "*.parquet")])
def test_records_are_readable_with_one_line_of_duckdb_or_pandas(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any, file: str
) -> None:
    import duckdb
    import pandas

    delivered(root, api, emulator, tmp_path / "out", format=format)
    where = str(tmp_path / "out" / "succeeded")
    assert duckdb.sql(f"SELECT count(*), sum(usage.output_tokens) > 0 FROM '{where}/{file}'").fetchall() == [
        (5, True)
    ]
    read = (
        pandas.read_parquet
        if format == "parquet"
        else lambda path: pandas.read_json(f"{path}/part-00000.jsonl", lines=True)
    )
    assert "text" in read(where).columns


@pytest.mark.parametrize("how", [{"format": "csv"}, {"compression": "brotli"}])
def test_formats_that_there_are_not_are_named(tmp_path: Path, how: Any) -> None:
    with pytest.raises(ConfigurationError, match="output_format is 'jsonl', 'parquet'"):
        open_directory(Folder.at(tmp_path.as_uri()), **how)


@pytest.mark.parametrize(
    "how",
    [{"format": "parquet"}, {"compression": "gzip"}, {"compression": "zstd"}, {}],
    ids=lambda how: "-".join(how.values()) or "jsonl",
)
def test_a_part_that_fails_leaves_nothing_open_behind(
    tmp_path: Path, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    output = open_directory(Folder.at(tmp_path.as_uri()), **how)
    output.begin()
    with pytest.raises(RuntimeError, match="cut off"), output.part(0):
        raise RuntimeError("cut off")
    gc.collect()
    assert said == []
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
