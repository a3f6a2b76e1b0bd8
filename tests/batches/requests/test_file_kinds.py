"""Files as people have them: each is taken with its content, or refused by a fault that says where."""

# ruff: noqa: E501  # tables

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import io
import json
import logging
import lzma
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import orc, parquet

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.files import Broken, ReadOptions, find_all, read_files
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.sources import Files

ONE = [{"id": "1", "text": "a"}]
TWO = [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c"}]


def read(folder: Path, name: str, content: str | bytes, **options: Any) -> list[Any]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_files([Folder.at(f"file://{path}")], ReadOptions(**options)))


def refusal(rows: list[Any]) -> Broken:
    last = rows[-1]
    assert isinstance(last, Broken), last
    return last


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id;text\n1;a, b\n2;c\n", TWO),
        ("id\ttext\n1\ta, b\n2\tc\n", TWO),
        ("id|text\r\n1|a, b\r\n2|c\r\n", TWO),
        ("sep=;\nid;text\n1;a, b\n2;c\n", TWO),
        ('"sep=\t"\nid\ttext\n1\ta, b\n2\tc\n', TWO),
        ('id, text\n1, "a, b"\n2, "c"\n', TWO),
        ('"id", "text"\n"1", "a, b"\n"2", "c"\n', TWO),
        ("id, text\n1, a\n", ONE),
        ("'id','text'\n'1','a, b'\n'2','c'\n", TWO),
        ("id,text,\n1,a\n", ONE),
        ("id,text,\n1,a,\n", ONE),
        ('id,text\n1,"a, b",\n2,c,\n', TWO),
        ("\n\n   \n,,\nid,text\n1,a\n", ONE),
        ("id,text\r1,a\r", ONE),
        ("id,text\n,\n1,a\n,\n,,,\n", ONE),
        ('id,text,\n1,"a, b",\n,,\n2,c,\n', TWO),
        ('id;"text, in full"\n1;a\n', [{"id": "1", "text, in full": "a"}]),
        ('id,size 5"\n1,a\n', [{"id": "1", 'size 5"': "a"}]),
        ("id,text\n1,\\N\n2,b\n", [{"id": "1", "text": None}, {"id": "2", "text": "b"}]),
        ('id,text\n1,"say \\"hi\\", now"\n', [{"id": "1", "text": 'say "hi", now'}]),
        ('"id"|"text"\n"1"|"a \\"q\\" b"\n', [{"id": "1", "text": 'a "q" b'}]),
        (
            "id\ttext\n1\t\\N\n2\ta\\tb\\nc\\\\\n",
            [{"id": "1", "text": None}, {"id": "2", "text": "a\tb\nc\\"}],
        ),
        ('"id","text"\n"1",\\N\n', [{"id": "1", "text": None}]),
        ('id,text\n1,"say ""hi"", you"\n2,"C:\\dir\\"\n', None),
        ("id,text\n1,a\u2028b\x0bc\n", [{"id": "1", "text": "a\u2028b\x0bc"}]),
        ("id,text\n1,ä\n".encode("utf-16"), [{"id": "1", "text": "ä"}]),
        ("id,text\n1,ä\n".encode("utf-16-le"), [{"id": "1", "text": "ä"}]),
        ("id,text\n1,ä\n".encode("utf-32"), [{"id": "1", "text": "ä"}]),
    ],
)
def test_the_kind_of_csv_is_found_out(tmp_path: Path, content: str | bytes, rows: list[Any] | None) -> None:
    expected = rows or [{"id": "1", "text": 'say "hi", you'}, {"id": "2", "text": "C:\\dir\\"}]
    assert read(tmp_path, "a.csv", content) == expected


