"""Reading what was delivered, through the functions that DAG authors call."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.io import attach

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output.inline import Inline
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.results import read_errored, read_succeeded, to_arrow, to_pandas
from tests.batches.delivering import deliver, delivery_to, submit_all
from tests.batches.s3 import S3

FOREVER = {"custom_ids": ["r-1", "r-5"], "error_type": "api_error"}
ONCE = {"custom_ids": ["r-2", "r-3"], "error_type": "overloaded_error", "tries": 1}
WAYS: dict[str, dict[str, Any]] = {
    "jsonl": {},
    "gzip": {"compression": "gzip"},
    "zstd": {"compression": "zstd"},
    "parquet": {"format": "parquet"},
}
FREE = {"anyOf": [{"type": "integer"}, {"type": "string"}, {"type": "boolean"}]}
BY_TEAM = "select input.team, sum(cost_usd), count(*), max(input.seats) from {} group by 1 order by 1"


def rows() -> list[dict[str, Any]]:
    """Columns of all kinds, the later ones in the second part only."""
    own: list[dict[str, Any]] = [
        {"seats": n, "tags": ["new"] * (n % 3), "odd": n or "none"} for n in range(6)
    ]
    own[5] |= {"address": {"city": "Köln", "since": None}, "seats": 0.5, "odd": {"n": [1]}}
    return [
        {"custom_id": f"r-{n}", "prompt": f"Hi {n}", "team": f"team-{n % 2}"} | columns
        for n, columns in enumerate(own)
    ]


def deliver_as(
    folder: Folder, root: Folder, api: BatchesApi, emulator: Emulator, *, output: Any = None, **how: Any
) -> dict[str, Any]:
    """Six requests in two parts; two fail for good, two are answered in a second round."""
    emulator.settings(outcomes={"failures": [FOREVER, ONCE]})
    url = submit_all(root, api, rows(), per_part=4)
    reading = how.pop("reading", Reading())
    delivery = delivery_to(
        Path(), api, output=output or open_directory(folder, **how), reading=reading, resubmit_rounds=1
    )
    return deliver(root, url, delivery, emulator)


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return open_folder((tmp_path / "out").as_uri())


def without_nulls(value: Any) -> Any:
    """Parquet has every key in every record; and of usage only the counts that each answer has."""
    if isinstance(value, dict):
        wanted = {key: without_nulls(own) for key, own in value.items() if own is not None}
        return {key: own for key, own in wanted.items() if not isinstance(own, str) or key != "service_tier"}
    return [without_nulls(own) for own in value] if isinstance(value, list) else value


def by_id(records: Any) -> dict[str, Any]:
    found = {}
    for record in records:
        usage = record.get("usage") or {}
        shown = {key: own for key, own in usage.items() if key in ("input_tokens", "output_tokens")}
        found[record["custom_id"]] = without_nulls({**record, "usage": shown})
    return found


@pytest.mark.parametrize("way", WAYS)
def test_every_format_reads_as_the_same_records(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder, tmp_path: Path, way: str
) -> None:
    summary = deliver_as(out, root, api, emulator, **WAYS[way])
    inline = deliver_as(out, root, api, emulator, output=Inline(1_000_000))
    assert summary["rounds"] == 2
    expected = {set_: by_id(inline[set_]) for set_ in ("succeeded", "errored")}
    assert sorted(expected["errored"]) == ["r-1", "r-5"]
    for read, set_ in ((read_succeeded, "succeeded"), (read_errored, "errored")):
        for where in (summary, out.url, tmp_path / "out", f"{out.url}/{set_}/", inline):
            assert by_id(read(where)) == expected[set_]
    wanted = {row["custom_id"]: row for row in rows()}
    for record in [*read_succeeded(summary), *read_errored(summary)]:
        row = wanted[record["custom_id"]]
        own = {key: value for key, value in row.items() if key not in ("custom_id", "prompt")}
        assert without_nulls(record["input"]) == without_nulls(own)


def test_raw_output_reads_as_the_apis_own_lines(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder
) -> None:
    summary = deliver_as(out, root, api, emulator, format="raw")
    lines = {line["custom_id"]: line["result"] for line in read_succeeded(summary)}
    assert sorted(lines) == ["r-0", "r-2", "r-3", "r-4"]
    assert all(line["message"]["role"] == "assistant" for line in lines.values())
    assert {line["result"]["error"]["error"]["type"] for line in read_errored(summary)} == {"api_error"}
    assert (
        to_arrow(summary).schema.field("result").type.field("message").type.field("role").type == pa.string()
    )


def test_paths_with_a_connection_are_read_by_it_and_stand_beside_plain_ones(
    root: Folder, api: BatchesApi, emulator: Emulator, s3: S3
) -> None:
    attach("s3", conn_id="store", fs=s3.folder("any").fs)
    place = "s3://store@bucket/reports"
    for way in ("gzip", "parquet"):
        summary = deliver_as(open_folder(place), root, api, emulator, **WAYS[way])
        assert summary["succeeded_path"] == f"{place}/succeeded"
        assert (summary["succeeded_uri"], summary["errored_uri"]) == (
            "s3://bucket/reports/succeeded",
            "s3://bucket/reports/errored",
        )
        assert len(list(read_succeeded(summary))) == len(list(read_succeeded(place))) == 4
        assert to_arrow(summary).num_rows == 4
    plain = {"endpoint_url": s3.url, "key": "k", "secret": "s"}
    assert len(pandas.read_parquet(summary["succeeded_uri"], storage_options=plain)) == 4


def test_what_is_not_there_or_not_complete_is_said_at_once(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder, tmp_path: Path
) -> None:
    with pytest.raises(ResultsError, match="holds no records"):
        read_succeeded(tmp_path / "elsewhere")
    summary = deliver_as(out, root, api, emulator)
    with pytest.raises(ResultsError, match="holds the errored records, not the succeeded ones"):
        read_succeeded(summary["errored_path"])
    slim = {key: None if key.endswith("_path") else value for key, value in summary.items()}
    with pytest.raises(ResultsError, match="neither succeeded_path nor succeeded records"):
        read_succeeded(slim)
    (tmp_path / "out" / "succeeded" / "part-00000.jsonl.tmp-1a2b").write_text("{half")
    assert len(list(read_succeeded(summary))) == 4
    out.remove_file("summary.json")
    with pytest.raises(ResultsError, match=r"no summary.json: the delivery into it has not ended"):
        read_succeeded(out.url)
    out.remove()
    with pytest.raises(ResultsError, match="holds no records"):
        read_succeeded(summary)


def test_duckdb_gets_equal_values_from_json_lines_and_from_typed_parquet(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    found = []
    for way, files in (("jsonl", "*.jsonl"), ("parquet", "*.parquet")):
        folder = open_folder((tmp_path / way).as_uri())
        summary = deliver_as(folder, root, api, emulator, **WAYS[way])
        where = f"'{summary['succeeded_uri']}/{files}'"
        found.append(duckdb.sql(BY_TEAM.format(where)).fetchall())
    assert found[0] == found[1]
    assert [(team, count) for team, _, count, _ in found[0]] == [("team-0", 3), ("team-1", 1)]
    both = f"read_parquet('{tmp_path}/parquet/*/part-*.parquet', union_by_name=true)"
    assert duckdb.sql(
        f"select count(*), max(input.seats), max(input.address.city) from {both}"
    ).fetchall() == [(6, 4.0, "Köln")]


def test_all_files_of_a_job_have_one_schema_whatever_its_parts_hold(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder, tmp_path: Path, caplog: Any
) -> None:
    with caplog.at_level("INFO"):
        summary = deliver_as(out, root, api, emulator, format="parquet")
    types = set()
    for set_ in ("succeeded", "errored"):
        parts = sorted((tmp_path / "out" / set_).glob("*.parquet"))
        assert len(parts) == 3, "two parts, and what was sent again of them"
        types |= {pq.read_schema(part).field("input").type for part in parts}
    [type_] = types
    assert {field.name: field.type for field in type_} == {
        "team": pa.string(),
        "seats": pa.float64(),
        "tags": pa.list_(pa.field("element", pa.string())),
        "odd": pa.string(),
        "address": pa.struct([("city", pa.string()), ("since", pa.string())]),
    }
    assert "input.odd (values of several types)" in caplog.text
    assert "Köln" not in caplog.text
    frame = pandas.read_parquet(summary["succeeded_uri"])
    assert {row["team"] for row in frame["input"]} == {"team-0", "team-1"}


@pytest.mark.parametrize("way", WAYS)
def test_pandas_gets_one_column_for_each_of_the_users_own(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder, way: str
) -> None:
    summary = deliver_as(out, root, api, emulator, **WAYS[way])
    frame = to_pandas(summary).set_index("custom_id")
    assert frame.groupby("input.team")["cost_usd"].count().to_dict() == {"team-0": 3, "team-1": 1}
    assert frame.loc["r-4", "input.seats"] == 4.0
    assert frame["usage.output_tokens"].dtype == pandas.Int64Dtype()
    errored = to_pandas(summary, "errored").set_index("custom_id")
    assert errored.loc["r-5", "input.address.city"] == "Köln"
    assert errored["retryable"].all()


def test_whole_numbers_stay_whole_in_pandas_where_some_are_missing(tmp_path: Path) -> None:
    record = {"custom_id": "r", "input": {"id": 2**53 + 1}}
    frame = to_pandas({"succeeded": [record, {"custom_id": "s", "input": None}], "succeeded_path": None})
    assert frame["input.id"].tolist() == [2**53 + 1, pandas.NA]
    assert to_pandas({"succeeded": []}).empty


def test_parsed_answers_read_alike_where_parquet_has_no_type_for_them(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder
) -> None:
    schema = OutputSchema.of({"type": "object", "properties": {"n": {"type": "integer"}, "free": FREE}})
    requests = [r | {"output_config": schema.output_config(), "max_tokens": 500} for r in rows()[:1]]
    url = submit_all(root, api, requests)
    output = open_directory(out, format="parquet", output_schema=schema.json_schema, include_message=True)
    reading = Reading(output_schema=schema, include_message=True)
    summary = deliver(root, url, delivery_to(Path(), api, output=output, reading=reading), emulator)
    [record] = read_succeeded(summary)
    answer = json.loads(record["text"])
    assert record["output"] == {"n": answer.get("n"), "free": answer.get("free")}
    assert record["message"]["role"] == "assistant"


def test_two_hundred_thousand_records_are_read_in_the_memory_of_a_few(tmp_path: Path) -> None:
    """Peak of a process that reads 200,000 records of 600 bytes, above what it was after a thousand."""
    line = {"text": "x" * 400, "model": "m", "usage": {"input_tokens": 1}, "input": {"team": "a", "n": 2**40}}
    for set_, name in (("succeeded", "part-00000.jsonl.gz"), ("errored", "part-00000.parquet")):
        (tmp_path / set_).mkdir()
        records = ({"custom_id": f"r-{number}", **line} for number in range(200_000))
        if name.endswith("gz"):
            with gzip.open(tmp_path / set_ / name, "wt", compresslevel=1) as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        else:
            few = pa.Table.from_pylist([next(records) for _ in range(2_000)])
            with pq.ParquetWriter(tmp_path / set_ / name, few.schema) as writer:
                for _ in range(100):
                    writer.write_table(few)
    (tmp_path / "summary.json").write_text("{}")
    script = """
