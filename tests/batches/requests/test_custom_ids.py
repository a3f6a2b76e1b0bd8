from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.part_reader import read_inputs
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.custom_ids import ContentIds, HashSet, legal_id
from airflow_claude_batch.batches.requests.request import CUSTOM_ID
from airflow_claude_batch.batches.storage import Folder

DEFAULTS = {"model": "m", "max_tokens": 1}


def spooled(rows: list[Any], tmp_path: Path, **recipe: Any) -> list[tuple[str, dict[str, Any]]]:
    """Each custom_id with the columns that will come back beside its answer."""
    folder = Folder.at(f"file://{tmp_path}/job")
    [part] = spool(rows, folder, defaults=DEFAULTS, recipe=Recipe(**recipe)).parts
    return [
        (custom_id, msgspec.json.decode(columns) if columns else {})
        for custom_id, columns in read_inputs(folder, part.inputs)
    ]


@pytest.mark.parametrize("template", [None, "{{ prompt }}"])
@pytest.mark.parametrize("column", ["custom_id", "order"])
def test_a_key_that_is_no_custom_id_comes_back_as_a_column(
    tmp_path: Path, template: str | None, column: str
) -> None:
    rows = [
        {"custom_id": "Order 7/a", "order": 7, "prompt": "Hi"},
        {"custom_id": "b", "order": 8, "prompt": "Hi"},
    ]
    found = spooled(rows, tmp_path, custom_id=column, prompt=template)
    keys = [columns.get("custom_id", custom_id) for custom_id, columns in found]
    assert keys == ["Order 7/a", "b"]


def test_a_custom_id_that_is_null_is_no_column(tmp_path: Path) -> None:
    [(_, columns)] = spooled([{"custom_id": None, "text": "Hi"}], tmp_path, prompt="{{ text }}")
    assert columns == {"text": "Hi"}


def test_a_legal_key_is_the_custom_id_itself() -> None:
    assert legal_id("ACC-00017_b") == "ACC-00017_b"


@pytest.mark.parametrize(
    "key",
    [
        "order/2026 #17",
        "user@example.org",
        "x" * 65,
        "ключ",
        "🙂",
        "a\nb",
        " ",
        "/",
        "s3://bucket/" + "path/" * 100,
    ],
)
def test_any_other_key_becomes_a_legal_id_that_is_the_same_tomorrow(key: str) -> None:
    assert CUSTOM_ID.fullmatch(legal_id(key))
    assert legal_id(key) == legal_id(key)


def test_the_beginning_of_a_mapped_key_can_be_read() -> None:
    assert legal_id("order/2026 #17").startswith("order-2026-17-")


def test_keys_that_look_alike_once_they_are_legal_stay_apart() -> None:
    keys = ["a b", "a/b", "a  b", "a-b", "a b ", "x" * 65, "x" * 66]
    assert len({legal_id(key) for key in keys}) == len(keys)


def test_the_users_own_key_comes_back_beside_the_answer(tmp_path: Path) -> None:
    rows = [{"order": "2026/17", "prompt": "a"}, {"order": 18, "prompt": "b"}]
    (first, own), (second, other) = spooled(rows, tmp_path, custom_id="order")
    assert first.startswith("2026-17-")
    assert (second, own, other) == ("18", {"order": "2026/17"}, {"order": 18})


@pytest.mark.parametrize(
    "row", [{"prompt": "a"}, {"order": None, "prompt": "a"}, {"order": "", "prompt": "a"}]
)
def test_a_record_without_its_key_is_an_error_with_its_number(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"record 1: column order"):
        spooled([{"order": "1", "prompt": "a"}, row], tmp_path, custom_id="order")


def test_the_same_key_twice_is_an_error_that_names_both_records(tmp_path: Path) -> None:
    rows = [{"key": key, "prompt": "x"} for key in ("a b", "c", "a b")]
    with pytest.raises(InputError, match=r"record 2: custom_id.*record 0 has it too"):
        spooled(rows, tmp_path, custom_id="key")


def test_a_record_without_an_id_is_named_by_what_it_asks(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "loaded_at": "today"}, {"prompt": "b"}]
    again = [{"prompt": "b"}, {"prompt": "a", "loaded_at": "tomorrow"}]
    first, second = [custom_id for custom_id, _ in spooled(rows, tmp_path / "1")]
    assert [custom_id for custom_id, _ in spooled(again, tmp_path / "2")] == [second, first]
    assert CUSTOM_ID.fullmatch(first)


def test_the_same_content_several_times_is_told_apart_by_number(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"prompt": "a"}]
    ids = [custom_id for custom_id, _ in spooled(rows, tmp_path)]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(set(ids)) == 4


def test_a_template_and_its_columns_name_a_record_too(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b"}, {"text": "a"}]
    ids = [custom_id for custom_id, _ in spooled(rows, tmp_path, prompt="Say {{ text }}")]
    assert ids[2] == f"{ids[0]}-2"


def test_an_id_of_the_record_itself_is_never_changed_silently(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="custom_id is 1 to 64 letters"):
        spooled([{"custom_id": "a b", "prompt": "x"}], tmp_path)
    with pytest.raises(InputError, match="custom_id is 1 to 64 letters"):
        spooled([{"custom_id": "a b", "text": "x"}], tmp_path, prompt="{{ text }}")


def test_content_ids_stay_apart_over_many_records() -> None:
    ids = ContentIds()
    names = {ids(b"%d" % (number % 50_000)) for number in range(100_000)}
    assert len(names) == 100_000
    assert sum(name.endswith("-2") for name in names) == 50_000


def test_the_set_of_hashes_knows_what_it_has_seen_also_after_growing() -> None:
    seen = HashSet()
    values = [0, *(number * 0x9E3779B97F4A7C15 % 2**64 for number in range(1, 5000))]
    assert all(seen.add(value) for value in values)
    assert not any(seen.add(value) for value in values)