@pytest.mark.parametrize(
    ("title", "found", "below"),
    [
        ("Tickets of October\n", "1 field", "3 below line 1"),
        ("Tickets of October, 2026\n", "2 fields", "3 below line 1"),
        ("Tickets\n\n", "1 field", "3 below line 1"),
        ("# Tickets, of, October, 2026\n", "4 fields", "3 below line 1"),
        ("Tickets\nas of 2026\n", "1 field", "3 below lines 1 to 2"),
        ("Tickets, urgent\nas of 2026\n", "", "3 below lines 1 to 2"),
        ("Tickets;;\n", "1 name for 3 columns", ""),
        ("sep=;\nTickets\n", "1 field", "3 below line 1"),
    ],
)
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_title_above_the_names_of_the_columns_is_named_as_such(
    tmp_path: Path, title: str, found: str, below: str, mark: str
) -> None:
    title = title.replace(";;", 2 * mark).replace("sep=;", f"sep={mark}")
    rows = "id;text;lang\n1;a;en\n2;b;en\n".replace(";", mark)
    [broken] = read(tmp_path, "a.csv", title + rows)
    if not (mark != "," and "," in title):  # then it is a single field
        assert found in broken.value
    assert broken.where.endswith("a.csv line 1")
    assert "where that is a title, take away what is above the names" in broken.rule
    assert below in broken.rule
    assert "say delimiter=" not in broken.rule
    assert len(read(tmp_path, "a.csv", rows)) == 2


@pytest.mark.parametrize(
    "content",
    [
        "text\nHello\nBye, you\nSee, me\n",
        "text\n" + "Hello\n" * 6 + "Bye, you\n" * 9,
        "text,\nHello,\nBye,\n",
        ",text\n0,Hello\n1,Bye\n",
    ],
)
def test_what_only_looks_like_a_title_is_taken(tmp_path: Path, content: str) -> None:
    rows = read(tmp_path, "a.csv", content)
    assert len(rows) == content.count("\n") - 1
    assert all(isinstance(row, dict) and "text" in row for row in rows)


@pytest.mark.parametrize(
    ("content", "options", "rows"),
    [
        ("id,text\n1,für\n".encode("cp1252"), {"encoding": "cp1252"}, [{"id": "1", "text": "für"}]),
        ("id,text\n1,část\n".encode("cp1250"), {"encoding": "cp1250"}, [{"id": "1", "text": "část"}]),
        ("id,text\n1,für\n".encode("utf-8-sig"), {"encoding": "cp1252"}, [{"id": "1", "text": "für"}]),
        ("id,text\n1,für\n".encode("utf-16-le"), {"encoding": "utf-16"}, [{"id": "1", "text": "für"}]),
        ("id,text\n1,für\n".encode("utf-16-be"), {"encoding": "utf-16"}, [{"id": "1", "text": "für"}]),
        ("id,text\n1,часть\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, [{"id": "1", "text": "часть"}]),
        ("id^text\n1^a\n", {"delimiter": "^"}, ONE),
        (
            "id,text\n1,\\N\n2,C:\\temp\n",
            {"escape": "", "columns": ["text"]},
            [{"text": None}, {"text": "C:\\temp"}],
        ),
        (
            "id,text\n1,\\N\n2,a\\tb\n",
            {"escape": "\\", "columns": ["text"]},
            [{"text": None}, {"text": "a\tb"}],
        ),
        ("text\nhello, x\nb, y\n", {"delimiter": "\t"}, [{"text": "hello, x"}, {"text": "b, y"}]),
        ("1;a\n", {"header": ["id", "text"]}, ONE),
        ("id;x;text\n1;2;a\n", {"columns": ["text"]}, [{"text": "a"}]),
        ("id,text\n1,\n2,NULL\n", {"nulls": ["", "NULL"], "columns": ["text"]}, [{"text": None}] * 2),
        ('id\ttext\n1\t"hi" he said\n', {"quote": ""}, [{"id": "1", "text": '"hi" he said'}]),
    ],
)
def test_what_is_said_of_csv_is_not_found_out(
    tmp_path: Path, content: str | bytes, options: dict[str, Any], rows: list[Any]
) -> None:
    assert read(tmp_path, "a.csv", content, **options) == rows


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("text\nhello; x\nb; y\n", "title.*; where ';' is text, say a delimiter=… that does not occur"),
        (
            "text\nhello, x\nb, y, z\n",
            "one column, but ',' in every row: .*say a delimiter=… that does not occur",
        ),
        ("id^text\n1^a\n2^b\n", r"say delimiter='\^'"),
        ("a,b;c\n1,2;3\n4,5;6\n", "say which delimiter"),
        ("id,text\n1,für\n".encode("cp1252"), "encoding='cp1252'"),
        ('"id;text"\n"1;a"\n"2;b"\n', "';' in every row: take the quotes around whole rows away"),
        (b"id,text\n1,\0a\n", "is no text"),
        ("id,text\n" + "1,a\n" * 99_999 + "2,\0\n", "is no text"),
        ("номер,текст\n1,раз\n".encode("utf-16-le"), "say encoding='utf-16-le' or 'utf-16-be'"),
        ("id,text,\n1,a,x\n", "each column has a name"),
        ("id,text\n1,\\N\n2,C:\\temp\n", r"escape='' or escape='\\\\'"),
        (" \n\n", "names the columns"),
        ("id,text\n" + "1,a\n" * 99_999 + '2, "b"\n', "take the blank"),
        ("id,text\n" + "1,a\n" * 99_999 + "2,b,c\n", "2 fields"),
        (b"PK\x03\x04 and no workbook", "no Excel workbook"),
    ],
)
def test_csv_that_cannot_be_told_is_refused(tmp_path: Path, content: str | bytes, rule: str) -> None:
    import re

    assert re.search(rule, refusal(read(tmp_path, "a.csv", content)).rule)


