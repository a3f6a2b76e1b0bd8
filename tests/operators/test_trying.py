"""Trials and dry runs that are cleared, and what they warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_claude_batch import Budget, Trial
from airflow_claude_batch.common.xcoms import XCOM_KEY
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


def test_a_trial_of_what_only_batches_take_is_refused_unless_it_goes_by_a_batch(
    emulator: Emulator, tmp_path: Path
) -> None:
    params = {"betas": ["output-300k-2026-03-24"]}
    for given in ({"trial": 2}, {"conf": 2}):
        attempt = Try(conf={"claude_batch_trial": given.pop("conf", None)})
        with pytest.raises(AirflowFailException, match=r"trial asks for single calls.*Trial\(direct=False\)"):
            one_task(tmp_path, rows(3), message_params=params, **given).execute(attempt.context)
    assert emulator.journal(method="POST") == []
    task = one_task(tmp_path, rows(3), message_params=params, trial=Trial(records=2, direct=False))
    with pytest.raises(TaskDeferred):
        task.execute(Try().context)
    assert len(emulator.batches()) == 1


def test_a_dry_run_warns_of_budgets_that_would_refuse_it(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW__CLAUDE_BATCH__BUDGETS", '[{"max_usd": 0.0002, "per": "day"}, {"max_usd": 9, "per": "day"}]'
    )
    budget = Budget(max_usd=0.0001, per="month", scope="all", on_exceeded="wait")
    plan = one_task(tmp_path, rows(20), budget=budget, dry_run=True).execute(Try().context)
    month, day = plan["warnings"]
    assert month.startswith("The job is estimated at $0.00")
    assert "$0.0001 a month for all has $0.0001 left in" in month
    assert "$0.0002 a day for dag:dag has $0.0002 left in" in day
    assert not list(tmp_path.glob("storage/costs/*"))

    emulator.fault("status", path="/v1/models", times=None, status=404, type="not_found_error")
    task = one_task(tmp_path, rows(20), budget=budget, dry_run=True, model="claude-next")
    [warning] = task.execute(Try(run_id="2").context)["warnings"]
    assert "20 requests have a model without a known price" in warning


@pytest.mark.parametrize("nothing", [None, False, "", "None"])
@pytest.mark.parametrize(("given", "tried"), [({"claude_batch_trial": 2}, 2), ({}, 3)])
def test_a_key_of_the_conf_without_a_value_takes_no_trial_back(
    emulator: Emulator, tmp_path: Path, nothing: Any, given: dict[str, Any], tried: int
) -> None:
    empty = dict.fromkeys(("claude_batch_trial", "claude_batch_limit"), nothing)
    attempt = Try(conf={**empty, **given})
    summary = one_task(tmp_path, rows(6), trial=3).execute(attempt.context)
    assert (summary["trial"]["records"], emulator.ledger()["direct_answers"]) == (tried, tried)
    assert emulator.batches() == []


@pytest.mark.parametrize("key", ["claude_batch_dry_run", "claude_batch_force_new"])
def test_a_conf_that_says_neither_yes_nor_no_is_refused_by_its_key(
    emulator: Emulator, tmp_path: Path, key: str
) -> None:
    refused = rf"{key} is 'perhaps'; it is true or false, in the DAG run's conf\. Nothing was sent"
    with pytest.raises(AirflowFailException, match=refused):
        one_task(tmp_path, rows(2)).execute(Try(conf={key: "perhaps"}).context)
    assert emulator.journal(method="POST") == []


def test_a_dry_run_is_no_job_that_the_page_waits_for_until_something_is_sent(
    emulator: Emulator, tmp_path: Path
) -> None:
    attempt = Try()
    one_task(tmp_path, rows(4), dry_run=True).execute(attempt.context)
    assert XCOM_KEY not in attempt.pushed
    cleared = Try(try_number=2, max_tries=1)
    with pytest.raises(TaskDeferred):
        one_task(tmp_path, rows(4)).execute(cleared.context)
    assert cleared.pushed[XCOM_KEY]["batch_ids"] == [emulator.batches()[0]["id"]]
    dry_again = Try(try_number=3, max_tries=2, conf={"claude_batch_dry_run": True})
    one_task(tmp_path, rows(4)).execute(dry_again.context)
    assert dry_again.pushed[XCOM_KEY]["batch_ids"] == cleared.pushed[XCOM_KEY]["batch_ids"], "they still run"
