"""The Claude Batches page in a real browser, on real Airflow: one job from its start to its end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.emulator.testing import CANCEL
from tests.plugins.browser import PAGE_PATH, log_in, open_browser

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "nightly_report"
ERRORED = {
    "custom_ids": ["report-ACC-00003"],
    "outcome": "errored",
    "error_type": "invalid_request_error",
    "message": "prompt is too long",
}


@pytest.fixture
def page(local_airflow: LocalAirflow) -> Iterator[Page]:
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        log_in(page, local_airflow)
        yield page


def start(airflow: LocalAirflow, folder: Path, accounts: int = 12) -> str:
    airflow.api.wait_for_dag(DAG)
    run_id = airflow.api.trigger(DAG, {"accounts": accounts, "output": folder.as_uri()})
    airflow.api.wait_for_task(DAG, run_id, "wait", "deferred")
    return run_id


def row(page: Page, table: str, run_id: str) -> Any:
    return page.get_by_role("table", name=table).get_by_role("row").filter(has_text=run_id)


def test_a_job_moves_from_in_flight_to_recent_by_itself_and_says_why_a_request_failed(
    local_airflow: LocalAirflow, emulator: Emulator, page: Page, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [ERRORED]})
    run_id = start(local_airflow, tmp_path)
    [batch] = emulator.batches()

    page.goto(local_airflow.url + PAGE_PATH)
    waiting = row(page, "Jobs in flight", run_id)
    waiting.get_by_text("Waiting").wait_for()
    assert "0 / 1" in waiting.inner_text()
    assert re.search(r"23 h \d+ min left|24 h 0 min left", waiting.inner_text())

    emulator.end(batch["id"])
    assert local_airflow.api.wait_for_run(DAG, run_id, timeout=90) == "success"
    done = row(page, "Recent jobs", run_id)  # nobody reloads the page
    done.get_by_text("Partial").wait_for(timeout=30_000)
    assert "1 request did not succeed" in done.inner_text()
    done.get_by_role("button", name="Details").press("Enter")
    details = page.get_by_role("dialog")
    for words in ("invalid_request_error", batch["id"], "errored 1", tmp_path.as_uri(), "claude-haiku-4-5"):
        details.get_by_text(words).first.wait_for()
    page.keyboard.press("Escape")
    details.wait_for(state="hidden")


def test_the_tabs_of_run_and_task_show_the_job_and_other_tasks_say_that_they_have_none(
    local_airflow: LocalAirflow, emulator: Emulator, page: Page, tmp_path: Path
) -> None:
    run_id = start(local_airflow, tmp_path)
    [batch] = emulator.batches()
    run = f"{local_airflow.url}/dags/{DAG}/runs/{run_id}"

    page.goto(f"{run}/tasks/wait")
    page.get_by_role("link", name="Claude Batch", exact=True).click()
    page.get_by_text(batch["id"]).first.wait_for()
    page.goto(f"{run}/plugin/claude-batches-run")
    page.get_by_text(batch["id"]).first.wait_for()
    page.goto(f"{run}/tasks/write_report/plugin/claude-batch")
    page.get_by_text("This task has no Claude batch job").wait_for()

    links = local_airflow.api.links(DAG, run_id, "wait")
    console = f"https://platform.claude.com/settings/workspaces/default/batches/{batch['id']}"
    assert links["Claude Console"] == console
    assert local_airflow.api.links(DAG, run_id, "submit")["Claude Console"] == console
    emulator.end(batch["id"])
    assert local_airflow.api.wait_for_run(DAG, run_id, timeout=90) == "success"


def test_cancel_asks_first_then_the_batch_ends_and_what_was_finished_is_delivered(
    local_airflow: LocalAirflow, emulator: Emulator, page: Page, tmp_path: Path
) -> None:
    run_id = start(local_airflow, tmp_path)
    [batch] = emulator.batches()
    page.goto(local_airflow.url + PAGE_PATH)
    row(page, "Jobs in flight", run_id).get_by_role("button", name="Details").click()

    page.get_by_role("button", name="Cancel batch").click()
    question = page.get_by_role("alertdialog")
    question.get_by_role("button", name="Keep running").click()
    question.wait_for(state="hidden")
    assert emulator.journal(path=CANCEL) == []

    page.get_by_role("button", name="Cancel batch").click()
    question.get_by_role("button", name="Cancel batch").click()
    page.get_by_text("admin asked to cancel 1 batch").wait_for()
    assert len(emulator.journal(path=CANCEL)) == 1
    emulator.end(batch["id"])
    assert local_airflow.api.wait_for_run(DAG, run_id, timeout=90) == "failed"  # nothing succeeded
    summary = local_airflow.api.xcom(DAG, run_id, "results", "summary")
    assert summary["counts"]["canceled"] == 12
