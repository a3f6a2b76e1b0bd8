"""What a dry run has stored is no job that is being sent, and nothing sends it but its task."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.cli.conftest import Run
from tests.operators.conftest import Try
from tests.operators.test_on_time import one_task, rows


def test_a_dry_run_is_listed_as_one_and_not_sent_by_a_retry(
    run: Run, root: Folder, emulator: Emulator, tmp_path: Path
) -> None:
    stored = {"storage_path": root.url}
    plan = one_task(tmp_path, rows(3), dry_run=True, **stored).execute(Try().context)
    [listed] = run("list", "-o", "json").data
    assert (listed["state"], listed["url"]) == ("dry run", plan["job"])
    assert run("list", "--state", "dry run", "-o", "json").data == [listed]
    refused = run("retry", listed["job"], "--output", tmp_path / "out")
    assert (refused.code, "was stored by a dry run" in refused.err) == (2, True), refused.err
    assert emulator.journal(method="POST") == []

    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(3), **stored).execute(Try(try_number=2, max_tries=1).context)
    states = {one["job"]: one["state"] for one in run("list", "-o", "json").data}
    assert sorted(states.values()) == ["replaced", "waiting"]
    [sent] = [job for job, state in states.items() if state == "waiting"]
    emulator.end(emulator.batches()[0]["id"])
    assert run("retry", sent, "--output", tmp_path / "out", "--poll-interval", "0.1").code == 0
