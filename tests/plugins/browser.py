"""A headless Chromium at Airflow's UI."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.harness.local_airflow import LocalAirflow

PAGE_PATH = "/plugin/claude-batches"

_QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
)
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
        browser = playwright.chromium.launch(executable_path=found, args=_QUIET.split())
        try:
            yield browser
        finally:
            browser.close()


def log_in(page: Page, airflow: LocalAirflow, username: str = "admin", password: str = "admin") -> None:
    """Through the login form of the simple auth manager."""
    page.set_default_timeout(_STEP_MILLISECONDS)
    page.goto(f"{airflow.url}/auth/login")
    page.fill("input[name=username]", username)
    page.fill("input[name=password]", password)
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
