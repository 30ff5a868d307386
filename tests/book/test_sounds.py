"""Every sound that the book holds is found, measured as a reader hears it, and shown."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest

from book.builder import sounds
from dsaml.audio.playback import CEILING, TARGET, encode_playback
from dsaml.audio.recording import encode
from dsaml.plots import style

BOOK = Path(__file__).parents[2] / "book"
RATE = 22_050


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with one sound as a file and one in a notebook."""
    noise = 0.1 * np.random.default_rng(0).normal(size=2 * RATE)
    (tmp_path / "_extra/player").mkdir(parents=True)
    encode_playback(tmp_path / "_extra/player/7.mp3", noise, RATE)
    shown: list[str] = []
    monkeypatch.setattr(style, "display", lambda html: shown.append(html.data))
    style.play(noise[:RATE], RATE, 'a "second"')
    output = nbformat.v4.new_output("display_data", {"text/html": shown[0]})
    cell = nbformat.v4.new_code_cell("play()", outputs=[output])
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks/01_x.ipynb")
    return tmp_path


def test_all_sounds_are_measured_kept_and_shown(staged: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = sounds.write(staged)
    assert [sound["name"] for sound in found] == ["player/7.mp3", '01_x: a "second"']
    assert all(abs(sound["lufs"] - TARGET) < 0.5 and sound["dbfs"] < CEILING for sound in found)
    assert found[0]["seconds"] == pytest.approx(2, abs=0.2)
    assert json.loads((staged / "_extra/player/sounds.json").read_text())["sounds"] == found
    assert {record.levelname for record in caplog.records} == {"INFO"} and len(caplog.records) == 2
    assert "| player/7.mp3 | 2." in sounds.text(found) and "| −15.8 |" in sounds.text(found)


def test_a_sound_that_is_no_playback_copy_is_warned_of(staged: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode(staged / "_extra/player/loud.mp3", np.sin(np.arange(2 * RATE)), RATE)
    sounds.measure(staged)
    assert [r.getMessage()[:22] for r in caplog.records if r.levelname == "WARNING"] == ["sound player/loud.mp3:"]


def test_the_page_names_controls_as_they_are_named() -> None:
    how = re.search(r"\*\*How to use it\.\*\*(.*?)\n\n", (BOOK / "player.md").read_text(encoding="utf-8"), re.S)
    named = set(re.findall(r"\*\*([^*]+)\*\*", how[1]))
    player = BOOK.parent / "dsaml/listen/player"
    scripts = "".join((player / name).read_text(encoding="utf-8") for name in ("player.js", "parts.js"))
    assert len(named) == 6 and all(f'"{name}' in scripts for name in named)
