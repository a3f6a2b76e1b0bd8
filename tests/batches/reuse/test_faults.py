"""A store whose files are whole and say something else, many writers at once, a store that takes nothing."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_claude_batch.batches.errors import StoreError
from airflow_claude_batch.batches.reuse import compaction
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.store import answers_schema
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.crashing import start_child
from tests.batches.helpers import api_at
from tests.batches.reuse.nights import Nights, rows
from tests.batches.s3 import S3


def another_last_byte(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize("column", ["digest", "check"])
def test_an_answer_whose_name_only_begins_alike_is_none(nights: Nights, column: str) -> None:
    nights.run(1, rows(range(5)))
    [pair] = nights.store().pairs()
    table = pq.read_table(nights.store().folder.locate(pair.answers), schema=answers_schema())
    place = table.column_names.index(column)
    values = [another_last_byte(value) for value in table[column].to_pylist()]
    nights.store().remove(pair)
    writer = PairWriter(nights.store())
    writer.add(
        table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    )
    writer.finish()
    assert nights.run(2, rows(range(5)))["asked"] == 5
    nights.check(2, range(5))


@pytest.mark.parametrize("other", [5, 2, 9])
def test_the_answers_of_another_file_are_not_taken_for_its_own(nights: Nights, other: int) -> None:
    nights.run(1, rows(range(5)))
    nights.run(2, rows(range(100, 100 + other)))
    url = nights.submit(3, rows(range(5)))
    first, second = (Path(nights.store().folder.locate(pair.answers)) for pair in nights.store().pairs())
    first.write_bytes(second.read_bytes())
    assert nights.deliver(3, url)["asked"] == 5
    nights.check(3, range(5))
    assert nights.run(4, rows(range(5)))["asked"] == 0
    nights.check(4, range(5))


@pytest.mark.parametrize("damaged", ["index", "answers"])
@pytest.mark.parametrize("sent_before", [False, True])
def test_a_file_that_is_whole_and_of_another_kind_is_left_out(
    nights: Nights, damaged: str, sent_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(1, rows(range(5)))
    [pair] = nights.store().pairs()
    url = nights.submit(2, rows(range(5))) if sent_before else ""
    names = {"index": pair.index, "answers": pair.answers}
    files = {kind: Path(nights.store().folder.locate(name)) for kind, name in names.items()}
    other = "answers" if damaged == "index" else "index"
    files[damaged].write_bytes(files[other].read_bytes())
    with caplog.at_level(logging.WARNING):
        url = url or nights.submit(2, rows(range(5)))
        assert nights.deliver(2, url)["asked"] == 5
    nights.check(2, range(5))
    assert f"{names[damaged]} is damaged (KeyError)" in caplog.text


@pytest.mark.parametrize("keep", [0, 0.5, 0.95, None])
def test_gathered_answers_that_are_damaged_are_gathered_again_by_a_retry(
    nights: Nights, keep: float | None
) -> None:
    nights.run(1, rows(range(50)))
    url = nights.submit(2, rows(range(50)))
    nights.deliver(2, url)
    [gathered] = nights.path.rglob("reused-*.arrow")
    data = gathered.read_bytes()
    gathered.write_bytes(b"x" * 100 if keep is None else data[: int(len(data) * keep)])
    with pytest.raises(StoreError, match=r"reused-00000.arrow are damaged .*A retry takes them"):
        nights.deliver(2, url, generation=2)
    assert nights.deliver(2, url, generation=2)["asked"] == 0
    nights.check(2, range(50))
    assert nights.sent == 50


def test_new_answers_that_cannot_be_kept_are_delivered_and_asked_again(
    nights: Nights, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    answers = s3.folder("answers-that-are-read-only")
    nights.store = lambda root=None: type(Nights.store(nights))(answers)  # type: ignore[method-assign]
    url = nights.submit(1, rows(range(3)))
    s3.fails = lambda environ: environ["REQUEST_METHOD"] in ("PUT", "POST")
    with caplog.at_level(logging.WARNING):
        assert nights.deliver(1, url)["asked"] == 3
    nights.check(1, range(3))
    assert "cannot be kept" in caplog.text
    s3.fails = lambda environ: False
    assert nights.run(2, rows(range(3)))["asked"] == 3
    assert nights.run(3, rows(range(3)))["asked"] == 0


def test_runs_that_look_up_keep_and_merge_at_once_lose_nothing(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FANOUT", 2)
    nights.run("before", rows(range(4)))
    asked: dict[str, Any] = {name: range(first, first + 8) for name, first in (("a", 0), ("b", 2), ("c", 4))}

    def several(name: str) -> None:
        url = nights.emulator.url
        nights.api, nights.emulator = api_at(url), Emulator(url)  # whose connections are not shared
        for turn in range(3):
            nights.run(f"{name}-{turn}", rows(asked[name]))

    children = [start_child(lambda name=name: several(name)) for name in asked]  # type: ignore[misc]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * len(asked)
    for name, numbers in asked.items():
        for turn in range(3):
            nights.check(f"{name}-{turn}", numbers)
    most = Counter(nights.asked)
    assert set(most) == {f"r-{n}" for n in range(12)}
    assert all(most[f"r-{n}"] == 1 for n in range(4)), "what was kept before is not asked"
    assert max(most.values()) <= len(asked), "each run asks once"
    assert nights.run("after", rows(range(12)))["asked"] == 0
    nights.check("after", range(12))
