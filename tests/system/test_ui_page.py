"""The Claude Batches page in a real browser: no job, one and hundreds, users with different rights."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.browser import PAGE_PATH, Visitors, log_in, trouble
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
def visitors(server: SeededServer, browser: Browser) -> Visitors:
    return Visitors(browser, server.airflow)


@pytest.fixture
def visit(server: SeededServer, visitors: Visitors) -> Iterator[Callable[..., Page]]:
    """The page as a user sees it; nothing may have complained by the end of the test."""
    complaints = []

    def open_page(
        username: str = "admin",
        query: str = "",
        *,
        strict: bool = True,
        clock: bool = False,
        **options: Any,
    ) -> Page:
        page = visitors.come(username, **options)
        if strict:
            complaints.append(trouble(page))
        if clock:
            page.clock.install()
        page.goto(server.url + PAGE_PATH + query)
        page.get_by_role("heading", name="Claude Batches").wait_for()
        return page

    yield open_page
    visitors.leave()
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
    cost = page.get_by_text("Cost, submitted in 24 hours").locator("xpath=..")
    assert "$0.08" in cost.inner_text()
    assert "$0.08 saved · 1 job" in cost.inner_text()
    wait_for_rows(page, "Recent jobs", 1)
    rows(page, "Recent jobs").get_by_text("4 requests did not succeed").click()  # anywhere in the row
    details = page.get_by_role("dialog")
    why = details.get_by_text("Overloaded (req_").bounding_box()
    assert why["y"] < details.get_by_text("Last batch ended").bounding_box()["y"], "why comes first"


def test_what_a_delivery_warned_of_is_noted_in_the_row_and_said_in_the_details(
    server: SeededServer, visit: Any
) -> None:
    text = "20 of 200 answers (10%): the answer is empty (empty)"
    server.holds([Seed(warnings=(text,), empty=20)])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    rows(page, "Recent jobs").get_by_text("1 warning").click()
    page.get_by_role("dialog").get_by_text(text).wait_for()
    page.get_by_role("dialog").get_by_text("Empty answers").wait_for()


def test_a_job_that_delivered_nothing_leads_to_the_log_of_the_task_that_failed(
    server: SeededServer, visit: Any
) -> None:
    server.holds([Seed(stage="lost")])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    log = rows(page, "Recent jobs").get_by_role("link", name="the log of wait")
    assert log.get_attribute("href").endswith(f"/runs/{Seed().run_id}/tasks/wait")
    page.get_by_role("link", name="Details of").first.click()
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
    page.get_by_label("Result of recent jobs").select_option("failed")
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
    page = visit(clock=True)
    wait_for_rows(page, "Jobs in flight", 1)
    server.holds([Seed()])
    page.clock.fast_forward(10_000)  # when it asks again
    page.get_by_text("Nothing is in flight.").wait_for()
    wait_for_rows(page, "Recent jobs", 1)


def test_details_open_and_close_with_the_keyboard(server: SeededServer, visit: Any) -> None:
    server.holds([Seed()])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    button = page.get_by_role("link", name="Details of submit in nightly_report").last
    page.get_by_label("Time of recent jobs").focus()
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
    time = rows(page, "Recent jobs").locator("time").filter(visible=True)
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
    page = visit(size={"width": 420, "height": 900})
    wait_for_rows(page, "Recent jobs", 14)
    wide = page.evaluate(
        "[...document.querySelectorAll('section section, h2, [data-job]')]"
        ".filter(element => element.getBoundingClientRect().right > innerWidth).length"
    )
    assert wide == 0, "each row's details can be reached without scrolling"


def test_on_a_telephone_nothing_is_squeezed_out(server: SeededServer, visit: Any) -> None:
    failed = {"errored": 100}
    server.holds(
        [
            Seed(dag_id="translate_catalogue", failed=failed, errors={"invalid_request_error": 100}),
            Seed(dag_id="translate_catalogue", number=2, stage="lost"),
            Seed(dag_id="translate_catalogue", number=3, stage="waiting"),
        ]
    )
    page = visit(size={"width": 390, "height": 900})
    wait_for_rows(page, "Errors", 1)
    [cells] = (
        page.get_by_role("table", name="Errors")
        .locator("tbody tr")
        .evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('p')].filter(name => name.checkVisibility())"
            "  .map(name => [name.innerText, name.scrollWidth > name.clientWidth]))"
        )
    )
    names = ("invalid_request_error", "translate_catalogue", "claude-haiku-4-5")
    assert cells == [[name, False] for name in names], "each is whole"
    assert re.search(r"Age 1 h .* left", rows(page, "Jobs in flight").inner_text(), re.DOTALL)
    delivered = rows(page, "Recent jobs").filter(has_text="Partial")
    assert delivered.locator("time").first.is_visible()
    assert delivered.get_by_text("$0.08").first.is_visible()
    lost = rows(page, "Needs attention").filter(has_text="Failed")
    assert lost.get_by_role("link", name="the log of wait").is_visible()
    assert lost.get_by_text("Clear the failed task").filter(visible=True).count() == 1
    words = page.locator("[title=translate_catalogue]").evaluate_all(
        """names => names.filter(name => name.checkVisibility()).map(name => {
            const texts = document.createTreeWalker(name, NodeFilter.SHOW_TEXT);
            const lines = [];
            while (texts.nextNode()) {
                const range = document.createRange();
                range.selectNodeContents(texts.currentNode);
                lines.push(new Set([...range.getClientRects()].map(rect => rect.top)).size);
            }
            return Math.max(...lines);
        })"""
    )
    assert set(words) == {1}, "names break between their words"


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
    page.get_by_role("link", name="Details of").first.click()
    details = page.get_by_role("dialog")
    details.get_by_text(evil).first.wait_for()
    assert details.get_by_text(evil).count() == 3
    assert details.locator("img").count() == 0
    assert page.title() != "owned"
    assert page.locator("a[href^='javascript']").count() == 0


def test_failed_records_are_read_from_the_output_when_they_are_asked_for(
    server: SeededServer, visit: Any
) -> None:
    from airflow_claude_batch.batches.storage import Folder
    from tests.plugins.stored_jobs import Stored
    from tests.plugins.test_failures import announce, deliver, failure

    root = Folder.at(f"file://{server.airflow.home}/storage")
    one = Stored(failed={"errored": 3}, errors={"invalid_request_error": 3})
    folder = deliver(one, root, [failure(number) for number in range(3)])
    server.holds([])
    with server.session() as session:
        announce(session, one, folder)
    page = visit()
    page.get_by_role("link", name="Details of").first.click()
    page.get_by_role("button", name="Show the first 100").click()
    wait_for_rows(page, "Failed records", 3)
    assert "one-0" in rows(page, "Failed records").first.inner_text()
    with page.expect_download() as saved:
        page.get_by_role("dialog").get_by_role("button", name="CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert (len(lines), lines[0]) == (4, '"custom_id","outcome","type","message","request_id","retryable"')


def test_the_page_speaks_the_language_of_airflow(server: SeededServer, visit: Any) -> None:
    server.holds([*many(20), Seed(number=50, stage="lost")])
    page = visit(locale="de-DE")
    page.get_by_role("heading", name="Braucht Aufmerksamkeit").wait_for()
    wait_for_rows(page, "Kürzliche Jobs", 15)
    text = page.locator("section[aria-label='Claude Batches']").inner_text()
    assert "es wurde nichts geliefert" in text
    for word in ("In flight", "Needs attention", "requests", "saved"):
        assert word not in text

    page.set_viewport_size({"width": 390, "height": 900})
    page.evaluate("localStorage.setItem('i18nextLng', 'ar')")
    page.reload()
    wait_for_rows(page, "Recent jobs", 15)
    assert page.evaluate("[document.documentElement.dir, document.documentElement.scrollWidth]") == [
        "rtl",
        390,
    ]
    english = page.locator("section[aria-label='Claude Batches']")
    assert english.evaluate("one => [one.lang, getComputedStyle(one).direction]") == ["en", "ltr"]


def test_a_night_filters_and_arrow_keys_go_from_day_to_day(server: SeededServer, visit: Any) -> None:
    bad = Seed(dag_id="bad", number=300, failed={"errored": 100}, errors={"overloaded_error": 100})
    server.holds([*many(200), bad])
    page = visit(reduced_motion="reduce")
    wait_for_rows(page, "Recent jobs", 15)
    nights = page.get_by_role("table", name="Nights")
    assert nights.get_by_title("bad, ").inner_text().startswith("%"), "half of its requests failed"
    assert "100 requests did not succeed" in nights.get_by_title("bad, ").get_attribute("title")
    nights.get_by_role("button", name="score_leads").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    title = page.evaluate("document.activeElement.title")
    page.keyboard.press("Enter")
    number = title.split(": ")[1].split(" ")[0]
    page.get_by_text(f"{number}, submitted on").wait_for()
    assert "day=" in page.url
    page.get_by_role("button", name="Clear filters").click()

    chart = page.get_by_role("group", name="Cost by day")
    chart.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowLeft")
    assert "saved" in page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert chart.locator("[tabindex='0']").count() == 1
    page.get_by_role("link", name="Details of").first.click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_text("Batches ended").wait_for()
    assert drawer.evaluate("one => getComputedStyle(one).animationName") == "none"


def test_a_turned_telephone_shows_the_same_last_night(server: SeededServer, visit: Any) -> None:
    server.holds(many(20))
    upright, turned, with_room = ({"width": width, "height": 844} for width in (390, 844, 1440))
    page = visit(size=upright)
    grid = page.get_by_role("table", name="Nights").locator("xpath=..")
    stands = """([grid, width, behind]) => innerWidth === width
        && Math.round(grid.scrollWidth - grid.clientWidth - grid.scrollLeft) === behind"""
    page.wait_for_function(stands, arg=[grid.element_handle(), 390, 0])
    for behind in (0, 112):
        grid.evaluate(
            """(grid, behind) => new Promise(done => {
                grid.scrollTo(grid.scrollWidth - grid.clientWidth - behind, 0);
                requestAnimationFrame(() => requestAnimationFrame(done));
            })""",
            behind,
        )
        for size in (turned, with_room, upright):
            expected = 0 if size is with_room else behind
            page.set_viewport_size(size)
            page.wait_for_function(stands, arg=[grid.element_handle(), size["width"], expected], timeout=3000)
    assert page.evaluate("document.documentElement.scrollWidth") == 390, "the page itself scrolls no way"


def test_the_dashboard_has_a_card_that_leads_to_the_page(server: SeededServer, visit: Any) -> None:
    server.holds(many(60))
    page = visit(strict=False)  # Airflow's own pages miss the seeded DAGs' code
    page.goto(server.url)
    card = page.get_by_role("region", name="Claude Batches")
    card.get_by_text("In flight now").wait_for()
    card.get_by_role("link", name="All jobs").click()
    page.get_by_role("heading", name="Claude Batches").wait_for()


def test_a_viewer_sees_jobs_but_no_way_to_cancel_them(server: SeededServer, visit: Any) -> None:
    server.holds([Seed(stage="waiting")])
    for username, buttons in (("viewer", 0), ("admin", 1)):
        page = visit(username)
        page.get_by_role("link", name="Details of").first.click()
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


def test_who_is_not_logged_in_is_sent_to_the_login_page_and_comes_in_by_it(
    server: SeededServer, browser: Browser
) -> None:
    page = browser.new_page()
    page.goto(server.url + PAGE_PATH)
    page.wait_for_url(lambda url: "/auth/login" in url)
    log_in(page, server.airflow)
    page.goto(server.url + PAGE_PATH)
    page.get_by_role("heading", name="Claude Batches").wait_for()
    page.close()


def test_typing_at_any_speed_loses_no_letter_and_no_focus(server: SeededServer, visit: Any) -> None:
    """Airflow mounts the page anew at the first change of its address, unless that happens at load."""
    server.holds(many(20))
    page = visit()
    wait_for_rows(page, "Recent jobs", 14)
    box = page.get_by_role("searchbox")
    box.click()
    for letter in "seeded-00012":
        page.keyboard.type(letter, delay=40)
        page.wait_for_timeout(130)
    page.wait_for_function("location.search.includes('seeded-00012')")
    assert box.input_value() == "seeded-00012"
    assert box.evaluate("box => box === document.activeElement")
    wait_for_rows(page, "Recent jobs", 1)


def test_opening_details_moves_no_scroll_and_back_closes_them(server: SeededServer, visit: Any) -> None:
    server.holds(many(40))
    page = visit()
    wait_for_rows(page, "Recent jobs", 15)
    region = page.locator("section[aria-label='Claude Batches']")
    region.evaluate("one => one.scrollTo(0, 600)")
    # Not Playwright's click, which scrolls by itself.
    rows(page, "Recent jobs").nth(5).get_by_role("link", name="Details").evaluate("one => one.click()")
    page.get_by_role("dialog").wait_for()
    assert region.evaluate("one => one.scrollTop") == 600
    page.go_back()
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.url.endswith(PAGE_PATH)


@pytest.mark.parametrize("opened", ["drawer", "tab"])
def test_the_question_before_cancelling_has_the_focus_and_gives_it_back(
    server: SeededServer, visit: Any, opened: str
) -> None:
    server.holds([Seed(stage="waiting")])
    page = visit(strict=opened == "drawer")  # Airflow's own page misses the seeded DAG's code
    if opened == "drawer":
        page.get_by_role("link", name="Details of").first.click()
    else:
        run = f"/dags/{Seed().dag_id}/runs/{Seed().run_id}/plugin/claude-batches-run"
        page.goto(server.url + run)
    button = page.get_by_role("button", name="Cancel batch")
    button.click()
    keep = page.get_by_role("alertdialog").get_by_role("button", name="Keep running")
    page.wait_for_function("one => one === document.activeElement", arg=keep.element_handle(), timeout=3000)
    for _ in range(4):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('[role=alertdialog]') !== null")
    page.keyboard.press("Escape")
    page.get_by_role("alertdialog").wait_for(state="hidden")
    page.wait_for_function("one => one === document.activeElement", arg=button.element_handle(), timeout=3000)


def test_an_idle_page_asks_again_more_slowly_and_not_at_all_while_hidden(
    server: SeededServer, visit: Any
) -> None:
    server.holds([Seed()])
    page = visit()
    page.get_by_text("refreshes every 60 s").wait_for()
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url))
    hide = """state => {
        Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, "hidden")
    page.get_by_role("button", name="Refresh").click()
    page.wait_for_timeout(300)
    assert [url for url in calls if "claude-batches/api" in url] == []
    page.evaluate(hide, "visible")
    page.wait_for_timeout(500)
    assert len([url for url in calls if "/api/jobs?" in url and "in_flight" in url]) == 1


