"""What one sample tells: traits that come back, what evidence is worth, what more songs would bring; the chapter's file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from book.builder import prose
from dsaml.cli.main import app
from dsaml.data.synthetic.population import STRESS, TWO_SIGNS
from dsaml.evaluate import evidence, listeners, traits
from dsaml.evaluate.floors import read_facts

ROOT = Path(__file__).resolve().parents[2]
REAL = next((p / "shared/data/vgmidi" for p in ROOT.parents if (p / "shared/data/vgmidi").is_dir()), None)
KEYS = ("songs", "tracks", "pairs", "variance", "traits", "evidence", "more_songs")


def crowd(seed, own=0.0, session=0.5, songs=60, people=16, steps=30, spread=0.0):
    """Neighbouring songs in pairs, each rated by people of its own; two levels (own, session) and an own range."""
    rng, out = np.random.default_rng(seed), {}
    for first in range(0, songs, 2):
        offsets = own * rng.normal(size=(people, 2))
        factors = np.exp(spread * rng.normal(size=(people, 1, 2)))
        for song in (first, first + 1):
            level = 0.4 * rng.normal(size=2) + offsets + session * rng.normal(size=(people, 2))
            moves = 0.1 * factors * rng.normal(size=(people, steps, 2)).cumsum(1) / 4
            out[f"s{song}"] = {f"{first}-{p}": v for p, v in enumerate(level[:, None] + moves)}
    return out


def seconds(songs, step=1.0):
    return dict.fromkeys(songs, step)


def test_traits_are_what_was_put_in():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(60, 2)).cumsum(0) / 5
    base -= base.mean(0)
    values = np.stack([base] * 12)
    values[0] += [0.3, -0.2]
    values[1] = 2 * base
    values[2, 4:] = base[:-4]
    values[3] = 0.5
    found = traits.traits(values, 0.5)
    np.testing.assert_allclose(found[0, 0], [0.3, -0.2], atol=0.11)  # the others' mean holds the one who is at 0.5
    np.testing.assert_allclose(found[1, 1] - found[4, 1], np.log(2), atol=1e-9)
    np.testing.assert_allclose(found[1, 2] / found[4, 2], 2, rtol=0.15)
    np.testing.assert_allclose(found[2, 3], 2.0)  # s
    np.testing.assert_allclose(found[4, 3], 0.0)
    assert np.isnan(found[3, 1:]).all() and np.isfinite(found[3, 0]).all()


def test_a_track_stands_in_one_pair():
    songs = {"a": {"x": 0, "y": 0}, "b": {"x": 0}, "c": {"x": 0, "y": 0}, "d": {"x": 0}}
    assert traits.song_pairs(songs) == [("x", "a", "b"), ("y", "a", "c"), ("x", "c", "d")]


def test_what_is_the_persons_comes_back_and_the_placebo_does_not():
    songs = crowd(1, own=0.0, spread=0.5)
    found = traits.comebacks(traits.pair_traits(songs, seconds(songs)), independent=True)
    for d in ("arousal", "valence"):
        again = found["range"]["another song"][d]
        assert again["n"] == 30 * 16 and again["r"] > 0.5 and again["low"] < again["r"] < again["high"]
        assert abs(found["range"]["somebody else"][d]["r"]) < 0.15
        assert abs(found["offset"]["another song"][d]["r"]) < 0.15 and found["offset"]["same song"][d]["r"] > 0.8
        assert "low" not in found["offset"]["same song"][d]
        table = np.array([row.split() for row in again["deciles"]], int)
        assert table.shape == (10, 10) and table.sum() == again["n"]
        assert np.trace(table) > 1.5 * table.mean() * 10
    assert (
        "low"
        not in traits.comebacks(traits.pair_traits(songs, seconds(songs)), False)["range"]["another song"]["arousal"]
    )


def test_nothing_to_compare_is_none():
    still = {s: {w: np.full((20, 2), k / 4.0) for k, w in enumerate("abc")} for s in ("1", "2")}
    cell = traits.comebacks(traits.pair_traits(still, seconds(still)), True)["lag"]["another song"]["arousal"]
    assert cell["r"] is None and cell["n"] == 0


@pytest.mark.parametrize("own", [0.0, 0.8])
def test_another_song_is_worth_what_comes_back(own):
    songs = crowd(2, own=own, session=0.3)
    rows = evidence.evidence(songs, intervals=True)["rows"]
    assert set(rows) == set(evidence.ROWS)
    for d in ("arousal", "valence"):
        offset, part, half = (
            rows[name][d]["rmse_above"]
            for name in (
                "others' curve + the song's offset",
                "others' curve + a learned part of that offset",
                "others' curve + the half's offset",
            )
        )
        assert half["high"] < 0 and half["low"] < half["mean"] < half["high"]
        if own:
            assert offset["high"] < 0 and part["high"] < 0
        else:
            assert offset["low"] > 0 and abs(part["mean"]) < 0.01
        assert rows["a constant"][d]["ccc"] == 0


def test_what_is_fitted_sees_no_part_of_its_own_block():
    songs = crowd(3)
    before = evidence.evidence(songs, False)["rows"]["a constant"]["arousal"]["level"]
    moved = {
        song: {who: v + (5.0 if song in ("s0", "s1") else 0.0) for who, v in held.items()}
        for song, held in songs.items()
    }
    block = evidence.block_of(moved)
    asked = evidence.questions(moved, block)
    evidence.learn(moved, asked, block)
    constant = asked[0]["constant"]
    assert abs(constant).max() < 1 and before > 0  # not drawn to 5 by its own block


def test_songs_bring_what_a_simulation_says():
    rng = np.random.default_rng(4)
    for share in (0.0, 0.1, 0.5):
        for songs in (1, 3, 10):
            own = np.sqrt(share) * rng.normal(size=200_000)
            known = own + np.sqrt((1 - share) / songs) * rng.normal(size=own.shape)
            level = own + np.sqrt(1 - share) * rng.normal(size=own.shape)
            part = share / (share + (1 - share) / songs)
            simulated = [np.sqrt(np.mean((level - k * known) ** 2)) for k in (1, part)]
            assert evidence.level_error_left(share, songs) == pytest.approx(simulated, rel=0.01)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(5).normal(size=20)
    without = np.array([np.delete(values, k).mean() for k in range(20)])
    assert evidence.jackknife(without) == pytest.approx(2.093 * values.std(ddof=1) / np.sqrt(20), rel=1e-3)


def test_intervals_only_where_people_stay_in_a_block():
    songs = crowd(6, own=0.5, session=0.5, songs=120)
    found = listeners.describe(songs, seconds(songs))
    share = found["variance"]["own share of level"]["arousal"]
    assert share["low"] < 0.5 < share["high"] and share["share"] == pytest.approx(0.5, abs=0.12)
    everyone = {s: {f"p{k}": v for k, v in enumerate(p.values())} for s, p in songs.items()}
    assert "low" not in listeners.describe(everyone, seconds(songs))["variance"]["song"]["arousal"]


@pytest.mark.parametrize(("name", "config"), [("synthetic", TWO_SIGNS), ("stress", STRESS)])
def test_the_simulated_populations_in_the_file_are_what_the_command_says(name, config, tmp_path):
    done = CliRunner().invoke(app, ["structure", "--dataset", name, "--save", str(tmp_path / "l.json")])
    assert done.exit_code == 0, done.output
    assert "offset comes back, another song" in done.output
    committed, again = (read_facts(path)[name] for path in (ROOT / "data/listeners.json", tmp_path / "l.json"))
    assert not committed["real"] and not again["real"]
    assert {key: again[key] for key in KEYS} == {key: committed[key] for key in KEYS}


@pytest.mark.skipif(REAL is None, reason="VGMIDI is not here")
def test_the_real_listeners_in_the_file_are_what_the_command_says(tmp_path):
    path = tmp_path / "l.json"
    done = CliRunner().invoke(app, ["structure", "--dataset", "vgmidi", "--root", str(REAL), "--save", str(path)])
    assert done.exit_code == 0, done.output
    committed, again = (read_facts(file)["vgmidi"] for file in (ROOT / "data/listeners.json", path))
    assert committed["real"] and {key: again[key] for key in KEYS} == {key: committed[key] for key in KEYS}


def test_the_real_listeners_are_as_the_chapter_says():
    """The chapter's words are held to the committed numbers."""
    found = json.loads((ROOT / "data/listeners.json").read_text())
    real, embedded = found["vgmidi"], found["synthetic"]
    for d in ("arousal", "valence"):
        shares = {name: cell[d]["share"] for name, cell in real["variance"].items()}
        assert max(shares, key=shares.get) == "annotator x song" and shares["own share of level"] < 0.1
        come = {t: {k: c[d] for k, c in kinds.items()} for t, kinds in real["traits"].items()}
        assert come["range"]["another song"]["low"] > 0.25 and come["offset"]["same song"]["r"] > 0.7
        assert all(come[t]["another song"]["high"] < 0.15 for t in ("offset", "gain", "lag"))
        assert all(abs(kinds["somebody else"]["r"]) < 0.15 for kinds in come.values())
        assert embedded["traits"]["lag"]["another song"][d]["r"] < 0.3
        assert all(cell["share"] < 0.05 for cell in embedded["variance"]["own share of level"].values())
        rows = {name: row[d] for name, row in real["evidence"]["rows"].items()}
        assert rows["others' curve + the song's offset"]["rmse_above"]["low"] > 0.02
        assert abs(rows["others' curve + a learned part of that offset"]["rmse_above"]["mean"]) < 0.005
        assert rows["the half's last value"]["rmse_above"]["high"] < -0.05
        wild, plain = rows["the same, its movement times 3"], rows[evidence.OTHERS]
        assert wild["ccc"] > plain["ccc"] and wild["rmse"] > plain["rmse"]


def test_the_page_is_filled(tmp_path):
    shutil.copy(ROOT / "book/listeners.md", tmp_path / "listeners.md")
    prose.fill(tmp_path, prose.facts(ROOT / "data"), prose.makers(ROOT, tmp_path, tmp_path / "figures"))
    text = (tmp_path / "listeners.md").read_text()
    assert "<!--" not in text and "{{" not in text and "real data" in text and "synthetic data" in text
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {f"trait-{trait}.svg" for trait in traits.TRAITS}
    assert text.count(":alt:") == 4
