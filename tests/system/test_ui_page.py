"""The Claude Batches page in a real browser: no job, one and hundreds, users with different rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.browser import PAGE_PATH, log_in, open_browser, trouble
from tests.plugins.seeded_server import SeededServer, start_seeded_server
from tests.plugins.seeding import Seed, many

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Locator, Page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, airflow_database: None) -> Iterator[SeededServer]:
    with start_seeded_server(tmp_path_factory.mktemp("ui") / "airflow") as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture
def visit(server: SeededServer, browser: Browser) -> Iterator[Callable[..., Page]]:
    """The page as a user sees it; nothing may have complained by the end of the test."""
    contexts, complaints = [], []

    def open_page(username: str = "admin", query: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **options})
        contexts.append(context)
        page = context.new_page()
        log_in(page, server.airflow, username, username)
        complaints.append(trouble(page))
        page.goto(server.url + PAGE_PATH + query)
        page.get_by_role("heading", name="Claude Batches").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [complaint for some in complaints for complaint in some] == []


def rows(page: Page, table: str) -> Locator:
    return page.get_by_role("table", name=table).locator("tbody tr")


def wait_for_rows(page: Page, table: str, number: int) -> None:
    rows(page, table).nth(number - 1).wait_for()
    page.wait_for_function(
        "([name, number]) => number === document.querySelectorAll(`[aria-label='${name}'] tbody tr`).length",
        arg=[table, number],
    )


def test_without_a_job_the_page_says_how_to_start(server: SeededServer, visit: Any) -> None:
    server.holds([])
    page = visit()
    page.get_by_role("heading", name="No batch has been submitted yet").wait_for()
    page.locator("code", has_text="@task.claude_batch(").wait_for()
    assert page.get_by_role("table").count() == 0


def test_one_job_answers_what_it_cost_and_why_it_failed(server: SeededServer, visit: Any) -> None:
    server.holds([Seed(failed={"errored": 4}, errors={"overloaded_error": 4})])
    page = visit()
    page.get_by_text("Nothing is in flight.").wait_for()
    cost = page.get_by_text("Cost, last 24 hours").locator("xpath=..")
    assert "$0.08" in cost.inner_text()
    assert "$0.08 saved · 1 job" in cost.inner_text()
    wait_for_rows(page, "Recent jobs", 1)
    rows(page, "Recent jobs").get_by_text("4 requests did not succeed").click()  # anywhere in the row
    page.get_by_role("dialog").get_by_text("Overloaded", exact=False).first.wait_for()


def test_a_job_that_delivered_nothing_leads_to_the_log_of_the_task_that_failed(
    server: SeededServer, visit: Any
) -> None:
    server.holds([Seed(stage="lost")])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    log = rows(page, "Recent jobs").get_by_role("link", name="the log of wait")
    assert log.get_attribute("href").endswith(f"/runs/{Seed().run_id}/tasks/wait")
    page.get_by_role("button", name="Details of").click()
    page.get_by_role("dialog").get_by_text("Nothing was delivered").wait_for()


def test_filters_search_and_pages_narrow_hundreds_of_jobs_and_stay_in_the_address(
    server: SeededServer, visit: Any
) -> None:
    server.holds(many(500))
    page = visit()
    wait_for_rows(page, "Jobs in flight", 6)
    wait_for_rows(page, "Recent jobs", 15)
    page.get_by_text("1–15 of 494").wait_for()
    page.get_by_role("button", name="Older").click()
    page.get_by_text("16–30 of 494").wait_for()

    page.get_by_label("DAG", exact=True).select_option("score_leads")
    page.get_by_text("1–15 of 99").wait_for()
    assert rows(page, "Recent jobs").filter(has_text="score_leads").count() == 15
    page.get_by_label("Result").select_option("failed")
    page.wait_for_function("!document.body.innerText.includes('of 99')")
    assert rows(page, "Recent jobs").filter(has_not_text="Failed").count() == 0
    page.reload()
    page.get_by_text("Clear filters").wait_for()
    assert page.get_by_label("DAG", exact=True).input_value() == "score_leads"

    page.get_by_role("button", name="Clear filters").click()
    page.get_by_text("1–15 of 494").wait_for()
    page.get_by_role("searchbox").fill("msgbatch_nightly_report_00100_00")
    wait_for_rows(page, "Recent jobs", 1)
    page.get_by_role("searchbox").fill("nothing like it")
    page.get_by_text("No job matches.").wait_for()


def test_the_page_follows_a_job_without_being_reloaded(server: SeededServer, visit: Any) -> None:
    server.holds([Seed(stage="waiting")])
    page = visit()
    wait_for_rows(page, "Jobs in flight", 1)
    server.holds([Seed()])
    page.get_by_text("Nothing is in flight.").wait_for(timeout=20_000)
    wait_for_rows(page, "Recent jobs", 1)


def test_details_open_and_close_with_the_keyboard(server: SeededServer, visit: Any) -> None:
    server.holds([Seed()])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    button = page.get_by_role("button", name="Details of submit in nightly_report")
    page.get_by_label("Time").focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if button.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_text("msgbatch_nightly_report_00001_00").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    page.wait_for_function(
        "button => button === document.activeElement", arg=button.element_handle(), timeout=3000
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(
    server: SeededServer, visit: Any, scheme: str
) -> None:
    server.holds(many(20))
    page = visit(color_scheme=scheme)
    wait_for_rows(page, "Recent jobs", 14)
    lightness = """element => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const light = (color) => {
            canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
        };
        let ground = element;
        while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
        return [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
    }"""
    text, ground = page.get_by_text("Cost by day and DAG").evaluate(lightness)
    assert (text > ground) == (scheme == "dark")
    assert abs(text - ground) > 0.6


def test_times_are_in_the_zone_that_the_ui_is_set_to(server: SeededServer, visit: Any) -> None:
    server.holds([Seed()])
    page = visit(timezone_id="Europe/Amsterdam")
    wait_for_rows(page, "Recent jobs", 1)
    time = rows(page, "Recent jobs").locator("time")
    here = time.inner_text()
    page.evaluate("localStorage.setItem('timezone', JSON.stringify('Asia/Tokyo'))")
    page.reload()
    wait_for_rows(page, "Recent jobs", 1)
    assert time.inner_text() != here
    hours = page.evaluate(
        "([one, other]) => (Date.parse(other) - Date.parse(one)) / 3600000", [here, time.inner_text()]
    )
    assert hours in (7, 8)  # summer and winter


def test_a_narrow_window_scrolls_tables_and_not_the_page(server: SeededServer, visit: Any) -> None:
    server.holds(many(20))
    page = visit(viewport={"width": 420, "height": 900})
    wait_for_rows(page, "Recent jobs", 14)
    wide = page.evaluate(
        "[...document.querySelectorAll('section, h2, tbody button')]"
        ".filter(element => element.getBoundingClientRect().right > innerWidth).length"
    )
    assert wide == 0, "each row's details can be reached without scrolling"


def test_markup_in_names_and_messages_is_text(server: SeededServer, visit: Any) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    evil = "<img src=x onerror=\"document.title='owned'\">"
    server.holds([Seed(failed={"errored": 4}, errors={"overloaded_error": 4})])
    with server.session() as session:
        for xcom in session.scalars(select(XComModel)):
            if xcom.key == "summary":
                samples = {"overloaded_error": {"message": evil}}
                paths = {"succeeded_path": "javascript:alert(1)", "errored_path": evil}
                xcom.value = {**xcom.value, "error_samples": samples, **paths}
            elif xcom.key == "claude_batch":
                xcom.value = {**xcom.value, "model": evil, "job": xcom.value["job"]}
        session.commit()
    page = visit()
    page.get_by_role("button", name="Details of").click()
    details = page.get_by_role("dialog")
    details.get_by_text(evil).first.wait_for()
    assert details.get_by_text(evil).count() == 3
    assert details.locator("img").count() == 0
    assert page.title() != "owned"
    assert page.locator("a[href^='javascript']").count() == 0


def test_a_viewer_sees_jobs_but_no_way_to_cancel_them(server: SeededServer, visit: Any) -> None:
    server.holds([Seed(stage="waiting")])
    for username, buttons in (("viewer", 0), ("admin", 1)):
        page = visit(username)
        page.get_by_role("button", name="Details of").click()
        page.get_by_role("dialog").get_by_text("msgbatch_nightly_report_00001_00").wait_for()
        assert page.get_by_role("button", name="Cancel batch").count() == buttons


def test_a_user_of_one_dag_sees_that_dag_only(server: SeededServer, visit: Any) -> None:
    server.holds(many(50))
    page = visit("only-nightly_report")
    wait_for_rows(page, "Recent jobs", 8)
    text = page.locator("body").inner_text()
    assert "nightly_report" in text
    for other in ("score_leads", "classify_tickets", "extract_invoices", "translate_catalogue"):
        assert other not in text


def test_who_is_not_logged_in_is_sent_to_the_login_page(server: SeededServer, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(server.url + PAGE_PATH)
    page.wait_for_url(lambda url: "/auth/login" in url)
    page.close()
