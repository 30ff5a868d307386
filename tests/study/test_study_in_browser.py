"""The study in a real browser: one participant by mouse, one by keyboard, reloads, a killed server, a class on phones."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_crowd import Server, small_study

from dsaml.study import design, export
from dsaml.study.store import Store

sync = pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
LONG = 30_000  # ms


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without sound."""
    with sync.sync_playwright() as player:
        arguments = ["--no-sandbox", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Server]:
    """A study of two songs of five seconds."""
    small_study(tmp_path / "study", songs=2, participants=2, steps=10)
    with Server(tmp_path / "study") as server:
        yield server


class Person:
    """Somebody who opens a link; whatever the browser asks of other hosts, and every error of a script, is noted."""

    def __init__(self, browser: Any, server: Server, path: str, **settings: Any) -> None:
        self.server, self.problems = server, []
        self.context = browser.new_context(**settings)
        self.page = self.open(path)

    def open(self, path: str) -> Any:
        """A new tab."""
        page = self.context.new_page()
        page.set_default_timeout(LONG)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security" in said.text else None)
        page.on("request", self._see)
        page.goto(self.server.address + path)
        return page

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.server.address, "blob:", "data:")):
            self.problems.append(request.url)

    def step(self, number: int) -> None:
        """Wait for a step."""
        self.page.get_by_text(re.compile(f"^Step {number} of")).wait_for()

    def fits(self) -> None:
        """Nothing is cut off at this width; controls have names and are large enough (WCAG 2.5.8)."""
        page = self.page
        if page.locator("script[src='/static/parts.js']").count():
            page.locator("audio[src]").wait_for(state="attached")
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        small = page.evaluate(
            """[...document.querySelectorAll('button, select, textarea, input:not([type=file])')].filter((e) => {
              const box = (e.closest('label') ?? e).getBoundingClientRect();
              return box.width && (box.width < 24 || box.height < 24) && e.type !== 'range';
            }).map((e) => e.outerHTML)"""
        )
        assert small == []
        nameless = page.evaluate(
            """[...document.querySelectorAll('input, select, textarea, progress, audio, svg:not([aria-hidden])')].filter((e) =>
              !e.labels?.length && !e.getAttribute('aria-label')).map((e) => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == []

    def heard(self) -> None:
        """Listen to the whole song."""
        self.page.locator("audio").evaluate("audio => new Promise((done) => { audio.onended = done; audio.play(); })")
        sync.expect(self.page.locator("fieldset.ranks[disabled]")).to_have_count(0)


def kept(server: Server, link: str) -> list[dict[str, Any]]:
    """A participant's answers in the file."""
    store = Store(server.folder / design.ANSWERS, 2)
    answers = store.answers(store.participant(link.removeprefix("/p/")))
    store.close()
    return answers


def lead(person: Person) -> None:
    """Draw on the chart of arousal with the mouse: from the middle up to the top, as long as the song lasts."""
    page, pad = person.page, person.page.locator(".dp-pad .dp-field")
    pad.scroll_into_view_if_needed()
    page.get_by_role("button", name="Play and draw").click()
    box = pad.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    stop = page.get_by_role("button", name="Stop")
    for k in range(500):
        if k and not stop.is_visible():
            break
        now = page.locator("audio").evaluate("audio => audio.ended ? 5 : audio.currentTime")
        page.mouse.move(x, y - box["height"] * 0.4 * now / 5)
    page.mouse.up()
    page.get_by_role("button", name="Play and draw").wait_for()


def test_a_participant_by_mouse_through_reloads_closed_tabs_and_a_killed_server(browser: Any, study: Server) -> None:
    link = study.links()[0]
    person = Person(browser, study, link, viewport={"width": 1100, "height": 900})
    page = person.page
    sync.expect(page.locator("footer")).to_contain_text("trained on synthetic songs and listeners")
    page.get_by_role("button", name="Begin").click()  # without consent
    sync.expect(page.get_by_role("status")).to_contain_text("tick the box")
    assert kept(study, link) == []
    page.get_by_label("Age", exact=True).select_option("26-35")
    page.get_by_label(re.compile("I take part voluntarily")).check()
    page.get_by_role("button", name="Begin").click()

    person.step(2)
    person.fits()
    page.locator(".dp-pad").wait_for()
    lead(person)
    page.reload()  # what was drawn is still there
    person.step(2)
    page.locator(".dp-pad").wait_for()
    sync.expect(page.locator(".dp-pad")).to_have_attribute("aria-label", re.compile("10 of 10"))
    study.kill()
    page.get_by_role("button", name="This is what I feel").click()
    sync.expect(page.locator("#said")).to_contain_text("is kept here and sent again")
    page.close()  # the tab is closed before the server is back
    study.start()
    page = person.page = person.open(link)
    person.step(3)  # the answer was sent on opening
    answers = kept(study, link)
    curve = np.array(answers[1]["curve"])
    assert answers[0] == {"consent": True, "age": "26-35"} and len(answers) == 2
    assert curve[9, 0] > 0.55 and (np.diff(curve[1:, 0]) > -0.05).all()  # as the hand was led
    initial = design.read(study.folder).initial
    assert np.allclose(curve[:, 1], initial[:, 1], atol=1e-3)  # what was not drawn over stays

    person.fits()
    sync.expect(page.locator("fieldset.ranks[disabled]")).to_have_count(2)
    person.heard()
    for name in ("arousal", "valence"):
        for letter, rank in zip("ABCD", (2, 1, 4, 3), strict=True):
            page.get_by_label(f"{name}, curve {letter}: rank {rank}", exact=True).click()
    page.get_by_label("valence, curve A: rank 1", exact=True).click()  # takes the rank from B
    page.get_by_role("button", name="Next").click()
    sync.expect(page.locator("#said")).to_contain_text("every curve of valence")
    page.get_by_label("valence, curve B: rank 2", exact=True).click()
    page.reload()  # the ranks are still there
    sync.expect(page.get_by_label("valence, curve B: rank 2", exact=True)).to_be_checked()
    page.get_by_role("button", name="Next").click()
    person.step(4)
    assert kept(study, link)[2] == {"arousal": [2, 1, 4, 3], "valence": [1, 2, 4, 3]}
    person.heard()
    for name in ("arousal", "valence"):
        for rank, letter in enumerate("ABCD", 1):
            page.get_by_label(f"{name}, curve {letter}: rank {rank}", exact=True).click()
    page.get_by_role("button", name="Next").click()
    person.step(5)
    page.get_by_label(re.compile("Is there anything")).fill("<script>alert(1)</script>")
    page.get_by_role("button", name="Finish").click()
    sync.expect(page.locator("#said")).to_contain_text("plain text")
    page.get_by_label(re.compile("Is there anything")).fill("It was fun & short")
    page.get_by_role("button", name="Finish").click()
    page.get_by_role("heading", name="Thank you").wait_for()
    page.go_back()
    page.goto(study.address + link)
    page.get_by_role("heading", name="Thank you").wait_for()
    assert kept(study, link)[4] == {"comment": "It was fun & short"} and not person.problems


def test_a_participant_by_keyboard_alone_at_the_width_of_a_phone(browser: Any, study: Server, tmp_path: Path) -> None:
    link = study.links()[1]
    person = Person(browser, study, link, viewport={"width": 360, "height": 740})
    page, press = person.page, person.page.keyboard.press

    def tab_to(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("s => document.activeElement?.matches(s)", selector):
                return
            press("Tab")
        raise AssertionError(f"the keyboard does not come to {selector}")

    person.step(1)
    person.fits()
    tab_to("#training")
    press("ArrowDown")
    press("ArrowDown")
    tab_to("#consent")
    press("Space")
    tab_to("button[type=submit]")
    press("Enter")
    person.step(2)
    person.fits()
    page.locator(".dp-pad").wait_for()
    tab_to(".dp-pad")
    press("Home")  # does nothing there
    press("Space")
    for _ in range(3):
        press("PageDown")
    page.get_by_role("button", name="Play and draw").wait_for()
    tab_to("button[type=submit]")
    press("Enter")
    for step in (3, 4):
        person.step(step)
        person.fits()
        tab_to("audio")
        person.heard()  # the browser's own controls are its own affair
        for name in ("arousal", "valence"):
            for k, rank in enumerate((4, 3, 2, 1)):
                tab_to(f"[name={name}-{k}]")
                press("Space")
                for _ in range(rank - 1):
                    press("ArrowRight")
                if k < 3:
                    press("Tab")
        tab_to("button[type=submit]")
        press("Enter")
    person.step(5)
    tab_to("#comment")
    page.keyboard.type("by keyboard")
    tab_to("button[type=submit]")
    press("Enter")
    page.get_by_role("heading", name="Thank you").wait_for()
    answers = kept(study, link)
    assert answers[0] == {"consent": True, "training": "1-3"} and answers[4] == {"comment": "by keyboard"}
    assert np.array(answers[1]["curve"])[4:, 0].max() < -0.3
    assert answers[2] == answers[3] == {"arousal": [4, 3, 2, 1], "valence": [4, 3, 2, 1]}
    assert not person.problems
    export.export(study.folder, tmp_path / "out")
    assert len((tmp_path / "out/rankings.csv").read_text().splitlines()) == 1 + 2 * 2 * 4


@pytest.fixture
def lesson(tmp_path: Path) -> Iterator[Server]:
    """A class of three seats and songs of seven seconds."""
    small_study(tmp_path / "class", design.CLASS, participants=3, steps=14)
    with Server(tmp_path / "class") as server:
        yield server


def test_a_class_on_phones_and_the_lecturers_page(browser: Any, lesson: Server) -> None:
    server = lesson
    lecturer = Person(browser, server, f"/experimenter/{server.token}", viewport={"width": 1200, "height": 900})
    for k in range(2):
        phone = Person(browser, server, f"/join/{server.join}", viewport={"width": 360, "height": 740}, has_touch=True)
        phone.page.get_by_role("button", name="Take part").tap()
        phone.step(1)
        phone.page.get_by_label(re.compile("I take part")).check()
        phone.page.get_by_role("button", name="Begin").tap()
        phone.step(2)
        for label in ("arousal over time", "valence over time"):
            phone.page.get_by_label(label).check()
            field = phone.page.locator(".dp-pad .dp-field")
            field.tap(position={"x": 2, "y": field.bounding_box()["height"] * (0.2 + 0.3 * k)}, force=True)
            phone.page.get_by_role("button", name="Play and draw").tap()
            phone.page.get_by_role("button", name="Play and draw").wait_for()
        phone.fits()
        phone.page.get_by_role("button", name="This is what I feel").tap()
        phone.page.get_by_role("heading", name=re.compile("second song")).wait_for()
        sync.expect(phone.page.locator("#dsaml-draw")).to_contain_text("model for you, from song 0")
        assert phone.page.locator(".dp-band").count() == 2 and not phone.problems
        phone.context.close()
        people = lecturer.page.locator("#class table tr", has_text="people").locator("td").first
        sync.expect(people).to_have_text(str(k + 1), timeout=LONG)
    assert (
        lecturer.page.locator("#class .dp-faint").count() == 4 and lecturer.page.locator("#class .dp-band").count() == 2
    )
    spread = lecturer.page.locator("#class table tr", has_text="disagreement").locator("td").first
    assert float(spread.inner_text()) == pytest.approx(0.6 / np.sqrt(2), abs=0.05)
    lecturer.page.get_by_label(re.compile("song 2: what the model predicts")).check()
    sync.expect(lecturer.page.locator("#class .dp-faint")).to_have_count(4)
    lecturer.fits()
    assert not lecturer.problems
    state = json.loads(server.ask("GET", f"/experimenter/{server.token}/state.json")[1])
    assert [person["done"] for person in state["people"]] == [2, 2, 0]
