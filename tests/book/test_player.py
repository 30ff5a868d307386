"""The player: songs and listeners are chosen by the rules that its page states; its files travel with the book."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

from book.builder import pages
from dsaml.config import DEMO
from dsaml.data import Song
from dsaml.experiment import player
from dsaml.experiment.cases import MEAN_LABEL, TRUTH, Case
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.results import provenance, write_result
from dsaml.experiment.rows import BEFORE
from dsaml.plots import style

STEPS = 60


def cases() -> list[Case]:
    """Six listeners; on song "b" they differ much, on "a" little, on "c" in between. Listener k gains more than k - 1."""
    time, out = np.linspace(0, 6, STEPS), []
    for k in range(6):
        for song, spread in (("a", 0.01), ("b", 0.5), ("c", 0.1)):
            truth = np.stack([np.sin(time), np.cos(time)], 1) * 0.3 + spread * (k - 2.5) / 2.5
            flat = np.zeros_like(truth)
            curves = {TRUTH: truth, MEAN_LABEL: flat, BEFORE: flat, MAML_ANNOTATOR: truth * k / 5}
            out.append(Case(f"p{k}", "s", song, curves))
    return out


def test_songs_are_ordered_by_disagreement() -> None:
    spread = player.disagreement(cases())
    assert list(spread) == ["b", "c", "a"]
    assert spread["b"] == pytest.approx(50 * spread["a"])


def test_listeners_run_from_the_largest_gain_to_the_smallest() -> None:
    rows = player.shown_of("a", cases())
    gains = [row["ccc_after"] - row["ccc_before"] for row in rows]
    assert len(rows) == len(player.LISTENERS) and gains == sorted(gains, reverse=True)
    assert rows[0]["id"] == "p5" and rows[0]["ccc_after"] == 1.0 and rows[-1]["id"] == "p0"
    assert np.shape(rows[0]["after"]) == (STEPS, 2)


def test_a_listener_whose_support_it_was_is_left_out() -> None:
    left = [case for case in cases() if (case.annotator, case.song) != ("p5", "a")]
    assert "p5" not in {row["id"] for row in player.shown_of("a", left)}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict]:
    """The player's files for three songs of noise."""
    rate, rng = 22_050, np.random.default_rng(0)
    songs = {}
    for name in "abc":
        path = tmp_path / f"{name}.wav"
        sf.write(path, 0.1 * rng.normal(size=46 * rate), rate)
        songs[name] = Song(name, path, True)
    experiment = SimpleNamespace(profile=DEMO, dataset=SimpleNamespace(songs=songs), store=SimpleNamespace(steps=STEPS))
    folder = tmp_path / "results" / "player"
    return folder, player.write(experiment, cases(), folder)


def test_clips_last_as_long_as_the_curves(written: tuple[Path, dict]) -> None:
    folder, document = written
    assert [song["id"] for song in document["songs"]] == ["b", "c", "a"]
    for song in document["songs"]:
        file = folder / song["audio"]
        assert abs(sf.info(file).duration - document["seconds"]) < 0.2
        assert file.stat().st_size < 600_000
        assert len(song["average"]) * document["step"] == document["seconds"]
        truth = {case.annotator: case.curves[TRUTH] for case in cases() if case.song == song["id"]}
        assert set(song["listeners"]) == set(truth) >= {row["id"] for row in song["shown"]}
        assert all(np.allclose(curve, truth[who], atol=6e-4) for who, curve in song["listeners"].items())
        assert len(song["peaks"]) == player.PEAKS and 0 <= min(song["peaks"]) <= max(song["peaks"]) <= 1


def test_files_travel_with_the_book(
    written: tuple[Path, dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, document = written
    monkeypatch.setattr(pages, "from_npm", lambda package, member, cache: None)
    stamp = provenance(DEMO, None, seeds=[0], seconds=1.0, real=False)
    light = {"noise": [0.5, 0.5], "songs": {}}
    write_result(folder.parent / "player.json", document, stamp)
    write_result(folder.parent / "light.json", light, stamp)
    root = tmp_path / "root"
    (root / "notebooks").mkdir(parents=True)
    (root / "_toc.yml").write_text("root: book/index\n")
    (root / "_config.yml").write_text("title: x\n")
    source = Path(__file__).parents[2] / "dsaml/listen/player"
    (root / "dsaml/listen/player").mkdir(parents=True)
    for file in source.iterdir():
        (root / "dsaml/listen/player" / file.name).write_bytes(file.read_bytes())
    pages.stage(root, root / "stage", root / "executed", folder.parent)
    laid_out = root / "stage/_extra/player"
    there = {file.name for file in laid_out.iterdir()}
    assert {"light.js", "parts.js", "player.js", "draw.js", "player.css", "data.js", "a.mp3", "b.mp3", "c.mp3"} <= there
    script = (laid_out / "data.js").read_text(encoding="utf-8")
    assert json.loads(script.removeprefix("window.dsamlPlayer = ").rstrip(";\n")) == document | {"light": light}


def test_more_songs_are_taken_at_even_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [Case(who, "s", f"{k:02d}", {TRUTH: np.full((STEPS, 2), sign * k / 20)}) for k in range(16)
            for who, sign in (("p", 1), ("q", -1))]  # fmt: skip
    for case in many:
        case.curves.update({name: np.zeros((STEPS, 2)) for name in (MEAN_LABEL, BEFORE, MAML_ANNOTATOR)})
    songs = {case.song: Song(case.song, tmp_path, True) for case in many}
    experiment = SimpleNamespace(profile=DEMO, dataset=SimpleNamespace(songs=songs), store=SimpleNamespace(steps=STEPS))
    monkeypatch.setattr(player, "excerpt", lambda path, start, seconds: (np.ones(player.PEAKS), 8_000))
    document = player.write(experiment, many, tmp_path / "player")
    assert [song["id"] for song in document["songs"]] == ["15", "12", "09", "06", "03", "00"]
    assert document["songs"][0]["title"] == "song 15: listeners differ by 0.75"


def test_a_sound_in_a_notebook_is_one_that_every_browser_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(style, "display", lambda html: shown.append(html.data))
    style.play(0.5 * np.sin(np.arange(22_050) / 10), 22_050, 'one second of "sine"')
    assert 'aria-label="one second of &quot;sine&quot;"' in shown[0]
    content = base64.b64decode(shown[0].partition("data:audio/mpeg;base64,")[2].partition('"')[0])
    waveform, rate = sf.read(io.BytesIO(content))
    assert rate == 22_050 and len(waveform) >= 22_050 and len(content) < 20_000
