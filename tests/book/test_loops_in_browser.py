"""The two loops in a real browser: stepped by button, slider, keys and a click on the plane."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from book.builder import loops

sync = pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
BOOK = Path(__file__).parents[2] / "book"


def test_every_way_to_step_leads_on(tmp_path: Path) -> None:
    shutil.copytree(BOOK / "_loops", tmp_path / "loops")
    loops.write(tmp_path / "loops")
    blocks = re.findall(r"^```\{raw\} html\n(.*?)^```$", (BOOK / "loops.md").read_text(encoding="utf-8"), re.S | re.M)
    (tmp_path / "book").mkdir()
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    (tmp_path / "book/loops.html").write_text(head + "".join(blocks), encoding="utf-8")
    moves = loops.moves()
    with sync.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, problems = browser.new_page(), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((tmp_path / "book/loops.html").as_uri())
        slider, plane = page.get_by_role("slider"), page.locator(".dl-plane")

        def at(k: int) -> None:
            """The page shows move k: its line, its place, its arrows."""
            assert slider.get_attribute("aria-valuetext") == f"move {k + 1} of {len(moves)}"
            assert page.locator("#dsaml-algorithm [aria-current]").get_attribute("data-line") == str(moves[k]["line"])
            assert page.locator(".dl-inner").count() == len(moves[k].get("adapted", {}))
            assert page.locator(".dl-outer").count() == ("outer" in moves[k])
            assert page.get_by_role("status").inner_text()

        at(0)
        page.get_by_role("button", name="next").click()
        at(1)
        plane.click(position={"x": 20, "y": 20})
        at(2)
        plane.focus()
        page.keyboard.press("ArrowRight")
        at(3)
        page.keyboard.press("ArrowRight")
        at(4)
        page.keyboard.press("ArrowLeft")
        at(3)
        page.keyboard.press("End")
        at(len(moves) - 1)
        assert page.get_by_role("button", name="next").is_disabled()
        page.keyboard.press("Home")
        at(0)
        slider.focus()
        page.keyboard.press("ArrowRight")
        at(1)
        assert not problems
        browser.close()