def test_an_encoding_of_two_byte_orders_is_refused_where_the_file_shows_none(tmp_path: Path) -> None:
    data = "номер,текст\n1,раз\n".encode("utf-16-le")
    for name in ("a.csv", "a.jsonl"):
        broken = refusal(read(tmp_path, name, data, encoding="utf-16"))
        assert "say encoding='utf-16-le' or encoding='utf-16-be'" in broken.rule


@pytest.mark.parametrize("mark", [",", "\t"])
@pytest.mark.parametrize(
    ("first", "last"), [("\\N", "C:\\new"), ("C:\\new", "\\N"), ("\\N", "C:\\New")], ids=lambda field: field
)
@pytest.mark.parametrize("rows", [0, 150, 20_000])
def test_a_backslash_beside_missing_values_is_nothing_to_guess_wherever_both_stand(
    tmp_path: Path, first: str, last: str, rows: int, mark: str
) -> None:
    between = "".join(f"{number},some text\n" for number in range(rows))
    content = f"id,text\na,{first}\n{between}b,{last}\n".replace(",", mark)
    found = read(tmp_path, "a.csv", content)
    if mark == "\t" and last != "C:\\New" and (first == "\\N" or rows == 0):  # databases with tabs escape
        assert found[-1]["text"] in ("C:\new", None)
    else:
        assert "say escape=" in refusal(found).rule
    kept = read(tmp_path, "a.csv", content, escape="")
    assert [kept[0]["text"], kept[-1]["text"]] == [None if text == "\\N" else text for text in (first, last)]


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ('"a","C:\\\\new"', None),
        ("C:\\new,a", None),
        ('"a ""b"" c","C:\\new"', "C:\\new"),
        ('"a","C:\\data"', "C:\\data"),
        ('"a, \\"b\\"","C:\\\\new"', "C:\\new"),
    ],
)
def test_a_backslash_beside_missing_values_is_nothing_to_guess_in_quotes_either(
    tmp_path: Path, row: str, right: str | None
) -> None:
    found = read(tmp_path, "a.csv", f'id,text\n"x",\\N\n{row}\n')
    if right is None:
        assert "say escape=" in refusal(found).rule
    else:
        assert [found[0]["text"], found[1]["text"]] == [None, right]


@pytest.mark.parametrize("rows", [1, 20_000])
@pytest.mark.parametrize(
    "row",
    ["C:\\new,1", '"C:\\data",1', '"C:\\New",1', '"two\nlines",C:\\new', '"two\n\\\\, ",C:\\new', "it\\'s,1"],
)
def test_escapes_on_the_first_rows_do_not_change_what_is_text_further_on(
    tmp_path: Path, rows: int, row: str
) -> None:
    escaped = '"say \\"hi\\", now",\\N\n"two\n\\\\ lines","it\\\\s"\n'
    good = "id,text\n" + rows * escaped
    assert len(read(tmp_path, "a.csv", good)) == 2 * rows
    assert "say escape=" in refusal(read(tmp_path, "a.csv", f"{good}{row}\n")).rule
    assert len(read(tmp_path, "a.csv", f"{good}{row}\n", escape="\\")) == 2 * rows + 1