import itertools, sys
from airflow_claude_batch.results import read_errored, read_succeeded

def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

for read in (read_succeeded, read_errored):
    assert len(list(itertools.islice(read(sys.argv[1]), 5_000))) == 5_000
    before = peak()
    assert sum(record["input"]["team"] == "a" for record in read(sys.argv[1])) == 200_000
    assert peak() - before < 20, (read, peak() - before)
assert "pandas" not in sys.modules
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    subprocess.run(command, check=True, timeout=100)


@pytest.mark.parametrize(
    ("call", "gone", "extra"),
    [
        ("to_arrow({'succeeded': []})", "pyarrow", "parquet"),
        ("to_pandas({'succeeded': []})", "pandas", "pandas"),
        ("to_pandas({'succeeded': []})", "pyarrow", "pandas"),
        ("list(read_succeeded(sys.argv[1]))", "pyarrow", "parquet"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, call: str, gone: str, extra: str
) -> None:
    (tmp_path / "succeeded").mkdir()
    pq.write_table(pa.table({"custom_id": ["r"]}), tmp_path / "succeeded" / "part-00000.parquet")
    (tmp_path / "summary.json").write_text("{}")
    script = f"""
import sys
sys.modules[{gone!r}] = None
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.results import read_succeeded, to_arrow, to_pandas
try:
    {call}
except ConfigurationError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    said = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout
    assert f"pip install 'airflow-claude-batch[{extra}]'" in said


@pytest.mark.parametrize("given", [None, "None", "", 5, [{"succeeded": [{"text": "private"}]}], b"/tmp/out"])
def test_what_is_no_summary_is_refused_by_its_kind(given: Any) -> None:
    for read in (read_succeeded, to_arrow):
        with pytest.raises(ResultsError, match="output of one results task") as raised:
            read(given)
        assert "private" not in str(raised.value)


def test_a_summary_is_read_as_text_and_by_its_file_too(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder
) -> None:
    summary = deliver_as(out, root, api, emulator)
    for given in (json.dumps(summary), str(summary), f"{out.url}/summary.json"):
        assert len(list(read_succeeded(given))) == 4
    with pytest.raises(ResultsError, match="is a file; give the directory that it is in"):
        read_succeeded(f"{out.url}/succeeded/part-00000.jsonl")


def test_the_directory_of_a_set_is_read_when_its_delivery_has_ended(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder
) -> None:
    deliver_as(out, root, api, emulator)
    assert len(list(read_succeeded(f"{out.url}/succeeded"))) == 4
    out.remove_file("summary.json")
    with pytest.raises(ResultsError, match=r"/out has no summary.json: the delivery .* has not ended"):
        read_succeeded(f"{out.url}/succeeded")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_a_file_that_is_cut_off_is_named(
    root: Folder, api: BatchesApi, emulator: Emulator, out: Folder, tmp_path: Path, way: str, keep: float
) -> None:
    deliver_as(out, root, api, emulator, **WAYS[way])
    file = max((tmp_path / "out" / "succeeded").iterdir(), key=lambda file: file.stat().st_size)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ResultsError, match=rf"{file.name} is cut off or damaged \(.*clear the results task"):
        list(read_succeeded(out.url))
    with pytest.raises(ResultsError, match=r"succeeded.* is cut off or damaged"):
        to_arrow(out.url)
