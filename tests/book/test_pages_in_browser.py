"""Every page of the built book in a real browser, on a desk (1280 px) and on a phone (390 px); needs `make book` first."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from book.builder.build import toc_pages
from book.builder.pages import from_npm

ROOT = Path(__file__).parents[2]
HTML = Path(os.environ.get("DSAML_BOOK", ROOT / "_build/html"))  # another built book, if it is named
PAGES = [page for page in toc_pages(ROOT / "_toc.yml") if (HTML / f"{page}.html").is_file()]
AXE = ("axe-core@4.14.1", "axe.min.js")  # npm, MPL-2.0
SERIOUS = ("serious", "critical")
WIDTHS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
sync = pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
    pytest.mark.skipif(not PAGES, reason="there is no built book: make book"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The built book, served as on the web."""
    handler = functools.partial(Quiet, directory=str(HTML))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync.sync_playwright() as player:
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--mute-audio"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, the tester of accessibility; empty where npm cannot fetch it."""
    script = from_npm(*AXE, ROOT / "cache")
    return script.read_text(encoding="utf-8") if script else ""


@pytest.fixture(scope="module", params=WIDTHS)
def visitor(browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_context(viewport=WIDTHS[request.param]).new_page()
    page.set_default_timeout(120_000)  # the machine may have other work
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_and_what_scrolls_says_so(visitor: Any, address: str, name: str, axe: str) -> None:
    visitor.errors.clear()
    visitor.goto(f"{address}/{name}.html", wait_until="load")
    visitor.wait_for_function("!window.MathJax?.startup?.promise || window.MathJax.startup.promise.then(() => true)")
    visitor.wait_for_timeout(300)  # what scrolls is marked a moment after equations have their size
    found = visitor.evaluate((Path(__file__).parent / "visit.js").read_text(encoding="utf-8").partition("\n")[2])
    if axe:
        visitor.evaluate(axe)
        violations = visitor.evaluate("async () => (await axe.run(document)).violations")
        found += [
            f"axe, {one['impact']}: {one['help']}: {node['html'][:150]}"
            for one in violations
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]
    assert not visitor.errors + found


def test_the_player_is_no_more_than_a_phone_should_fetch() -> None:
    assert sum(file.stat().st_size for file in (HTML / "player").iterdir()) <= 3_000_000
