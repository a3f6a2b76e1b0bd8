from __future__ import annotations

from pathlib import Path

import pytest

from airflow_claude_batch.batches.storage import Folder


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """``storage_path``."""
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", tmp_path.as_uri())
    return Folder.at(tmp_path.as_uri())
