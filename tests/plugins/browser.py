"""A headless Chromium at Airflow's UI."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

from tests.harness.local_airflow import PASSWORD, USERNAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.harness.local_airflow import LocalAirflow

PAGE_PATH = "/plugin/claude-batches"

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
    " --process-per-site"  # `Visitors` says why
)
_SIZE = {"width": 1400, "height": 1000}
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_STEP_MILLISECONDS = 20_000


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """The system's Chromium; Playwright downloads none."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, _NAMES)), None)
    assert found, (
        f"These tests need a browser: install Debian's package chromium, or put one of {_NAMES} on PATH."
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS.split())
        try:
            yield browser
        finally:
            browser.close()


class Visitors:
    """Users with the UI of one Airflow open, one after the other.

    Each visit has a page of its own, and finds nothing of the visits before, except that Airflow's scripts
    have been fetched and compiled: in a new browser that alone keeps two processors busy for seconds. What is
    compiled stays in the process of the pages, which ends with the last of them, so one is always open.
    """

    def __init__(self, browser: Browser, airflow: LocalAirflow) -> None:
        self._browser, self._url = browser, airflow.url
        self._shared = browser.new_context()
        self._kept = self._shared.new_page()
        self._kept.goto(f"{self._url}/api/v2/version")
        self._others: list[BrowserContext] = []

    def come(
        self,
        username: str = "admin",
        *,
        size: dict[str, int] = _SIZE,
        color_scheme: str = "light",
        reduced_motion: str = "no-preference",
        **options: Any,
    ) -> Page:
        """A new page of a user who has logged in; with options of a context it is in a new browser, too.

        Who was here before leaves.
        """
        self.leave()
        context = self._shared
        if options:
            context = self._browser.new_context(**options)
            self._others.append(context)
        let_in(context, self._url, username)
        page = context.new_page()
        page.set_default_timeout(_STEP_MILLISECONDS)
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.emulate_media(color_scheme=color_scheme, reduced_motion=reduced_motion)  # type: ignore[arg-type]
        return page

    def leave(self) -> None:
        """Close all pages, and forget who was here and what they had set."""
        for page in self._shared.pages:
            if page != self._kept:
                page.close()
        self._shared.clear_cookies()
        self._kept.evaluate("localStorage.clear()")
        for context in self._others:
            context.close()
        self._others = []


def let_in(context: BrowserContext, url: str, username: str) -> None:
    """Leave in the browser what the login form does: the cookie with the user's token."""
    who = {"username": username, "password": username}
    answer = context.request.post(f"{url}/auth/token", data=who)
    context.add_cookies([{"name": "_token", "value": answer.json()["access_token"], "url": url}])


def log_in(page: Page, airflow: LocalAirflow) -> None:
    """Through the login form of the simple auth manager."""
    page.set_default_timeout(_STEP_MILLISECONDS)
    page.goto(f"{airflow.url}/auth/login")
    page.fill("input[name=username]", USERNAME)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "login" not in url)


def trouble(page: Page) -> list[str]:
    """What the page complains about from now on: errors in its console, exceptions, failed requests."""
    complaints: list[str] = []

    def note(message: Any) -> None:
        if message.type == "error":
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints
