"""The files of a store: written once, merged, read by others, left out where they are damaged."""

from __future__ import annotations

import datetime
import hashlib
import logging
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from airflow_claude_batch.batches.reuse import compaction, known
from airflow_claude_batch.batches.reuse.compaction import compact, drop
from airflow_claude_batch.batches.reuse.known import KnownKeys, SeenKeys
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.store import Scope, Store, answers_schema, key_of
from airflow_claude_batch.batches.storage import Folder

NOW = datetime.datetime(2026, 11, 28, tzinfo=datetime.UTC)
DAY = 86_400


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


@pytest.mark.parametrize("name", [".", ".."])
def test_a_scope_of_dots_has_a_folder_of_its_own(root: Folder, name: str) -> None:
    scope = Scope(name=name, dag_id="d", task_id="t", conn_id="c")
    assert Path(Store.of(scope, root).folder.path).resolve().parent == Path(root.path, "answers", "shared")


def keep(store: Store, numbers: Any, days_ago: float = 0) -> None:
    at = int((NOW.timestamp() - days_ago * DAY) * 1000)
    rows = [
        {
            "digest": digest(number),
            "check": b"0123Count to 123",
            "answered_at": at,
            "batch_id": f"msgbatch_{days_ago}",
            "custom_id": f"r-{number}",
            "model": "claude-haiku-4-5",
            "message": f'{{"content":{number}}}',
        }
        for number in numbers
    ]
    writer = PairWriter(store)
    columns = {
        field.name: pa.array([row[field.name] for row in rows], field.type) for field in answers_schema()
    }
    writer.add(pa.table(columns, schema=answers_schema()))
    writer.finish()


@pytest.fixture
def store(root: Folder) -> Store:
    return Store(root.child("answers", "dag", "reports"))


def knows(store: Store, numbers: Any, **options: Any) -> list[int]:
    keys = KnownKeys(store, **options)
    return [number for number in numbers if key_of(digest(number)) in keys]


def test_what_is_kept_is_known_whatever_the_number_of_files_and_passes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "PASS_KEYS", 700)
    monkeypatch.setattr(known, "STRETCH_KEYS", 90)
    for start in range(0, 3000, 300):
        keep(store, range(start, start + 400))
    assert knows(store, range(6000)) == list(range(3100))
    assert len(KnownKeys(store)) == 4000
    assert knows(Store(store.folder.child("nothing")), range(10)) == []


def test_a_key_is_new_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "RECENT_KEYS", 50)
    draw, seen, before = random.Random(3), SeenKeys(), set[int]()
    for _ in range(2000):
        key = draw.randrange(700) << 40
        assert seen.add(key) == (key not in before)
        before.add(key)


def test_what_is_too_old_is_not_known(store: Store) -> None:
    keep(store, range(10), days_ago=40)
    keep(store, range(5, 15), days_ago=20)
    month_ago = int(NOW.timestamp() - 30 * DAY) * 1000
    assert knows(store, range(20), not_before=month_ago) == list(range(5, 15))


def test_small_files_are_merged_and_the_newest_answer_counts(store: Store) -> None:
    for night in range(60):
        keep(store, range(night * 10, night * 10 + 40), days_ago=60 - night)
        compact(store, NOW)
        assert len(store.pairs()) <= 2 * compaction.FANOUT
    assert knows(store, range(1000)) == list(range(630))
    merged = store.pairs()
    assert sum(pair.rows for pair in merged) < 60 * 40, "a repeated answer is left out"
    newest = duckdb.sql(
        f"SELECT max(answered_at) FROM '{store.folder.path}/answers-*.parquet' WHERE custom_id = 'r-305'"
    ).fetchall()
    assert newest[0][0] == NOW - datetime.timedelta(days=60 - 30)


def test_a_compaction_deletes_what_is_too_old_for_everybody_and_a_purge_what_it_is_told(store: Store) -> None:
    keep(store, range(10), days_ago=40)
    keep(store, range(10, 20), days_ago=20)
    store.want_kept(datetime.timedelta(days=50))
    store.want_kept(datetime.timedelta(days=10))
    compact(store, NOW)
    assert knows(store, range(20)) == list(range(20)), "somebody wants them for 50 days"
    compact(store, NOW + datetime.timedelta(days=15))
    assert knows(store, range(20)) == list(range(10, 20))
    keep(store, range(30, 35), days_ago=1)
    compaction.merge(store, store.pairs(), None)
    assert drop(store, int(NOW.timestamp() - 5 * DAY) * 1000) == 10
    assert knows(store, range(40)) == list(range(30, 35))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another"])
