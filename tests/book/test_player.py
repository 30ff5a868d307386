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
from dsaml.audio.playback import CEILING, TARGET, loudness, true_peak
from dsaml.audio.recording import decode
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


def test_the_pair_comes_first_then_the_largest_the_middle_and_the_smallest_gain() -> None:
    assert player.shown_listeners(cases(), ("p3", "p0")) == ["p3", "p0", "p5", "p4", "p1"]


def test_a_song_shows_all_listeners_and_the_model_for_those_it_did_not_learn_this_song_from() -> None:
    left = [case for case in cases() if (case.annotator, case.song) != ("p5", "a")]
    entry = player.song_entry("a", left, ["p4", "p5"])
    assert [row["id"] for row in entry["shown"]] == ["p4"] and set(entry["listeners"]) == {f"p{k}" for k in range(5)}
    assert np.shape(entry["shown"][0]["after"]) == (STEPS, 2)
    assert entry["shown"][0]["ccc_before"] == 0 < entry["shown"][0]["ccc_after"]
    assert "a" in player.shown_songs(left, ["p4"]) and "a" not in player.shown_songs(left, ["p4", "p5"])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The player's files for three songs of noise, and for the one that listeners annotated."""
    tmp_path = tmp_path_factory.mktemp("player")
    rate, rng = 22_050, np.random.default_rng(0)
    songs = {}
    for name in "abcs":
        path, noise = tmp_path / f"{name}.wav", 0.1 * rng.normal(size=46 * rate)
        noise[: 30 * rate] *= 0.01 if name == "b" else 1  # whose loudness changes in the middle
        sf.write(path, noise, rate)
        songs[name] = Song(name, path, True)
    own = SimpleNamespace(values=np.full((90, 2), 0.25))
    store = SimpleNamespace(steps=STEPS, track=lambda who, song: own)
    experiment = SimpleNamespace(profile=DEMO, dataset=SimpleNamespace(songs=songs), store=store)
    folder = tmp_path / "results" / "player"
    return folder, player.write(experiment, [*cases(), *extra()], folder, ("p0", "p5"))


def extra() -> list[Case]:
    """Song "s", predicted for one listener who is not shown: the others annotated it."""
    truth, flat = cases()[0].curves[TRUTH], np.zeros((STEPS, 2))
    return [Case("p2", "a", "s", {TRUTH: truth, MEAN_LABEL: flat, BEFORE: flat, MAML_ANNOTATOR: truth * 0.5})]


def test_clips_last_as_long_as_the_curves(written: tuple[Path, dict]) -> None:
    folder, document = written
    assert [song["id"] for song in document["songs"]] in (
        ["c", "b", "a"],
        ["a", "b", "c"],
    )  # the steadiest, then by disagreement
    assert [who["id"] for who in document["listeners"][:2]] == ["p0", "p5"]
    assert len({who["color"] for who in document["listeners"]}) == len(document["listeners"]) == 5
    for song in document["songs"]:
        file = folder / song["audio"]
        assert abs(sf.info(file).duration - document["seconds"]) < 0.2
        assert file.stat().st_size < 600_000
        assert len(song["average"]) * document["step"] == document["seconds"]
        truth = {case.annotator: case.curves[TRUTH] for case in cases() if case.song == song["id"]}
        assert set(song["listeners"]) == set(truth) == {f"p{k}" for k in range(6)}
        assert abs(loudness(*decode(file)) - TARGET) < 1 and true_peak(*decode(file)) < CEILING
        assert all(np.allclose(curve, truth[who], atol=6e-4) for who, curve in song["listeners"].items())
        assert {row["id"] for row in song["shown"]} == {who["id"] for who in document["listeners"]}
        assert len(song["peaks"]) == player.PEAKS and 0 <= min(song["peaks"]) <= max(song["peaks"]) <= 1


def test_the_annotated_song_of_a_listener_can_be_heard_and_seen(written: tuple[Path, dict]) -> None:
    folder, document = written
    (support,) = document["supports"]
    assert support["id"] == "s" and support["title"].endswith("annotated by p0 and p5 and p4 and p3 and p1")
    assert (folder / support["audio"]).is_file() and support["listeners"]["p5"] == [[0.25, 0.25]] * STEPS
    assert support["shown"] == [] and len(support["average"]) == STEPS


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


def test_more_songs_are_taken_at_even_distances() -> None:
    many = [Case(who, "s", f"{k:02d}", {TRUTH: np.full((STEPS, 2), sign * k / 20)}) for k in range(16)
            for who, sign in (("p", 1), ("q", -1))]  # fmt: skip
    assert player.shown_songs(many, ["p", "q"]) == ["15", "12", "09", "06", "03", "00"]
    assert player.shown_songs(many, ["p", "nobody"]) == []


def test_a_sound_in_a_notebook_is_one_that_every_browser_plays(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(style, "display", lambda html: shown.append(html.data))
    style.play(0.5 * np.sin(np.arange(22_050) / 10), 22_050, 'one second of "sine"')
    assert 'aria-label="one second of &quot;sine&quot;"' in shown[0]
    content = base64.b64decode(shown[0].partition("data:audio/mpeg;base64,")[2].partition('"')[0])
    waveform, rate = sf.read(io.BytesIO(content))
    assert rate == 22_050 and len(waveform) >= 22_050 and len(content) < 20_000
    assert abs(loudness(waveform, rate) - TARGET) < 0.5
