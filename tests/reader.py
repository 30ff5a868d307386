"""Somebody before a drawing page, in a real browser: what its tests share. They wait for what happens, never for a time."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsaml.listen.curves import read_curve

sync = pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
in_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
PATIENCE = 120_000  # ms that something may take on a busy machine
SLOWEST, FASTEST = 0.07, 4.0  # playback rates at which a browser plays
PER_MOVE = 0.05  # s of a song that may pass while a hand is moved once


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without sound."""
    with sync.sync_playwright() as player:
        arguments = ["--no-sandbox", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        sync.expect.set_options(timeout=PATIENCE)
        yield chromium
        chromium.close()


class Reader:
    """Opens a page; nothing but this machine can be reached."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        self.page = browser.new_context(accept_downloads=True, **settings).new_page()
        self.page.set_default_timeout(PATIENCE)
        self.foreign: list[str] = []
        self.page.route(re.compile(r"^(?!file:|data:|blob:|http://127\.0\.0\.1:)"), self._refuse)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.draw = self.page.locator("#dsaml-draw")
        self.pad = self.draw.locator(".dp-pad")
        self.field = self.pad.locator(".dp-field")
        self.button = self.draw.get_by_role("button", name=re.compile("Play and draw|Stop"))
        self.audio = self.page.locator("main audio, #dsaml-draw audio").first

    def _refuse(self, route: Any) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def ready(self, rate: float = 1.0) -> None:
        """Wait until the song can be played; from then on at this rate."""
        self.audio.evaluate(
            """(audio, rate) => new Promise((resolve) => {
              audio.defaultPlaybackRate = audio.playbackRate = rate;
              const look = () => (audio.readyState >= 3 ? resolve() : setTimeout(look, 20));
              look();
            })""",
            rate,
        )
        self.rate(rate)

    def rate(self, rate: float) -> None:
        """How fast the song plays."""
        self.audio.evaluate("(audio, rate) => { audio.defaultPlaybackRate = audio.playbackRate = rate; }", rate)

    def rate_to_follow(self) -> float:
        """The playback rate at which this machine can lead a hand along."""
        began = time.perf_counter()
        for _ in range(10):
            self.now()
            self.page.mouse.move(1, 1)
        return float(np.clip(PER_MOVE / ((time.perf_counter() - began) / 10), SLOWEST, 1.0))

    def now(self) -> float:
        """The song's moment, s."""
        return self.audio.evaluate("audio => audio.ended ? 1e9 : audio.currentTime")

    def choose(self, label: str) -> None:
        """A song or what to draw."""
        self.draw.get_by_label(label, exact=True).check()

    def done(self) -> str:
        """Wait until the song has ended; what the page says then."""
        sync.expect(self.draw.locator("[role=status]").first).to_have_text(re.compile("^Drawn: "))
        return self.draw.locator(".dp-verdict").inner_text()

    def saved(self, folder: Path) -> np.ndarray:
        """The drawn curve: time, arousal and valence (points, 3), as the page saves it."""
        with self.page.expect_download() as download:
            self.draw.get_by_role("button", name="Save my curve").click()
        download.value.save_as(folder / "mine.csv")
        return read_curve(folder / "mine.csv").to_numpy()
