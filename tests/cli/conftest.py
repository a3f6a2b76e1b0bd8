"""Commands as a person runs them; in this process, because each start of Airflow takes seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli import main
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import api_at


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Its output, where that was asked for as JSON."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def api(emulator: Emulator) -> BatchesApi:
    return api_at(emulator.url)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    url = f"file://{tmp_path}/storage"
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", url)
    return Folder.at(url)


@pytest.fixture
def run(root: Folder, emulator: Emulator, airflow_database: None, capsys: pytest.CaptureFixture[str]) -> Run:
    """With a database from the first test on: a connection that is not in the environment is looked for "
    "there."""

    def run_command(*arguments: str) -> Done:
        capsys.readouterr()
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return run_command
