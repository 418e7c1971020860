"""The page in headless Chromium, on a real server; what it writes to the console as an error fails the test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.service.running import Server, example, finished

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE = 120_000  # milliseconds, for a machine that does other things too
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
Opened = Callable[..., Page]
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`graphpass serve` on a free port, with a folder of its own."""
    with Server(tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture(scope="session")
def job(server: Server) -> str:
    """A conversion of the built-in example that has succeeded, with its evaluation."""
    asked = {**example(server.http), "options": {"time_steps": 2, "method": "max"}}
    done = finished(server.http, server.http.post("/v1/conversions", json=asked).headers["Location"])
    assert done["state"] == "succeeded"
    return str(done["id"])


@pytest.fixture(
    scope="module"
)  # while playwright runs, so does its event loop in this thread: no asyncio.run elsewhere
def browser() -> Iterator[Browser]:
    """Chromium of Debian."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        yield (browser := playwright.chromium.launch(executable_path=path, args=FLAGS))
        browser.close()


@pytest.fixture
def opened(browser: Browser, server: Server) -> Iterator[Opened]:
    """Opens the page with the server's key in a fresh browser: opened(scheme, size, at, on)."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_page(
            scheme: str = "light",
            size: tuple[int, int] = DESKTOP,
            at: str = "",
            on: Server | None = None,
            key: str = "",
        ) -> Page:
            of = on or server
            context = browser.new_context(
                color_scheme="dark" if scheme == "dark" else "light",
                viewport={"width": size[0], "height": size[1]},
                accept_downloads=True,
                service_workers="block",
            )
            stack.callback(context.close)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
            page.goto(f"{of.url}/#key={key or of.key}")
            page.get_by_role("heading", name="Convert a network").wait_for()
            if at:
                page.goto(f"{of.url}/{at}")
            return page

        yield open_page
    # Chromium says by itself when an answer is 4xx or the server is away, which some tests are about.
    assert [error for error in errors if not error.startswith("Failed to load resource")] == []


def accessible(page: Page) -> None:
    """Check that axe finds no fault."""
    found = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()


def take_example(page: Page) -> None:
    """Choose the built-in example."""
    page.get_by_role("button", name="Use the built-in example").click()
    page.get_by_text("Spikes will reach 4 of 6 weight layers").wait_for()


def start(page: Page) -> None:
    """Start a job with the inputs that are chosen; its page."""
    page.get_by_role("button", name="Start the").click()
    page.wait_for_url("**/#/jobs/*")
