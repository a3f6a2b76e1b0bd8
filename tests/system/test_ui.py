"""The Claude Batches page in a real browser, on real Airflow: one job from its start to its end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.emulator.testing import CANCEL
from tests.harness.processes import wait_until
from tests.plugins.browser import PAGE_PATH, Visitors
from tests.system.conftest import DAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from airflow_claude_batch.emulator.testing import Emulator
    from tests.harness.local_airflow import LocalAirflow

DAG = "watched_report"
WATCHED = {
    'dag_id="nightly_report"': f'dag_id="{DAG}"',
    'task_id="wait"': 'task_id="wait", poll_interval=1',
}
"""What makes of the example a DAG of this name that looks every second."""
LATE_DAG = """
    from airflow.sdk import DAG
    from airflow_claude_batch import ClaudeBatchOperator

    with DAG("late_report"):
        ClaudeBatchOperator(
            task_id="ask", requests=[{"custom_id": f"r-{n}", "prompt": f"Count to {n}"} for n in range(40)],
            model="claude-haiku-4-5", max_tokens=50, poll_interval=1, deadline="PT1S", direct_minutes=0,
        )
"""
ERRORED = {
    "custom_ids": ["report-ACC-00003"],
    "outcome": "errored",
    "error_type": "invalid_request_error",
    "message": "prompt is too long",
}


@pytest.fixture(scope="module")
def visitors(local_airflow: LocalAirflow, browser: Browser) -> Visitors:
    return Visitors(browser, local_airflow)


@pytest.fixture
def page(visitors: Visitors) -> Iterator[Page]:
    yield visitors.come()
    visitors.leave()


def start(airflow: LocalAirflow, folder: Path, accounts: int = 12) -> str:
    source = (DAGS / "nightly_report.py").read_text()
    for said, meant in WATCHED.items():
        assert source.count(said) == 1
        source = source.replace(said, meant)
    airflow.add_dag(DAG, source)
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
    local_airflow.api.wait_for_success(DAG, run_id, timeout=90)
    done = row(page, "Recent jobs", run_id)  # nobody reloads the page
    done.get_by_text("Partial").wait_for(timeout=45_000)
    assert "1 request did not succeed" in done.inner_text()
    done.get_by_role("link", name="Details").press("Enter")
    details = page.get_by_role("dialog")
    for words in ("invalid_request_error", batch["id"], "errored 1", tmp_path.as_uri(), "claude-haiku-4-5"):
        details.get_by_text(words).first.wait_for()
    details.get_by_role("button", name="Show the first 100").click()
    failed = details.get_by_role("table", name="Failed records").get_by_role("row").nth(1)
    failed.get_by_text("prompt is too long").wait_for()
    assert ERRORED["custom_ids"][0] in failed.inner_text()
    page.keyboard.press("Escape")
    details.wait_for(state="hidden")

    page.goto(f"{local_airflow.url}/dags/{DAG}/plugin/claude-batches-dag")
    page.get_by_role("table", name="Nights").get_by_role("button", name=DAG).wait_for()
    row(page, "Recent jobs", run_id).get_by_role("link", name="Details").click()
    page.get_by_role("dialog").get_by_text(batch["id"]).wait_for()
    assert PAGE_PATH in page.url


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
    local_airflow.api.wait_for_success(DAG, run_id, timeout=90)


def test_cancel_asks_first_then_the_batch_ends_and_what_was_finished_is_delivered(
    local_airflow: LocalAirflow, emulator: Emulator, page: Page, tmp_path: Path
) -> None:
    run_id = start(local_airflow, tmp_path)
    [batch] = emulator.batches()
    page.goto(local_airflow.url + PAGE_PATH)
    row(page, "Jobs in flight", run_id).get_by_role("link", name="Details").click()

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


def test_a_late_job_says_that_it_goes_on_directly_and_how_far_it_is(
    local_airflow: LocalAirflow, emulator: Emulator, page: Page
) -> None:
    emulator.settings(duration=10_000, cancel_duration=0.5, cancel_finished_share=0.1, message_seconds=3)
    local_airflow.add_dag("late_report", LATE_DAG)
    run_id = local_airflow.api.trigger("late_report")
    wait_until(lambda: emulator.ledger()["direct_answers"] > 0, 60, "the first answers", poll=0.2)
    page.goto(local_airflow.url + PAGE_PATH)
    late = row(page, "Jobs in flight", run_id)
    late.get_by_text("Going direct").wait_for()
    late.get_by_role("link", name="Details").click()
    page.get_by_role("dialog").get_by_text(re.compile(r"^\d+ / (3\d|40)$")).wait_for()
    emulator.settings(message_seconds=0)
    local_airflow.api.wait_for_success("late_report", run_id, timeout=90)
    page.keyboard.press("Escape")
    row(page, "Recent jobs", run_id).get_by_text("Delivered").wait_for(timeout=45_000)
    assert page.get_by_text("Going direct").count() == 0
