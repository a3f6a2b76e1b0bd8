from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.waits import create
from tests.dags.test_examples import run

pytestmark = pytest.mark.usefixtures("airflow_database")


def test_run_by_hand_it_delivers_the_batches_that_are_named(emulator: Emulator, tmp_path: Path) -> None:
    ids = create(emulator, 2)
    for batch_id in ids:
        emulator.end(batch_id)
    done = run("external_batch", batch_ids=ids, output=tmp_path.as_uri())
    assert done.state == "success"
    [summary] = tmp_path.glob("*/summary.json")
    assert json.loads(summary.read_text())["batch_ids"] == ids
