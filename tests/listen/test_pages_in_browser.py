"""Own music in a real browser: a curve drawn for annotate by keys alone, and the page of predict --html."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_music import light_model, write_song

pytest.importorskip("playwright.sync_api", reason="playwright, which leads a browser, is not installed")
from reader import FASTEST, Reader, browser, in_browser, sync

from dsaml.listen.annotate import annotate
from dsaml.listen.curves import read_curve
from dsaml.listen.export import write_page

__all__ = ["browser"]  # a fixture
pytestmark = in_browser
PHONE = {"width": 390, "height": 844}


def test_a_curve_is_drawn_by_keys_alone_and_saving_it_ends_the_command(browser: Any, tmp_path: Path) -> None:
    song = write_song(tmp_path / "my song <1>.wav", 8)
    light_model().save(tmp_path / "base.safetensors")
    opened, addresses, points = threading.Event(), [], []

    def run() -> None:
        def known(address: str) -> None:
            addresses.append(address)
            opened.set()

        points.append(annotate(song, tmp_path / "mine.csv", tmp_path / "base.safetensors", known))

    command = threading.Thread(target=run, daemon=True)
    command.start()
    assert opened.wait(120)
    reader = Reader(browser, addresses[0], viewport=PHONE, has_touch=True)
    assert reader.page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    assert "trained on synthetic songs and listeners" in reader.draw.inner_text()
    reader.ready(FASTEST)
    keyboard, save = reader.page.keyboard, reader.draw.get_by_role("button", name="Save my curve")
    reader.choose("both at once, on the plane")
    reader.pad.focus()
    for key in ("PageUp", "ArrowUp", "ArrowRight", "ArrowRight"):
        keyboard.press(key)
    save.click()
    sync.expect(reader.draw.locator("[role=status]").first).to_contain_text("Draw 5 s or more")
    assert not (tmp_path / "mine.csv").exists()
    reader.pad.focus()
    keyboard.press(" ")
    assert reader.done() == "When you are content, save your curve."
    assert "model for nobody in particular" in reader.draw.inner_text() and "average" not in reader.draw.inner_text()
    save.focus()
    keyboard.press("Enter")
    sync.expect(reader.draw.locator("[role=status]").first).to_contain_text("Saved 16 points")
    command.join(30)
    assert points == [16] and not reader.problems and not reader.foreign
    curve = read_curve(tmp_path / "mine.csv")
    assert curve.time_s.tolist() == [k / 2 for k in range(16)] and np.allclose(curve[["arousal", "valence"]], [0.3, 0.1])
    save.click()
    sync.expect(reader.draw.locator("[role=status]").first).to_contain_text("has ended; start it again")
    assert read_curve(tmp_path / "mine.csv").equals(curve)


def test_a_predicted_curve_moves_with_its_song(browser: Any, tmp_path: Path) -> None:
    song = write_song(tmp_path / "a.wav", 8)
    curve = light_model().predict(song)
    write_page(tmp_path / "a.html", curve, song)
    reader = Reader(browser, (tmp_path / "a.html").as_uri(), offline=True, viewport=PHONE, color_scheme="dark")
    main = reader.page.locator("main")
    assert reader.page.evaluate("document.scrollingElement.scrollWidth") <= PHONE["width"]
    assert main.locator(".dp-band").count() == 2 and "trained on synthetic songs and listeners" in main.inner_text()
    reader.ready(FASTEST)
    before = main.locator(".dp-cursor").first.get_attribute("x1")
    reader.audio.evaluate("audio => audio.play()")
    reader.page.wait_for_function("document.querySelector('audio').ended")
    assert float(main.locator(".dp-cursor").first.get_attribute("x1")) > float(before) + 500
    moment = main.get_by_label("moment", exact=True)
    moment.focus()
    reader.page.keyboard.press("Home")
    first = curve.iloc[0]
    said = "{} and {}".format("unpleasant" if first.valence < 0 else "pleasant", "calm" if first.arousal < 0 else "excited")
    sync.expect(main.locator(".dp-verdict")).to_contain_text(said)
    sync.expect(main.locator(".dp-verdict")).to_contain_text(f"{abs(first.arousal):.2f} ± {first.arousal_sd:.2f}")
    assert not reader.problems and not reader.foreign
