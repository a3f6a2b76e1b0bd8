from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.files import Broken, csv_rows, read_files
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.sources import Documents, Files

ROWS = [{"id": "1", "text": "one"}, {"id": "2", "text": 'a "quoted", value\nover two lines'}]


def read(*paths: Path) -> list[Any]:
    return list(read_files(Folder.at(f"file://{path}") for path in paths))


def write_csv(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: list[Any] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def compressed(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return target


def test_csv_jsonl_and_parquet_hold_the_same_rows(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read(write_csv(tmp_path / "a.csv")) == ROWS
    assert read(write_jsonl(tmp_path / "a.jsonl")) == ROWS
    assert read(tmp_path / "a.parquet") == ROWS


def test_gzipped_files_are_read_as_what_they_hold(tmp_path: Path) -> None:
    assert read(compressed(write_csv(tmp_path / "a.csv"))) == ROWS
    assert read(compressed(write_jsonl(tmp_path / "a.jsonl"))) == ROWS


def test_a_glob_and_a_directory_give_all_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", [{"n": 2}])
    write_jsonl(tmp_path / "a.jsonl", [{"n": 1}])
    (tmp_path / "day=2").mkdir()
    write_csv(tmp_path / "day=2" / "c.csv", [{"n": "3"}])
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden.jsonl").write_text("not JSON")
    (tmp_path / "readme.md").write_text("not data")

    assert read(tmp_path / "*.jsonl") == [{"n": 1}, {"n": 2}]
    assert read(tmp_path) == [{"n": 1}, {"n": 2}, {"n": "3"}]


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    second = write_jsonl(tmp_path / "a.jsonl", [{"n": 2}])
    assert read(write_jsonl(tmp_path / "b.jsonl", [{"n": 1}]), second) == [{"n": 1}, {"n": 2}]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid\n1\n")
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "1"}\n')
    assert read(tmp_path / "a.csv") == read(tmp_path / "a.jsonl") == [{"id": "1"}]


def test_tabs_separate_the_columns_of_a_tsv_file(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("id\ttext\n1\ta, b\n")
    assert read(tmp_path / "a.tsv") == [{"id": "1", "text": "a, b"}]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("missing.csv", "there is no such file"),
        ("*.csv", "no file matches"),
        ("empty", "the directory holds no file"),
        ("a.docx", "files end with .jsonl"),
    ],
)
def test_a_place_without_a_readable_file_is_an_error_that_names_it(
    tmp_path: Path, name: str, rule: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.docx").touch()
    with pytest.raises(InputError, match=rule) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_all_places_are_looked_up_before_the_first_row_is_read(tmp_path: Path) -> None:
    rows = read_files(
        Folder.at(f"file://{path}") for path in (write_csv(tmp_path / "a.csv"), tmp_path / "missing.csv")
    )
    with pytest.raises(InputError):
        next(rows)


def test_a_quote_that_is_never_closed_is_reported_with_the_line_where_its_row_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,fine\n2,"never closed\n3,swallowed\n')
    *rows, broken = read(tmp_path / "a.csv")
    assert rows == [{"id": "1", "text": "fine"}]
    assert broken.where.endswith("a.csv line 3")
    assert "quotes" in broken.rule


def test_a_quote_in_the_middle_of_a_field_is_reported_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\n1,"a" b\n')
    [broken] = read(tmp_path / "a.csv")
    assert broken.where.endswith("a.csv line 2")


def test_rows_with_too_few_or_too_many_fields_are_all_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1\n2,b\n3,c,d\n\n")
    short, fine, long = read(tmp_path / "a.csv")
    assert short.where.endswith("line 2")
    assert fine == {"id": "2", "text": "b"}
    assert (long.where[-6:], long.value) == ("line 4", "3 fields")


@pytest.mark.parametrize("content", ["\n", "id,id\n1,2\n"])
def test_a_csv_file_needs_distinct_column_names(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    [broken] = read(tmp_path / "a.csv")
    assert isinstance(broken, Broken)


def test_text_that_is_not_utf8_is_reported_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,text\n1,für\n".encode("latin-1"))
    [broken] = read(tmp_path / "a.csv")
    assert "UTF-8" in broken.rule


@pytest.mark.parametrize("line", ['{"id": 1', "[1, 2]", '"text"'])
def test_a_line_that_is_no_json_object_is_reported_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"id": 1}}\n\n{line}\n{{"id": 2}}\n')
    first, broken, last = read(tmp_path / "a.jsonl")
    assert (first, last) == ({"id": 1}, {"id": 2})
    assert broken.where.endswith("a.jsonl line 3")


def test_a_gzip_file_that_is_cut_off_is_reported(tmp_path: Path) -> None:
    rows = [{"n": number, "noise": hash(str(number))} for number in range(5000)]
    whole = compressed(write_jsonl(tmp_path / "a.jsonl", rows))
    whole.write_bytes(whole.read_bytes()[:-2000])
    assert "cut off" in read(whole)[-1].rule


def test_a_file_that_only_claims_to_be_parquet_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    [broken] = read(tmp_path / "a.parquet")
    assert "Parquet" in broken.rule


def test_what_is_wrong_in_the_files_is_reported_together_and_nothing_is_stored(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\nbroken\n{"prompt": "b"}\nbroken too\n')
    with pytest.raises(InputError) as caught:
        spool(
            read_files([Folder.at(f"file://{tmp_path}/a.jsonl")]),
            Folder.at(f"file://{tmp_path}/job"),
            defaults={"model": "m", "max_tokens": 1},
        )
    assert caught.value.total == 2
    assert [fault.index for fault in caught.value.faults] == [1, 3]


def test_reading_keeps_one_row_and_not_the_file_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "a.csv").open("w") as file:
        file.write("id,text\n")
        file.writelines(f"{number},{'x' * 500}\n" for number in range(60_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_files([Folder.at(f"file://{tmp_path}/a.csv")])) == 60_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def locate(url: str) -> Folder:
    return Folder.at(url)


def test_a_file_that_several_places_stand_for_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("text\nx\n")
    places = (f"file://{tmp_path}/", f"{tmp_path}/a.csv", f"file://{tmp_path}/../{tmp_path.name}/*.csv")
    assert list(Files(*places).read(locate)) == [{"text": "x"}, {"text": "x"}]


def test_a_source_names_its_uris_and_reads_nothing_until_it_is_asked() -> None:
    source = Files("s3://bucket/{{ ds }}/*.csv")
    assert str(source) == "Files('s3://bucket/{{ ds }}/*.csv')"
    with pytest.raises(ValueError, match="at least one URI"):
        Files()


def test_documents_are_records_named_by_their_path_below_the_directory(tmp_path: Path) -> None:
    (tmp_path / "2026").mkdir()
    (tmp_path / "2026" / "räport 1.pdf").write_bytes(b"%PDF-")
    (tmp_path / "note.md").write_text("text")
    (tmp_path / "data.csv").touch()

    def records(*uris: str, **options: Any) -> Iterator[dict[str, Any]]:
        return Documents(*uris, **options).read(locate)

    report, note = records(f"file://{tmp_path}")
    assert (report["name"], note["name"]) == ("2026/räport 1.pdf", "note.md")
    assert report["custom_id"].startswith("2026-r-port-1-pdf-")
    assert report["documents"] == [f"file://{tmp_path}/2026/räport 1.pdf"]
    [cited] = records(f"file://{tmp_path}/*.md", citations=True)
    assert cited["documents"] == [{"uri": f"file://{tmp_path}/note.md", "citations": True}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("shift", range(3))
def test_lines_end_where_they_end_wherever_the_file_is_cut_into_blocks(
    tmp_path: Path, end: str, shift: int
) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(n), "text": f"{'ä' * (n % 50)}{end}b" if n % 7 == 0 else "c" * n, "note": "d"}
        for n in range(700)
    ]
    lines = ["id,text,note", *(f'{row["id"]},"{row["text"]}",{row["note"]}' for row in rows)]
    lines[-1] = '699,"' + "c" * (699 + shift) + '",\\N'
    (tmp_path / "a.csv").write_bytes(("x" * shift + end.join(lines)).encode())
    rows[-1] |= {"text": "c" * (699 + shift), "note": None}
    name = "x" * shift + "id"
    assert read(tmp_path / "a.csv") == [
        {name: row["id"], "text": row["text"], "note": row["note"]} for row in rows
    ]


@pytest.mark.parametrize("line", [100, 7_000, 30_000])
def test_a_csv_row_is_measured_to_the_character_also_over_many_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 50_000)
    field = "".join("e" * (line - 1) + "\n" for _ in range(49_000 // line))
    longest = field + "f" * (50_000 - len('1,""\n') - len(field))
    before = "id,text\n" + "0,short\n" * 2_000
    (tmp_path / "a.csv").write_text(f'{before}1,"{longest}"\n2,"{longest}"\n')
    *_, first, second = read(tmp_path / "a.csv")
    assert first == {"id": "1", "text": longest}
    assert second == {"id": "2", "text": longest}
    (tmp_path / "a.csv").write_text(f'{before}1,"{longest}"\n2,"{longest}f"\n')
    *_, first, broken = read(tmp_path / "a.csv")
    assert first == {"id": "1", "text": longest}
    assert broken.where.endswith(f"a.csv line {2_002 + longest.count(chr(10)) + 1}")
    assert "50000 characters" in broken.rule
