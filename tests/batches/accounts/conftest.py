from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_claude_batch.batches.storage import Folder

MEMORY = Path("/dev/shm")  # thousands of small files, each of them forced to the disk elsewhere


@pytest.fixture
def root() -> Iterator[Folder]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as path:
        yield Folder.at(f"file://{path}/storage")
