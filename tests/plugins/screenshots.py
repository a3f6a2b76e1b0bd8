"""Pictures of the page for the README and for whoever changes it: ``python -m tests.plugins.screenshots``.

They show a made-up month of five DAGs, on a server and in a browser of this machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.local_airflow import airflow_environment, common_settings, create_database, write_settings
from tests.plugins.browser import PAGE_PATH, log_in, open_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.plugins.seeded_server import SeededServer

FOLDER = Path(__file__).parents[2] / "airflow_claude_batch" / "plugins" / "ui" / "screenshots"
WIDE = {"width": 1360, "height": 900}
NARROW = {"width": 420, "height": 900}
SETTLED_MILLISECONDS = 900


def main(folder: Path = FOLDER) -> None:
    """Write all pictures into the folder."""
    import os

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        own = scratch / "own"  # Airflow's models want a home in this process, too
        own.mkdir()
        os.environ.update(airflow_environment(own, {}))
        write_settings(own, common_settings(own, [own]))
        create_database(own)
        from tests.plugins.seeded_server import start_seeded_server
        from tests.plugins.seeding import many

        with start_seeded_server(scratch / "server") as server, open_browser() as browser:
            server.holds([])
            picture(server, browser, folder / "empty.png")
            server.holds(many(1, in_flight=0))
            picture(server, browser, folder / "one-job.png")
            server.holds(many(500))
            for scheme in ("light", "dark"):
                picture(server, browser, folder / f"page-{scheme}.png", scheme)
                picture(server, browser, folder / f"details-{scheme}.png", scheme, details=True)
                picture(server, browser, folder / f"trends-{scheme}.png", scheme, end=True)
            picture(server, browser, folder / "narrow.png", size=NARROW)


def picture(
    server: SeededServer,
    browser: Browser,
    file: Path,
    scheme: str = "light",
    *,
    details: bool = False,
    end: bool = False,
    size: dict[str, int] = WIDE,
) -> None:
    """One picture of the page: its top, its end, or the details of the first recent job with failures."""
    context = browser.new_context(color_scheme=scheme, viewport=size, timezone_id="Europe/Amsterdam")
    page: Page = context.new_page()
    log_in(page, server.airflow)
    page.goto(server.url + PAGE_PATH)
    page.get_by_role("heading", name="Claude Batches").wait_for()
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    if details:
        failed = page.get_by_role("row").filter(has_text="did not succeed").first
        failed.get_by_role("link", name="Details").click()
        page.get_by_role("dialog").get_by_text("Why requests did not succeed").wait_for()
    if end:
        page.get_by_role("region", name="Money, last 30 days").scroll_into_view_if_needed()
        page.get_by_text("Requests by outcome").scroll_into_view_if_needed()
    page.wait_for_timeout(SETTLED_MILLISECONDS)
    page.screenshot(path=file)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
