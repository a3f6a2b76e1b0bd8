"""Trials and dry runs that are cleared, and what they warn of."""

from __future__ import annotations

from pathlib import Path

from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try
from tests.operators.test_on_time import one_task, rows


def test_a_trial_of_the_whole_input_is_none_after_a_clear_without_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    assert one_task(tmp_path, rows(4), trial=20).execute(Try().context)["trial"]["of"] == 4
    cleared = Try(try_number=2, max_tries=1)
    summary = one_task(tmp_path, rows(4)).execute(cleared.context)
    assert (summary["trial"], summary["counts"]["succeeded"]) == (None, 4)
    assert emulator.ledger()["direct_answers"] == 4, "nothing is asked again"


def test_a_dry_run_binds_nobody_to_its_arguments(emulator: Emulator, tmp_path: Path) -> None:
    plan = one_task(tmp_path, rows(4), direct_below=10, dry_run=True).execute(Try().context)
    assert plan["ways"] == {"batch": 0, "direct": 4, "reuse": 0}
    cleared = Try(try_number=2, max_tries=1)
    plan = one_task(tmp_path, rows(4), dry_run=True).execute(cleared.context)
    assert (plan["ways"]["batch"], plan["batches"]) == (4, 1)