def test_no_new_question_while_the_same_one_is_open(server: SeededServer, visit: Any) -> None:
    server.holds([Seed()])
    page = visit()
    wait_for_rows(page, "Recent jobs", 1)
    calls: list[str] = []

    def never(route: Any) -> None:
        calls.append(route.request.url)

    page.route("**/claude-batches/api/totals*", never)
    for _ in range(3):
        page.get_by_role("button", name="Refresh").click()
        page.wait_for_timeout(100)
    assert len(calls) == 1
    page.unroute_all(behavior="ignoreErrors")


def test_an_odd_address_breaks_nothing(server: SeededServer, visit: Any) -> None:
    server.holds([Seed()])
    page = visit(query="?days=abc&b=5000&result=x&job=5")
    wait_for_rows(page, "Recent jobs", 1)


def test_what_needs_attention_comes_first_and_is_counted_in_the_title(
    server: SeededServer, visit: Any
) -> None:
    server.holds([Seed(number=1), Seed(number=2, stage="lost")])
    page = visit()
    wait_for_rows(page, "Needs attention", 1)
    assert "no results were delivered" in rows(page, "Needs attention").inner_text()
    page.wait_for_function("document.title === '(1) Claude Batches'")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_a_dag_id_of_200_letters_pushes_nothing_out(server: SeededServer, visit: Any, width: int) -> None:
    server.holds([Seed(dag_id="x" * 200), Seed(number=2, dag_id="x" * 200, stage="waiting")])
    page = visit(size={"width": width, "height": 900})
    wait_for_rows(page, "Recent jobs", 1)
    out = "one => one.getBoundingClientRect().right > innerWidth"
    assert page.evaluate(f"[...document.querySelectorAll('[data-job]')].filter({out}).length") == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_what_happened_is_said_once_at_any_width(server: SeededServer, visit: Any, width: int) -> None:
    server.holds([Seed(stage="waiting", age=datetime.timedelta(hours=26))])
    page = visit(size={"width": width, "height": 900})
    wait_for_rows(page, "Needs attention", 1)
    said = page.get_by_text("Its deadline was").evaluate_all(
        "all => all.filter(one => one.checkVisibility())"
    )
    assert len(said) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_of_ours(server: SeededServer, visit: Any, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    server.holds([*many(20), Seed(number=50, stage="lost")])
    page = visit(color_scheme=scheme)
    wait_for_rows(page, "Recent jobs", 15)
    options = {"resultTypes": ["violations"]}
    found = Axe().run(page, context="section[aria-label='Claude Batches']", options=options).response
    page.get_by_role("link", name="Details of").first.click()
    page.get_by_role("dialog").get_by_text("Batches ended").wait_for()
    page.wait_for_timeout(500)  # it slides in
    found["violations"] += Axe().run(page, context="[role=dialog]", options=options).response["violations"]
    assert [
        (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"][:300])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ] == []


def test_costs_and_budgets_show_what_is_used_and_may_be_narrowed_to_a_tag(
    server: SeededServer, visit: Any
) -> None:
    server.holds([Seed(), Seed(dag_id="score_leads", number=2, requests=30_672_200)])
    page = visit(size={"width": 1024, "height": 900})
    wait_for_rows(page, "Cost by model", 1)
    numbers = rows(page, "Cost by model").locator("td").filter(visible=True)
    assert numbers.count() == 8
    cut = "all => all.filter(one => one.scrollWidth > one.clientWidth || one.clientHeight > 40).length"
    assert numbers.evaluate_all(cut) == 0, "no number is broken or cut off"
    costs = page.get_by_role("region", name="Costs and budgets")
    costs.get_by_label("tag:team=sales, a day: $18.00 paid and $1.00 reserved of $20.00, 95.0%").wait_for()
    costs.get_by_label("all, a month: $24.00 paid and $1.00 reserved of $900.00, 2.8%").wait_for()
    assert rows(page, "Costs by DAG").all_inner_texts()[0].split()[:2] == ["score_leads", "1,000"]
    with page.expect_download() as download:
        costs.get_by_role("button", name="CSV").first.click()
    assert download.value.path().read_text().splitlines()[1].startswith('"sales",2000,18,0,18,18,9,0,1,0')
    costs.get_by_role("button", name="growth").click()
    costs.get_by_role("button", name="Only team=growth ×").wait_for()
    wait_for_rows(page, "Costs by DAG", 1)

    mine = visit("only-nightly_report").get_by_role("region", name="Costs and budgets")
    mine.get_by_text("all, a month: holds costs of DAGs that you may not read").wait_for()
    mine.get_by_label("tag:team=growth, a day: $6.00 paid").wait_for()
    assert "score_leads" not in mine.inner_text()


def test_a_tile_says_what_tonight_will_cost_and_leads_to_the_runs(server: SeededServer, visit: Any) -> None:
    from airflow.models.dag import DagModel
    from sqlalchemy import update

    long = "a_dag_with_a_very_long_name_" * 6
    server.holds([Seed(dag_id=long), Seed(number=2, stage="waiting")])
    with server.session() as session:
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=3)
        session.execute(update(DagModel).where(DagModel.dag_id == long).values(next_dagrun_create_after=soon))
        session.commit()
    page = visit(size={"width": 390, "height": 900})
    tile = page.get_by_role("button", name="Expected cost, next 24 hours")
    page.get_by_text("1 scheduled run").wait_for()
    assert "≈ $0.08" in tile.locator("xpath=../..").inner_text()
    short = page.get_by_role("button", name="In flight now").locator("xpath=../following-sibling::*[1]")
    long_one = page.get_by_text("Cost, submitted in 24 hours").locator("xpath=following-sibling::*[1]")
    assert short.bounding_box()["y"] == long_one.bounding_box()["y"], "numbers stand on one line"
    tile.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.innerText").startswith("Next 24 hours")
    runs = rows(page, "Next runs")
    assert long in runs.inner_text()
    assert runs.get_by_text("≈ $0.08").bounding_box()["y"] < 900
    page.get_by_role("table", name="Cost by DAG").wait_for()
    whole = page.locator("section[aria-label='Claude Batches']")
    assert whole.evaluate("one => one.scrollWidth <= one.clientWidth")
