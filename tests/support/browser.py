"""Pages in a real browser without a window: Chromium, driven by Playwright."""

import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_MS = 120_000  # of machines that do other things beside
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_INSTALL = "pip install -c constraints.txt -e .[browser], and Debian's chromium or `playwright install chromium`"


def missing() -> str | None:
    """Why there is no browser to test with; None: there is one."""
    if importlib.util.find_spec("playwright") is None:
        return f"no Playwright: {_INSTALL}"
    return None if program() or _own() else f"no Chromium: {_INSTALL}"


def program() -> str | None:
    """The system's Chromium."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _own() -> bool:
    """Whether Playwright has downloaded one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).is_file()


@contextmanager
def chromium() -> Iterator:
    """The browser. Tests run as root, in containers: it has no sandbox of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Watched:
    """A page, with what its console says of errors and every address that it asks for."""

    def __init__(self, page) -> None:
        self.page, self.errors, self.addresses = page, list[str](), list[str]()
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.addresses.append(request.url[:200]))


def visit(browser, page: Path, steps: Sequence[str | None], downloads: Path) -> dict:
    """Open a file, do the steps one after the other, and tell what was seen.

    Args:
        browser: of `chromium`.
        page: an HTML file.
        steps: JavaScript whose value is kept; None: wait a moment.
        downloads: folder for what the page saves.
    """
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    watched, files = Watched(context.new_page()), list[str]()
    saved = []
    watched.page.on(
        "download", lambda download: saved.append(download)
    )  # no built-in: Playwright marks what it is given
    watched.page.goto(page.absolute().as_uri())
    values = []
    for step in steps:
        if step is None:
            watched.page.wait_for_timeout(400)
        else:
            values.append(watched.page.evaluate(f"JSON.stringify({step})"))
    for download in saved:
        download.save_as(downloads / download.suggested_filename)
        files.append(download.suggested_filename)
    context.close()
    return {"values": values, "errors": watched.errors, "addresses": watched.addresses, "files": files}
