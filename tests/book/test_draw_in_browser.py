"""Drawing in a real browser, from files, without a network: a recorded drag, keys alone, a phone, two songs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
from reader import FASTEST, PER_MOVE, SLOWEST, Reader, browser, in_browser, sync

from dsaml.audio.recording import encode

__all__ = ["browser"]  # a fixture
pytestmark = in_browser
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
                "shown": [{"id": "low", "ccc_before": 0.1, "ccc_after": 0.2, "after": line(0, 0)}],
            }
        )
    supports = [
        songs[0]
        | {"id": "9", "title": "song 9, annotated by low", "audio": "7.mp3", "shown": [], "average": line(1, -1)}
    ]
    light = {"origin": "trained on nothing", "noise": [0.2, 0.2], "calibration": [1.0, 0.01]}
    light["songs"] = {song["id"]: {"base": [[0.0, 0.0]] * STEPS, "basis": basis} for song in songs}
    people = [{"id": "low", "color": "#0173b2", "support": "9"}, {"id": "high", "color": "#c8690a", "support": "8"}]
    data = {
        "seconds": STEPS / 2,
        "step": 0.5,
        "start": START,
        "listeners": people,
        "songs": songs,
        "supports": supports,
    }
    data |= {"light": light}
    (root / "player/data.js").write_text(f"window.dsamlPlayer = {json.dumps(data)};")
    blocks = re.findall(r"^```\{raw\} html\n(.*?)^```$", (BOOK / "player.md").read_text(encoding="utf-8"), re.S | re.M)
    (root / "book").mkdir()
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>x</title>'
    head += '<meta name="viewport" content="width=device-width">'
    (root / "book/player.html").write_text(head + "".join(blocks), encoding="utf-8")
    return root


def reader_of(browser: Any, folder: Path, **settings: Any) -> Reader:
    """Before the book's page, as a file, without a network."""
    return Reader(browser, (folder / "book/player.html").as_uri(), offline=True, **settings)


def saved(reader: Reader, folder: Path) -> np.ndarray:
    """The drawn curve (STEPS, 2), as the page saves it."""
    points = reader.saved(folder)
    assert points[:, 0].tolist() == [START + k / 2 for k in range(STEPS)]
    return points[:, 1:]


def hand(seconds: float) -> np.ndarray:
    """Where a hand is led: arousal rises and falls, valence falls."""
    return np.array([0.6 * np.sin(seconds), 0.5 - seconds / 6])


def assert_led(curve: np.ndarray, moves: list[float]) -> None:
    """The curve is within 0.05 of where the hand was told to be at its step, or at one within half a second.

    ``moves`` are the moments at which it was told. The one before these and the one after count too: the hand rests in between.
    """
    assert len(moves) > 3 * STEPS  # it was led, not thrown
    for k, value in enumerate(curve):
        first, last = np.searchsorted(moves, [k / 2 - 0.5, k / 2 + 0.5])
        near = np.stack([hand(seconds) for seconds in moves[max(0, first - 2) : last + 2]])
        assert (value > near.min(0) - 0.05).all() and (value < near.max(0) + 0.05).all(), (k, value)


@pytest.mark.parametrize("touch", [False, True])
def test_a_drag_on_the_plane_gives_the_expected_curve(browser: Any, folder: Path, tmp_path: Path, touch: bool) -> None:
    size = {"width": 390, "height": 844} if touch else {"width": 1200, "height": 900}
    reader = reader_of(browser, folder, viewport=size, has_touch=touch, color_scheme="dark")
    page = reader.page
    rate = reader.rate_to_follow()
    reader.ready(rate)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= size["width"]
    reader.choose("both at once, on the plane")
    reader.pad.scroll_into_view_if_needed()
    session = page.context.new_cdp_session(page)
    box = reader.field.bounding_box()
    begin = {"x": box["width"] * (hand(0)[1] + 1) / 2, "y": box["height"] * (1 - hand(0)[0]) / 2}
    (reader.field.tap if touch else reader.field.click)(position=begin)
    reader.button.click()
    box = reader.field.bounding_box()
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
    moves = [0.0]
    while (now := reader.now()) < STEPS / 2:
        lead("Move", now)
        moves.append(now)
        if now - moves[-2] > 2 * PER_MOVE:  # too fast for this machine
            rate = max(SLOWEST, rate / 2)
            reader.rate(rate)
    lead("End", moves[-1])
    reader.done()
    assert_led(saved(reader, tmp_path), moves)
    assert "nearest listener: high" in reader.draw.inner_text()
    assert not reader.problems