SPECTRUM: dict[str, tuple[str, Any]] = {
    "comma_in_quotes": (
        'first,address\nJohn,"120 any st., Anytown, WW"\n',
        {"address": "120 any st., Anytown, WW"},
    ),
    "empty": ('a,b,c\n1,"",""\n2,3,4\n', {"a": "1", "b": "", "c": ""}),
    "empty_crlf": ('a,b,c\r\n1,"",""\r\n2,3,4\r\n', {"a": "1", "b": "", "c": ""}),
    "escaped_quotes": ('a,b\n1,"ha ""ha"" ha"\n3,4\n', {"b": 'ha "ha" ha'}),
    "json": (
        'key,val\n1,"{""type"": ""Point"", ""x"": [102.0, 0.5]}"\n',
        {"val": '{"type": "Point", "x": [102.0, 0.5]}'},
    ),
    "location_coordinates": (
        'Contact Phone Number,Location\n"8675309","12°N, 45°W"\n',
        {"Location": "12°N, 45°W"},
    ),
    "newlines": ('a,b,c\n1,2,3\n"Once upon \na time",5,6\n', {"a": "1", "b": "2", "c": "3"}),
    "newlines_crlf": ('a,b,c\r\n"Once upon \r\na time",5,6\r\n', {"a": "Once upon \r\na time"}),
    "quotes_and_newlines": ('a,b\n1,"ha \n""ha"" \nha"\n3,4\n', {"b": 'ha \n"ha" \nha'}),
    "simple": ("a,b,c\n1,2,3\n", {"a": "1", "b": "2", "c": "3"}),
    "simple_crlf": ("a,b,c\r\n1,2,3\r\n", {"a": "1", "b": "2", "c": "3"}),
    "utf8": ("a,b,c\n1,2,3\n4,5,ʤ\n", {"a": "1", "b": "2", "c": "3"}),
}


