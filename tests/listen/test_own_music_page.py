"""The walk through one's own music: every command of the book's page and of the README runs as it stands there."""

from __future__ import annotations

import re
import shlex
import urllib.request
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from own_music import at_home, write_curve, write_song
from typer.testing import CliRunner

import dsaml
from dsaml.audio.recording import decode, encode
from dsaml.cli.main import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/own_music.md").read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """The arguments of each ``python -m dsaml`` line, comments left out."""
    return [shlex.split(line, comments=True) for line in re.findall(r"^ *python -m dsaml (.*)$", text, re.M)]


IN_README = commands((ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own music")[2].partition("\n## ")[0])
IN_PAGE = commands("\n".join(re.findall(r"^```bash\n(.*?)^```$", PAGE, re.S | re.M)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two songs, an album, the model; whoever is asked to draw draws at once."""
    at_home(tmp_path, monkeypatch)
    for name, pace in (("song", 1.5), ("another", 2.0), ("album/x", 3.0)):
        waveform, rate = decode(write_song(tmp_path / f"{name}.wav", 12, pace))
        encode(tmp_path / f"{name}.mp3", waveform, rate)
        (tmp_path / f"{name}.wav").unlink()
    drawn = write_curve(tmp_path / "drawn.csv", 11).read_bytes()
    monkeypatch.setattr("webbrowser.open", lambda address: urllib.request.urlopen(f"{address}curve", drawn, timeout=20).close())
    return tmp_path


@pytest.mark.parametrize("lines", [IN_PAGE, IN_README], ids=["page", "README"])
def test_the_commands_run_as_they_stand(folder: Path, lines: list[list[str]]) -> None:
    assert {"predict", "annotate", "personalize"} == {line[0] for line in lines}
    for line in lines:
        done = CliRunner().invoke(app, line)
        assert done.exit_code == 0, (line, done.output, done.exception)
        if line[0] != "annotate":
            assert "trained on synthetic songs and listeners" in done.output
    for name in ("song.curve.csv", "song.curve.png", "song.curve.html", "mine.csv", "mine.safetensors", "another.curve.csv"):
        assert (folder / name).stat().st_size > 0


def test_the_python_of_the_page_runs(folder: Path) -> None:
    write_curve(folder / "mine.csv", 11)
    [code] = re.findall(r"^~~~python\n(.*?)^~~~$", PAGE, re.S | re.M)
    names: dict[str, object] = {}
    exec(code, names)
    plt.close("all")
    assert isinstance(names["curve"], pd.DataFrame) and names["curve"].index.name == "time_s"


def test_the_page_explains_every_column(folder: Path) -> None:
    assert CliRunner().invoke(app, ["predict", "song.mp3"]).exit_code == 0
    columns = pd.read_csv("song.curve.csv").columns
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert set(columns) == set(re.findall(r"`(\w+)`", "\n".join(rows)))
    curve = dsaml.load("demo").predict("song.mp3").reset_index()
    assert list(curve.columns) == [name for name in columns if name not in ("quadrant", "model")]