def test_a_damaged_index_is_left_out_with_a_warning(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep(store, range(2000))
    keep(store, range(2000, 2010), days_ago=1)
    [old, new] = store.pairs()
    file = Path(store.folder.locate(new.index))
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    damaged = {"cut": data[:-100], "flipped": data, "empty": b"", "another": b"PAR1" * 100}
    file.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert knows(store, range(2010)) == list(range(2000, 2010))
    assert new.index in caplog.text
    assert old.index not in caplog.text


@pytest.mark.parametrize("file", ["answers", "index"])
def test_an_older_answer_counts_where_the_newest_lies_in_a_damaged_file(
    store: Store, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep(store, range(10), days_ago=2)
    keep(store, range(5), days_ago=1)
    [old, new] = store.pairs()
    name = getattr(new, file)
    store.folder.write(name, store.folder.read(name)[:-100])
    with caplog.at_level(logging.WARNING):
        assert compaction.merge(store, [old, new], None) == 10
    assert caplog.text.count(name) == 1
    assert new in store.pairs(), "it is left where it is"
    assert {name for name in store.folder.names() if old.id in name} == set()


def test_a_compaction_that_another_process_began_is_left_to_it_for_an_hour(store: Store) -> None:
    for number in range(compaction.FANOUT):
        keep(store, range(number, number + 1))
    store.folder.create(compaction.BUSY, b"another")
    now = datetime.datetime.now(datetime.UTC)
    compact(store, now)
    assert len(store.pairs()) == compaction.FANOUT
    compact(store, now + datetime.timedelta(hours=2))
    assert len(store.pairs()) == 1


def test_a_table_of_answers_is_read_by_duckdb(store: Store) -> None:
    keep(store, random.Random(1).sample(range(10_000), 6_000))
    found = duckdb.sql(
        f"SELECT count(*), count(DISTINCT digest), min(model) FROM '{store.folder.path}/answers-*.parquet'"
    ).fetchall()
    assert found == [(6_000, 6_000, "claude-haiku-4-5")]


WITHOUT_PANDAS = """
import datetime, hashlib, sys
from airflow_claude_batch.batches.api.result_lines import NOTHING, read_lines
from airflow_claude_batch.batches.results.download import Arrivals
from airflow_claude_batch.batches.results.sent_requests import Own
from airflow_claude_batch.batches.reuse.compaction import drop, merge
from airflow_claude_batch.batches.reuse.gather import Gathering
from airflow_claude_batch.batches.reuse.keeper import PartKeeper
from airflow_claude_batch.batches.reuse.known import KnownKeys
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.sources import KnownAnswers
from airflow_claude_batch.batches.reuse.store import Scope, Store, milliseconds
from airflow_claude_batch.batches.storage import Folder

root, now = Folder.at(sys.argv[1]), datetime.datetime.now(datetime.UTC)
store, then = Store(root.child("answers")), milliseconds(now) - 1_000
names = [hashlib.sha256(bytes([n])).digest() + bytes(16) for n in range(4)]
message = b'{"content":[{"type":"text","text":"1"}],"stop_reason":"end_turn"}'
line = b'{"custom_id":"r","result":{"type":"succeeded","message":%b}}\\n' % message
for some in names[:2], names[2:], names[:1]:
    pair = PairWriter(store)
    keeper = PartKeeper(answered_at=now, batch_id="msgbatch_1", pair=pair)
    keeper.keep(Arrivals(read_lines(line * len(some)).lines, [Own(NOTHING, None, name) for name in some]))
    pair.finish()
assert len(KnownKeys(store, then)) == 5
assert merge(store, store.pairs(), then) == 4
assert drop(store, then) == 0
inputs = ['{"custom_id":"r-%d","reuse":"%s"}\\n' % (n, name.hex()) for n, name in enumerate(names)]
root.write("inputs", "".join(inputs).encode())
Gathering(store=store, job=root, parts={0: "inputs"}, not_before=then).run()
answers = KnownAnswers(folder=root, number=0, inputs="inputs", sent_at=now)
rows = [row for lines in answers.lines(mend=True) for row in lines.rows]
assert {row.custom_id for row in rows} == {"r-0", "r-1", "r-2", "r-3"}, rows
assert "pandas" not in sys.modules
"""


def test_keeping_merging_and_gathering_load_no_pandas(root: Folder) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_PANDAS, root.url], check=True, timeout=60)
