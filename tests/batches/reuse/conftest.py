from __future__ import annotations

from pathlib import Path

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.reuse.nights import Nights


@pytest.fixture
def nights(root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path) -> Nights:
    return Nights(root, api, emulator, tmp_path)
