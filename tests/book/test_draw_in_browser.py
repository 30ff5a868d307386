"""Drawing in a real browser, from files, without a network: a recorded drag, keys alone, a phone, two songs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsaml.audio.recording import encode
from dsaml.listen.curves import read_curve

sync = pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]
BOOK = Path(__file__).parents[2] / "book"
PLAYER = Path(__file__).parents[2] / "dsaml/listen/player"
STEPS, START = 12, 15.0


def line(arousal: float, valence: float) -> list[list[float]]:
    """A curve that rises from these values by 0.2."""
    return [[arousal + 0.2 * k / STEPS, valence + 0.2 * k / STEPS] for k in range(STEPS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as player.md has it, with two songs of six seconds and a model that knows an offset only."""
    root = tmp_path_factory.mktemp("book")
    shutil.copytree(PLAYER, root / "player")
    rng, songs = np.random.default_rng(0), []
    basis = [[[0.0, 0.0, 0.0, 0.0, 1.0]] * 2] * STEPS
    for name in ("7", "8"):
        encode(root / f"player/{name}.mp3", 0.1 * rng.normal(size=6 * 44_100), 44_100)
        listeners = {"low": line(-0.9, -0.9), "high": line(0.5, 0.5)}
        songs.append(
            {
                "id": name,
                "title": f"song {name}",
                "audio": f"{name}.mp3",
                "peaks": [0.5] * 600,
                "average": line(-0.2, -0.2),
                "before": line(0, 0),
                "listeners": listeners,
                "shown": [{"id": "low", "support": "x", "ccc_before": 0.1, "ccc_after": 0.2, "after": line(0, 0)}],
            }
        )
    light = {"origin": "trained on nothing", "noise": [0.2, 0.2], "calibration": [1.0, 0.01]}
    light["songs"] = {song["id"]: {"base": [[0.0, 0.0]] * STEPS, "basis": basis} for song in songs}
    data = {"seconds": STEPS / 2, "step": 0.5, "start": START, "songs": songs, "light": light}
    (root / "player/data.js").write_text(f"window.dsamlPlayer = {json.dumps(data)};")
    blocks = re.findall(r"^```\{raw\} html\n(.*?)^```$", (BOOK / "player.md").read_text(encoding="utf-8"), re.S | re.M)
    (root / "book").mkdir()
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    head += '<meta name="viewport" content="width=device-width">'
    (root / "book/player.html").write_text(head + "".join(blocks), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without sound."""
    with sync.sync_playwright() as player:
        arguments = ["--no-sandbox", "--mute-audio", "--autoplay-policy=no-user-gesture-required"]
        chromium = player.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


class Reader:
    """Somebody before the page."""

    def __init__(self, browser: Any, folder: Path, **settings: Any) -> None:
        self.page = browser.new_context(accept_downloads=True, offline=True, **settings).new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto((folder / "book/player.html").as_uri())
        self.draw = self.page.locator("#dsaml-draw")
        self.pad = self.draw.locator(".dp-pad")
        self.button = self.draw.get_by_role("button", name=re.compile("Play and draw|Stop"))

    def now(self) -> float:
        """The song's moment, s."""
        return self.draw.locator("audio").evaluate("audio => audio.ended ? 1e9 : audio.currentTime")

    def choose(self, label: str) -> None:
        """A song or what to draw."""
        self.draw.get_by_label(label, exact=True).check()

    def done(self) -> str:
        """Wait until the song has ended; what the page says then."""
        self.button.filter(has_text="Play and draw").wait_for(timeout=20_000)
        return self.draw.locator(".dp-verdict").inner_text()

    def saved(self, folder: Path) -> np.ndarray:
        """The drawn curve (STEPS, 2), as the page saves it."""
        with self.page.expect_download() as download:
            self.draw.get_by_role("button", name="Save my curve").click()
        download.value.save_as(folder / "mine.csv")
        curve = read_curve(folder / "mine.csv")
        assert curve.time_s.tolist() == [START + k / 2 for k in range(STEPS)]
        return curve[["arousal", "valence"]].to_numpy()


def hand(seconds: float) -> np.ndarray:
    """Where a hand is led: arousal rises and falls, valence falls."""
    return np.array([0.6 * np.sin(seconds), 0.5 - seconds / 6])


def assert_led(curve: np.ndarray) -> None:
    """The curve is within 0.05 of the hand at its step, or at one within half a second."""
    for k, value in enumerate(curve):
        near = np.stack([hand(seconds) for seconds in np.linspace(max(0, k / 2 - 0.5), k / 2 + 0.5, 21)])
        assert (value > near.min(0) - 0.05).all() and (value < near.max(0) + 0.05).all(), (k, value)


@pytest.mark.parametrize("touch", [False, True])
def test_a_drag_on_the_plane_gives_the_expected_curve(browser: Any, folder: Path, tmp_path: Path, touch: bool) -> None:
    size = {"width": 390, "height": 844} if touch else {"width": 1200, "height": 900}
    reader = Reader(browser, folder, viewport=size, has_touch=touch, color_scheme="dark")
    page = reader.page
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    reader.choose("both at once, on the plane")
    reader.pad.scroll_into_view_if_needed()
    session = page.context.new_cdp_session(page)
    box = reader.pad.bounding_box()
    begin = {"x": box["width"] * (hand(0)[1] + 1) / 2, "y": box["height"] * (1 - hand(0)[0]) / 2}
    (reader.pad.tap if touch else reader.pad.click)(position=begin)
    reader.button.click()
    box = reader.pad.bounding_box()
    assert box["y"] > 0 and box["y"] + box["height"] < size["height"]  # button and field are on one screen

    def lead(kind: str, seconds: float) -> None:
        arousal, valence = hand(seconds)
        x, y = box["x"] + box["width"] * (valence + 1) / 2, box["y"] + box["height"] * (1 - arousal) / 2
        if touch:
            points = [] if kind == "End" else [{"x": x, "y": y}]
            session.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
        else:
            page.mouse.move(x, y)
            if kind != "Move":
                (page.mouse.down if kind == "Start" else page.mouse.up)()

    lead("Start", 0)
    while (now := reader.now()) < STEPS / 2:
        lead("Move", now)
    lead("End", STEPS / 2)
    reader.done()
    assert_led(reader.saved(tmp_path))
    assert "nearest listener: high" in reader.draw.inner_text()
    assert not reader.problems


def test_keys_alone_draw_two_songs_and_the_prediction_is_judged(browser: Any, folder: Path, tmp_path: Path) -> None:
    reader = Reader(browser, folder, viewport={"width": 1200, "height": 900})
    keyboard = reader.page.keyboard
    for song in ("7", "8"):
        reader.choose(f"song {song}")
        for label in ("arousal over time", "valence over time"):
            reader.choose(label)
            assert reader.draw.locator("[role=slider]").count() == 1
            reader.button.focus()
            keyboard.press("Enter")  # the field has the focus now
            for _ in range(3):
                keyboard.press("PageUp")
            keyboard.press("ArrowDown")
            said = reader.done()
    assert reader.pad.get_attribute("aria-valuetext") == "valence 0.70"
    curve = reader.saved(tmp_path)
    assert np.allclose(curve[2:], 0.7) and np.all(curve <= 0.75)
    assert said.startswith("Predicted from song 7: its distance") and said.endswith("The prediction was nearer to you.")
    assert reader.draw.locator(".dp-band").count() == 2
    moment = reader.draw.get_by_label("moment", exact=True)  # a passage is redone where the song stands
    moment.evaluate("slider => { slider.value = 4; slider.dispatchEvent(new Event('input')); }")
    reader.pad.focus()
    keyboard.press(" ")
    keyboard.press("PageDown")
    reader.done()
    again = reader.saved(tmp_path)
    assert np.allclose(again[:8], curve[:8]) and np.allclose(again[10:], [0.7, 0.45])
    assert not reader.problems


def test_a_file_is_opened_or_refused_in_a_sentence(browser: Any, folder: Path, tmp_path: Path) -> None:
    reader = Reader(browser, folder, viewport={"width": 390, "height": 844})
    rows = [f"{START + k / 2},{-0.8 + k / 60:.4f},-0.7" for k in range(STEPS)]
    (tmp_path / "good.csv").write_text("\n".join(["time_s,arousal,valence", *rows]))
    (tmp_path / "bad.csv").write_text("time,a,v\n1,2,3\n")
    opens, status = reader.page.locator("#dp-file"), reader.draw.locator("[role=status]").first
    opens.set_input_files(tmp_path / "bad.csv")
    sync.expect(status).to_have_text("bad.csv: The file needs the columns time_s,arousal,valence, each once.")
    opens.set_input_files(tmp_path / "good.csv")
    sync.expect(status).to_contain_text("Read good.csv as your curve of song 7")
    assert reader.saved(tmp_path).tolist() == [[round(-0.8 + k / 60, 4), -0.7] for k in range(STEPS)]
    assert "nearest listener: low" in reader.draw.inner_text()
    assert reader.page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert not reader.problems