def test_keys_alone_draw_two_songs_and_the_prediction_is_judged(browser: Any, folder: Path, tmp_path: Path) -> None:
    reader = reader_of(browser, folder, viewport={"width": 1200, "height": 900})
    keyboard = reader.page.keyboard
    for song in ("7", "8"):
        reader.choose(f"song {song}")
        reader.ready(FASTEST)
        for label in ("arousal over time", "valence over time"):
            reader.choose(label)
            assert reader.draw.locator("[role=slider]").count() == 1
            reader.pad.focus()
            for _ in range(3):  # before the start: where the curve begins
                keyboard.press("PageUp")
            keyboard.press("ArrowDown")
            reader.button.focus()
            keyboard.press("Enter")
            said = reader.done()
    assert reader.pad.get_attribute("aria-valuetext") == "valence 0.70"
    curve = saved(reader, tmp_path)
    assert np.allclose(curve, 0.7)
    assert said.startswith("Predicted from song 7: its distance") and said.endswith("The prediction was nearer to you.")
    assert reader.draw.locator(".dp-band").count() == 2
    moment = reader.draw.get_by_label("moment", exact=True)  # a passage is redone where the song stands
    moment.evaluate("slider => { slider.value = 4; slider.dispatchEvent(new Event('input')); }")
    reader.ready(SLOWEST)
    reader.pad.focus()
    keyboard.press(" ")
    keyboard.press("PageDown")  # while the song plays
    sync.expect(reader.pad).to_have_attribute("aria-valuetext", "valence 0.45")
    assert reader.now() < 5.0
    reader.rate(FASTEST)
    reader.done()
    again = saved(reader, tmp_path)
    assert np.allclose(again[:8], curve[:8]) and np.allclose(again[10:], [0.7, 0.45])
    assert not reader.problems and not reader.foreign


def test_a_file_is_opened_or_refused_in_a_sentence(browser: Any, folder: Path, tmp_path: Path) -> None:
    reader = reader_of(browser, folder, viewport={"width": 390, "height": 844})
    rows = [f"{START + k / 2},{-0.8 + k / 60:.4f},-0.7" for k in range(STEPS)]
    (tmp_path / "good.csv").write_text("\n".join(["time_s,arousal,valence", *rows]))
    (tmp_path / "bad.csv").write_text("time,a,v\n1,2,3\n")
    opens, status = reader.page.locator("#dp-file"), reader.draw.locator("[role=status]").first
    opens.set_input_files(tmp_path / "bad.csv")
    sync.expect(status).to_have_text("bad.csv: The file needs the columns time_s,arousal,valence, each once.")
    opens.set_input_files(tmp_path / "good.csv")
    sync.expect(status).to_contain_text("Read good.csv as your curve of song 7")
    assert saved(reader, tmp_path).tolist() == [[round(-0.8 + k / 60, 4), -0.7] for k in range(STEPS)]
    assert "nearest listener: low" in reader.draw.inner_text()
    assert reader.page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert not reader.problems


def test_the_player_shows_songs_listeners_and_what_the_model_was_given(browser: Any, folder: Path) -> None:
    reader = reader_of(browser, folder, viewport={"width": 1200, "height": 900})
    player = reader.page.locator("#dsaml-player")
    checked = player.locator("[data-curve]:checked").evaluate_all("boxes => boxes.map((box) => box.dataset.curve)")
    assert checked == ["average", "own low", "own high"]
    colors = [player.locator(".dp-key").nth(k).evaluate("key => getComputedStyle(key).backgroundColor") for k in (0, 1)]
    assert player.locator(".dp-plane circle").nth(1).evaluate("dot => getComputedStyle(dot).color") == colors[0]
    ticks = player.locator(".dp-chart").first.locator(".dp-tick").all_text_contents()
    assert ticks == ["1", "0", "−1", "0", "5 s"]
    assert (
        player.locator("[data-curve='after high']").count() == 0
    )  # nothing was predicted of it: no control that does nothing
    player.get_by_label("song 9, annotated by low").check()
    sync.expect(player.get_by_text("this one")).to_be_visible()
    assert reader.draw.get_by_label("song 9").count() == 0  # songs to draw are those that the model did not learn from
    moment = player.get_by_label("moment", exact=True)
    moment.evaluate("slider => { slider.value = 0; slider.dispatchEvent(new Event('input')); }")
    dot, plane = player.locator(".dp-plane circle").first.bounding_box(), player.locator(".dp-plane").bounding_box()
    assert dot["x"] >= plane["x"] and dot["y"] >= plane["y"]  # a dot at an end of both scales is whole
    assert dot["x"] + dot["width"] <= plane["x"] + plane["width"] and dot["height"] > 5
    assert not reader.problems
