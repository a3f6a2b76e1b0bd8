"""What a reader holds has a bound, whatever a file says: measured in a process of its own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

MEMORY_MB = 400
SCRIPT = """
import json, re, sys
from pathlib import Path
from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.files import read_files
from airflow_claude_batch.batches.storage import Folder
def peak_mb():
    # Not getrusage, whose figure holds what the process was forked from.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024


message = ""
try:
    rows = read_files([Folder.at(sys.argv[1])])
    spool(rows, Folder.at(sys.argv[2]), defaults={"model": "claude-haiku-4-5", "max_tokens": 10})
except InputError as error:
    message = str(error)
print(json.dumps([message, peak_mb()]))
"""


def refusal(file: Path, tmp_path: Path) -> str:
    """What a process says that reads the file; its time and its memory are bounded."""
    began = time.monotonic()
    command = [sys.executable, "-c", SCRIPT, file.as_uri(), (tmp_path / "job").as_uri()]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    message, peak = json.loads(ended.stdout.splitlines()[-1])
    assert peak < MEMORY_MB
    assert time.monotonic() - began < 30
    return str(message)


def gigabyte(path: Path, beginning: bytes, block: bytes = b"x" * (1 << 20)) -> Path:
    """A small gzip file of one piece; its thousand equal blocks are compressed once, which saves seconds."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = packer.compress(beginning) + packer.flush(zlib.Z_FULL_FLUSH)
    body = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(beginning)
    for _ in range(1000):
        checksum = zlib.crc32(block, checksum)
    size = len(beginning) + 1000 * len(block)
    tail = packer.flush() + struct.pack("<II", checksum, size)
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + head + 1000 * body + tail)
    assert path.stat().st_size < size / 100
    return path


def test_a_json_line_of_a_gigabyte_is_refused_with_file_and_line(tmp_path: Path) -> None:
    start = b'{"custom_id":"a","prompt":"Hi"}\n{"custom_id":"b","prompt":"'
    message = refusal(gigabyte(tmp_path / "in.jsonl.gz", start), tmp_path)
    assert "in.jsonl.gz line 2 = more: a line has at most 255000000 bytes" in message


def test_a_record_of_a_gigabyte_in_a_json_array_is_refused_with_file_and_item(tmp_path: Path) -> None:
    start = b'[{"custom_id":"a","prompt":"Hi"},{"custom_id":"b","prompt":"'
    message = refusal(gigabyte(tmp_path / "in.json.gz", start), tmp_path)
    assert "in.json.gz item 2 = more: a record has at most 255000000 bytes" in message


@pytest.mark.parametrize("start", [b'custom_id,prompt\na,"', b"custom_id,prompt\na,"])
def test_a_csv_row_of_a_gigabyte_is_refused_with_file_and_line(tmp_path: Path, start: bytes) -> None:
    message = refusal(gigabyte(tmp_path / "in.csv.gz", start), tmp_path)
    assert "in.csv.gz line 2" in message


def test_a_quote_that_is_never_closed_swallows_no_gigabyte(tmp_path: Path) -> None:
    path = gigabyte(tmp_path / "in.csv.gz", b'custom_id,prompt\na,"', (b"x" * 1023 + b"\n") * 1024)
    assert "in.csv.gz line 2" in refusal(path, tmp_path)


def huge_values(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = pyarrow.table({"custom_id": ["a"], "prompt": pyarrow.array(["x" * 300_000_000])})
    # Without statistics, which take ten times as long as the rest.
    parquet.write_table(rows, path, compression="zstd", use_dictionary=False, write_statistics=False)


def repeated_values(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    values = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 100, pyarrow.int32()), pyarrow.array(["x" * 20_000_000])
    )
    rows = pyarrow.table({"custom_id": [f"r-{n}" for n in range(100)], "note": values})
    parquet.write_table(rows, path, compression="zstd")


@pytest.mark.parametrize("write", [huge_values, repeated_values])
def test_a_small_parquet_file_of_gigabytes_takes_no_gigabytes(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "in.parquet"
    made = f"from tests.batches.requests.test_bounds import *; {write.__name__}(Path({str(path)!r}))"
    subprocess.run([sys.executable, "-c", made], check=True)
    assert path.stat().st_size < 2_000_000
    assert "fault(s)" in refusal(path, tmp_path)