@pytest.mark.parametrize("name", SPECTRUM)
def test_the_kinds_of_csv_spectrum_are_taken(tmp_path: Path, name: str) -> None:
    content, expected = SPECTRUM[name]
    rows = read(tmp_path, "a.csv", content)
    assert not any(isinstance(row, Broken) for row in rows)
    assert {key: rows[0][key] for key in expected} == expected


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1}\n{"a": "]}"}\n',
        '[{"a": 1},\n {"a": "]}"}]\n',
        '[{"a": 1}, {"a": "]}"}]'.encode("utf-16"),
        b'\xef\xbb\xbf[{"a": 1}, {"a": "]}"}]',
        '{\n  "a": 1\n}\n{\n  "a": "]}"\n}\n',
        '{"a": 1}{"a": "]}"}',
    ],
)
def test_json_files_are_lines_arrays_or_records_one_after_the_other(
    tmp_path: Path, content: str | bytes
) -> None:
    assert read(tmp_path, "a.json", content) == [{"a": 1}, {"a": "]}"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize(
    "content",
    [
        '[{"a": 1}, {"a": 2}]',
        '\ufeff[\n  {"a": 1},\n  {"a": 2}\n]\n',
        '{"a": 1}\n{"a": 2}\n',
        '{\n"a": 1\n}{"a": 2}',
    ],
)
def test_json_under_the_name_of_csv_is_no_csv_without_rows(tmp_path: Path, name: str, content: str) -> None:
    assert read(tmp_path, name, content) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("content", ["[a],b\n1,2\n", "{a},b\n1,2\n"])
def test_a_bracket_does_not_make_json_of_csv(tmp_path: Path, content: str) -> None:
    [row] = read(tmp_path, "a.csv", content)
    assert list(row.values()) == ["1", "2"]


def test_json_is_a_column_of_csv_where_somebody_says_so(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", '{"a": 1}\n{"a": 2}\n', header=["a"], delimiter="\t")
    assert rows == [{"a": '{"a": 1}'}, {"a": '{"a": 2}'}]


@pytest.mark.parametrize(
    "content",
    [
        '{"id": [1, 2], "text": ["one", "two"]}',
        '{"id": {"3": 1, "7": 2}, "text": {"3": "one", "7": "two"}}',
        '{"text": {"0": "one", "1": "two"}}',
        '{"columns": ["id", "text"], "index": [0, 1], "data": [[1, "one"], [2, "two"]]}',
        '{"data": [{"id": 1}, {"id": 2}]}',
    ],
)
def test_one_object_that_holds_columns_is_no_record(tmp_path: Path, content: str) -> None:
    assert "record" in refusal(read(tmp_path, "a.json", content)).rule


@pytest.mark.parametrize(
    "content",
    [
        '{"id": 1, "tags": ["x", "y"]}',
        '{"en": {"title": "x"}, "de": {"title": "y"}}',
        '{"a": [1], "b": [2]}',
        "{}",
    ],
)
def test_one_object_of_another_kind_is_a_record(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, "a.json", content) == [json.loads(content)]


# As JSONTestSuite names them: what a parser must take (y), must refuse (n), may do either with (i).
TAKEN = [
    '"x"', '"\\u0060\\u012a\\u12AB"', '"\\uD801\\udc37"', '"\\"\\\\\\/\\b\\f\\n\\r\\t"', '"\\u0000"', '"\x7f"', "-0", "1E22",
    "123e-10", "-123123123123123123123123123", "[]", '{"":0}', '{"a":"b","a":"c"}', "[[],{}]", "true", "null", '"\u2028"', '"asd "',
]  # fmt: skip
REFUSED = [
    "1,,2", "[1 true]", "[a", "[1:2]", "[,1]", "[1,]", "[-1.0.]", "[2.e3]", "[.5]", "[+1]", "[0x1]", "[NaN]", "[Infinity]", "[012]",
    "[1e]", "[1_0]", '["\\uD800\\u"]', '["\\x00"]', "['a']", '["\t"]', '["\\a"]', '{"a":1,}', '{a:1}', '{"a" "b"}', '{"a":"b"}}',
    '{1:1}', "[\x0c]", "[nul]", "[True]", "[1}", "<null>", "", '{"a":/*c*/1}', "[\u2060]", '"\\', '"a', "[-]", '["\\ud800"]',
]  # fmt: skip
WAYS: list[Callable[[str], tuple[str, str]]] = [
    lambda value: ("a.jsonl", f'{{"x": {value}}}\n{{"x": 2}}\n'),
    lambda value: ("a.json", f'[{{"x": {value}}}, {{"x": 2}}]'),
    lambda value: ("a.json", f'{{\n"x": {value}}}\n{{"x": 2}}'),
]


@pytest.mark.parametrize("way", WAYS, ids=["lines", "array", "records"])
def test_json_is_taken_as_its_standard_says_and_nothing_else(
    tmp_path: Path, way: Callable[[str], tuple[str, str]]
) -> None:
    for value in TAKEN:
        assert read(tmp_path, *way(value)) == [{"x": json.loads(value)}, {"x": 2}], value
    for value in REFUSED:
        rows = read(tmp_path, *way(value))
        assert any(isinstance(row, Broken) for row in rows), value
        assert all(row == {"x": 2} for row in rows if not isinstance(row, Broken)), value


@pytest.mark.parametrize(
    "content",
    [
        *(
            '[{"a": 1},]',
            '[,{"a": 1}]',
            '[{"a": 1}',
            '[{"a": 1}}',
            '[{"a": 1}] x',
            '[{"a": 1}]]',
            '[{"a": 1]',
            "[",
        ),
        *(
            "[" * 100_000,
            '{"a":' * 100_000,
            f'[{{"a":{"[" * 100_000 + "]" * 100_000}}}]',
            "123",
            '"text"',
            "[1, 2]",
            "nul",
        ),
        *(
            '{"data": [{"a": 1}]}',
            '{"a": {"0": 1, "1": 2}, "b": {"0": 1, "1": 2}}',
            b'[{"a": "\xff"}]',
            b"\xff\xfe[\0{",
            "[\0]",
        ),
    ],
)
def test_json_that_holds_no_records_is_refused(tmp_path: Path, content: str | bytes) -> None:
    for name in ("a.json", "a.jsonl"):
        rows = read(tmp_path, name, content)
        taken_as_lines = name == "a.jsonl" and isinstance(content, str) and content.startswith('{"')
        assert taken_as_lines or any(isinstance(row, Broken) for row in rows)


def test_an_array_of_records_larger_than_what_is_read_at_a_time_is_cut_right(tmp_path: Path) -> None:
    rows = [
        {"n": number, "text": 'x"\\]}[{,' * (number % 97), "deep": [{"a": [number]}]}
        for number in range(9000)
    ]
    assert read(tmp_path, "a.json", json.dumps(rows)) == rows
    assert read(tmp_path, "a.json", json.dumps(rows, indent=2)) == rows


def zstd(data: bytes) -> bytes:
    target = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(target, "zstd") as stream:
        stream.write(data)
    return bytes(target.getvalue())


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd)],
)
def test_a_compressed_file_is_known_by_its_content(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    rows = [{"n": number, "noise": random.random()} for number in range(20_000)]
    plain = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data = compress(plain)
    assert read(tmp_path, f"a.jsonl.{suffix}", data) == rows
    assert read(tmp_path, "a.jsonl", data) == rows
    assert read(tmp_path, f"a.jsonl.{suffix}", plain) == rows
    cut = refusal(read(tmp_path, f"a.jsonl.{suffix}", data[: len(data) * 2 // 3]))
    assert "damaged or cut off" in cut.rule
    assert cut.ends


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.jsonl"])
def test_a_file_of_no_bytes_has_no_rows(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, name, gzip.compress(b"") if name.endswith(".gz") else b"") == []


def test_every_guess_is_logged_once_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read(tmp_path, "a.csv", gzip.compress("id;text\n1;\\N\n2;\\N\n".encode("utf-16")))
    [line] = [record.getMessage() for record in caplog.records if "a.csv" in record.getMessage()]
    for guess in ("compression gzip", "encoding utf-16", "delimiter=';'"):
        assert guess in line


def stored(table: pyarrow.Table) -> bytes:
    target = io.BytesIO()
    parquet.write_table(table, target)
    return target.getvalue()


def column(numbers: list[int | None], type_: Any, bits: int = 64) -> Any:
    return pyarrow.array(numbers, pyarrow.int32() if bits == 32 else pyarrow.int64()).view(type_)


FAR = 253_402_300_800  # seconds to the year 10000
VALUES: dict[str, tuple[Any, list[Any]]] = {
    "text without its mark": (pyarrow.array([b"abc", "ü".encode(), None]), ["abc", "ü", None]),
    "dates": (column([0, 2932897, None], pyarrow.date32(), 32), ["1970-01-01", "10000-01-01", None]),
    "moments": (
        column([1, FAR * 10**6], pyarrow.timestamp("us")),
        ["1970-01-01T00:00:00.000001", "10000-01-01T00:00:00"],
    ),
    "nanoseconds": (
        column([1, 1500], pyarrow.timestamp("ns")),
        ["1970-01-01T00:00:00.000000001", "1970-01-01T00:00:00.000001500"],
    ),
    "zones": (
        column([0, 1_750_000_000_000_000], pyarrow.timestamp("us", "Europe/Berlin")),
        ["1970-01-01T01:00:00+01:00", "2025-06-15T17:06:40+02:00"],
    ),
    "times": (column([3_661_000_001], pyarrow.time64("us")), ["01:01:01.000001"]),
    "durations": (column([-90_500], pyarrow.duration("ms")), ["-PT90.5S"]),
    "decimals": (pyarrow.array([decimal.Decimal("1.10"), None]), ["1.10", None]),
    "narrow numbers": (pyarrow.array([0.1, float("nan")], pyarrow.float32()), [0.1, None]),
    "maps": (
        pyarrow.array([[("a", 1)], [], None], pyarrow.map_(pyarrow.string(), pyarrow.int32())),
        [{"a": 1}, {}, None],
    ),
    "maps of numbers": (
        pyarrow.array([[(1, "x")]], pyarrow.map_(pyarrow.int32(), pyarrow.string())),
        [{"1": "x"}],
    ),
    "structs": (
        pyarrow.array([{"a": [{"b": datetime.date(2020, 1, 1)}]}, None, {"a": None}]),
        [{"a": [{"b": "2020-01-01"}]}, None, {"a": None}],
    ),
    "dictionaries": (pyarrow.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    "UUIDs": (pyarrow.array([b"0" * 16], pyarrow.uuid()), ["30303030-3030-3030-3030-303030303030"]),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_of_parquet_become_json(tmp_path: Path, name: str) -> None:
    array, expected = VALUES[name]
    rows = read(tmp_path, "a.parquet", stored(pyarrow.table({"x": array})))
    assert [row["x"] for row in rows] == expected
    assert json.loads(json.dumps(rows)) == rows


def test_old_timestamps_of_parquet_do_not_wrap_around(tmp_path: Path) -> None:
    target = io.BytesIO()
    table = pyarrow.table({"x": column([0, FAR - 1], pyarrow.timestamp("s"))})
    parquet.write_table(table, target, use_deprecated_int96_timestamps=True)
    rows = read(tmp_path, "a.parquet", target.getvalue())
    assert [row["x"] for row in rows] == ["1970-01-01T00:00:00", "9999-12-31T23:59:59"]


def test_bytes_that_are_no_text_are_a_fault_of_their_row_unless_the_column_is_left_out(
    tmp_path: Path,
) -> None:
    data = stored(pyarrow.table({"id": [1, 2, 3], "image": [b"a", b"\xff", b"c"]}))
    first, broken, last = read(tmp_path, "a.parquet", data)
    assert (first["image"], last["image"]) == ("a", "c")
    assert broken.where.endswith("row 2, column 'image'")
    assert not broken.ends
    assert read(tmp_path, "a.parquet", data, columns=["id"]) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_orc_avro_and_excel_are_read(tmp_path: Path) -> None:
    import fastavro
    import openpyxl

    orc.write_table(pyarrow.table({"id": ["1"], "text": ["a"]}), str(tmp_path / "b.orc"))
    assert read(tmp_path, "a.orc", (tmp_path / "b.orc").read_bytes()) == ONE
    fields = [{"name": "id", "type": "string"}, {"name": "text", "type": ["null", "bytes"]}]
    for codec in ("null", "deflate", "bzip2", "xz"):
        target = io.BytesIO()
        schema = {"type": "record", "name": "row", "fields": fields}
        fastavro.writer(target, schema, [{"id": "1", "text": b"a"}], codec=codec)
        assert read(tmp_path, "a.avro", target.getvalue()) == ONE
        assert read(tmp_path, "a.avro", target.getvalue(), columns=["id"]) == [{"id": "1"}]
        assert refusal(read(tmp_path, "a.avro", target.getvalue()[:-20])).ends
    book = openpyxl.Workbook()
    when = datetime.datetime.fromisoformat("2020-01-01T05:00:00")
    for row in (["id", "text", "when"], [1, "a", when], [2, "=A1", None]):
        book.active.append(row)
    book.save(tmp_path / "b.xlsx")
    first, broken = read(tmp_path, "a.xlsx", (tmp_path / "b.xlsx").read_bytes())
    assert first == {"id": 1, "text": "a", "when": "2020-01-01T05:00:00"}
    assert "never computed" in broken.value
    book.create_sheet("two").append(["x"])
    book.save(tmp_path / "b.xlsx")
    data = (tmp_path / "b.xlsx").read_bytes()
    assert "sheet=" in refusal(read(tmp_path, "a.xlsx", data)).rule
    assert len(read(tmp_path, "a.xlsx", data, sheet="Sheet")) == 2


@pytest.mark.parametrize("title", [["Tickets"], ["Tickets", None, 2026]])
def test_a_title_above_the_names_of_a_sheet_is_named_as_such(tmp_path: Path, title: list[Any]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (title, ["id", "text", "lang"], [1, "a", "en"]):
        book.active.append(row)
    book.save(tmp_path / "b.xlsx")
    broken = read(tmp_path, "a.xlsx", (tmp_path / "b.xlsx").read_bytes())[0]
    assert isinstance(broken, Broken)
    assert "is a title, take away what is above the names" in broken.rule


def test_the_texts_of_a_large_workbook_are_not_in_memory(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(["id", "text"])
    for number in range(1_000):
        sheet.append([number, f"{number} “long” " + "text " * 2_000])
    book.save(tmp_path / "a.xlsx")
    tracemalloc.start()
    rows = 0
    for row in read_files([Folder.at(f"file://{tmp_path}/a.xlsx")]):
        assert isinstance(row, dict)
        assert row["text"].startswith(f"{rows} “long” text ")
        rows += 1
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 1_000
    assert most < 5_000_000  # of 10 MB


NAMES = [
    "a b.csv",
    "a[1].csv",
    "a#b.csv",
    "a?b.csv",
    "a%20b.csv",
    "a@b;c.csv",
    "ä.csv",
    "a\tb.csv",
    "a*.csv",
    "%.csv",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_exists_as_it_is_written_is_that_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("id,text\n1,a\n")
    (tmp_path / "a1xb.csv").write_text("no\n2\n")
    assert list(Files(f"file://{tmp_path}/{name}").read(open_folder)) == ONE
    assert list(Files(f"{tmp_path}/{name}", literal=True).read(open_folder)) == ONE
    assert list(Files((tmp_path / name).as_uri()).read(open_folder)) == ONE


def test_literal_switches_globs_off(tmp_path: Path) -> None:
    (tmp_path / "a1.csv").write_text("id,text\n1,a\n")
    assert list(Files(f"{tmp_path}/a[1].csv").read(open_folder)) == ONE
    with pytest.raises(ValueError, match="there is no such file"):
        list(Files(f"{tmp_path}/a[1].csv", literal=True).read(open_folder))


def test_a_directory_says_what_it_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    for name in ("b.docx", "c.docx", "d.eml", "e", "_SUCCESS", "schema.json"):
        (tmp_path / name).touch()
    source = Files(tmp_path.as_uri())
    with caplog.at_level(logging.INFO):
        assert list(source.read(open_folder)) == ONE
    assert source.left_out == {".docx": 2, ".eml": 1, "without a suffix": 1, "hidden": 1, ".json": 1}
    assert "1 files are read; left out: 2 .docx" in caplog.text


def test_a_format_that_is_said_goes_before_names(tmp_path: Path) -> None:
    assert read(tmp_path, "part-0000", "id,text\n1,a\n", format="csv") == ONE
    assert len(find_all([Folder.at(tmp_path.as_uri())], (".csv",), left_out=Counter(), any_name=True)) == 1


@pytest.mark.parametrize(
    "options",
    [
        *(
            {"format": "xls"},
            {"compression": "zip"},
            {"encoding": "latin-99"},
            {"encoding": "rot13"},
            {"delimiter": ""},
        ),
        *(
            {"delimiter": "::"},
            {"quote": ","} | {"delimiter": ","},
            {"header": False},
            {"columns": "id"},
            {"columns": ["a", "a"]},
        ),
    ],
)
def test_an_option_that_is_none_is_refused_by_its_name(tmp_path: Path, options: dict[str, Any]) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        list(Files(tmp_path.as_uri(), **options).read(open_folder))


def test_whatever_bytes_a_file_holds_its_reader_raises_nothing(tmp_path: Path) -> None:
    chance = random.Random(14)
    good = {
        "csv": b'id;text\n1;"a, ""b"""\n2;c\n',
        "json": b'[{"a": 1, "b": [true, "x\\"y"]}, {"a": null}]',
        "jsonl": b'{"a": 1}\n{"b": "x"}\n',
        "parquet": stored(pyarrow.table({"a": [1, 2], "b": ["x", None], "c": [[1], []]})),
        "avro": b"Obj\x01" + bytes(range(60)),
        "xlsx": b"PK\x03\x04" + bytes(100),
        "orc": b"ORC" + bytes(50),
    }
    for suffix, content in good.items():
        for _ in range(40):
            data = bytearray(content)
            for _ in range(chance.randint(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            noise = chance.randbytes(chance.randint(0, 300)) if chance.random() < 0.4 else bytes(data)
            for row in read(tmp_path, f"a.{suffix}", noise):
                assert isinstance(row, (dict, Broken))
