"""The same promises on a local disk and on an S3-compatible server over HTTP."""

from __future__ import annotations

import gc
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_claude_batch.batches.storage import UPLOAD_BLOCK, Folder, iter_lines
from tests.batches.crashing import in_child
from tests.batches.s3 import S3


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(f"file://{tmp_path}/folder")
    s3: S3 = request.getfixturevalue("s3")
    return s3.folder(tmp_path.name)


def test_what_is_written_is_read_and_listed(folder: Folder) -> None:
    folder.write("a.json", b"1")
    folder.write("a.json", b"2")
    folder.child("sub").write("b", b"3")
    assert folder.read("a.json") == b"2"
    assert folder.names() == ["a.json", "sub"]
    assert folder.size("a.json") == 1
    assert folder.child("nowhere").names() == []
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")


def test_of_several_writers_exactly_one_creates_the_file(folder: Folder) -> None:
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda number: folder.create("lease", str(number).encode()), range(8)))
    assert sum(created) == 1
    assert folder.read("lease") == str(created.index(True)).encode()


@pytest.mark.parametrize("size", [100, UPLOAD_BLOCK + 100])
def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(folder: Folder, size: int) -> None:
    folder.write("part.jsonl", b"old")

    def write(text: bytes, error: Exception | None) -> None:
        with folder.replace("part.jsonl") as file:
            file.write(text)
            assert folder.read("part.jsonl") == b"old"
            if error:
                raise error

    with pytest.raises(ValueError, match="half way"):
        write(b"?" * size, ValueError("half way"))
    gc.collect()  # fsspec closes, and thereby commits, a file that nobody holds any more
    assert (folder.read("part.jsonl"), folder.names()) == (b"old", ["part.jsonl"])
    if not folder.is_local:
        begun = [upload["Key"] for upload in folder.fs.list_multipart_uploads("bucket")]
        assert not [key for key in begun if key.startswith(f"{folder.url.rpartition('/')[2]}/")]
    write(b"!" * size, None)
    assert (folder.read("part.jsonl"), folder.names()) == (b"!" * size, ["part.jsonl"])


@pytest.mark.parametrize("name", ["lines.jsonl", "lines.jsonl.gz"])
def test_large_files_stream_in_and_out_line_by_line(folder: Folder, name: str) -> None:
    lines = [b"%d " % number + b"x" * (number % 3000) for number in range(5000)]
    with folder.open_write(name) as file:
        for line in lines:
            file.write(line + b"\n")
    with folder.open_read(name) as file:
        assert list(iter_lines(file, size=70_000)) == lines


def test_removing_takes_the_folder_and_nothing_beside_it(folder: Folder) -> None:
    for name in ("one", "one-more"):
        folder.child(name).write("f", b"x")
    folder.child("one").remove()
    folder.child("one").remove()
    assert folder.names() == ["one-more"]


def test_a_kill_in_the_middle_of_a_local_write_leaves_the_old_content(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}")
    folder.write("ledger.json", b"old")

    def die_before_the_rename() -> None:
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        folder.write("ledger.json", b"new")

    assert in_child(die_before_the_rename) == -signal.SIGKILL
    assert folder.read("ledger.json") == b"old"


def test_a_bucket_or_a_folder_that_does_not_exist_is_told_from_one_that_is_empty(
    s3: S3, tmp_path: Path
) -> None:
    assert s3.folder("nothing-in-it-yet").is_there
    in_bucket = s3.folder("x")
    assert not Folder(fs=in_bucket.fs, path="no-such-bucket/x", url="s3://no-such-bucket/x").is_there
    assert Folder.at(tmp_path.as_uri()).is_there
    assert not Folder.at(f"{tmp_path.as_uri()}/nowhere").is_there


def test_a_store_that_does_not_answer_is_no_missing_bucket(s3: S3) -> None:
    folder = s3.folder("x")
    s3.fails = lambda environ: True
    try:
        with pytest.raises(OSError) as failed:
            _ = folder.is_there
    finally:
        s3.fails = lambda environ: False
    assert not isinstance(failed.value, FileNotFoundError)
