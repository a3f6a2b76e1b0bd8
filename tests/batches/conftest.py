from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import api_at
from tests.batches.s3 import S3


@pytest.fixture
def api(emulator: Emulator) -> BatchesApi:
    return api_at(emulator.url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """An S3-compatible server; a failure that a test asks for ends with the test."""
    healthy = s3_server.fails
    yield s3_server
    s3_server.fails = healthy


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    return Folder.at(f"file://{tmp_path}/storage")
