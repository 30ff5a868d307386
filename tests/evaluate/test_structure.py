"""The parts that labels vary in: estimators, the two simulated corpora, real labels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsaml.data import vgmidi
from dsaml.data.synthetic.population import STRESS, TWO_SIGNS
from dsaml.errors import DsamlError
from dsaml.evaluate import structure

ROOT = Path(__file__).resolve().parents[2]
REAL = next((p / "shared/data/vgmidi" for p in ROOT.parents if (p / "shared/data/vgmidi").is_dir()), None)


def made(seed, variances, songs=60, people=40, share=0.5, neighbours=False):
    """Curves with known variances (song, annotator, annotator x song, shared and own dynamics)."""
    rng = np.random.default_rng(seed)
    song, annotator, both, shared, own = np.sqrt(variances)
    offsets, out = annotator * rng.normal(size=(people, 2)), {}
    for s in range(songs):
        steps = int(rng.integers(20, 40))

        def moving(size, steps=steps):
            noise = rng.normal(size=(steps, 2))
            return size * (noise - noise.mean(0)) / np.sqrt(1 - 1 / steps)

        level, common = song * rng.normal(size=2) + (s % 2 if neighbours else 0), moving(shared)
        who = rng.permutation(people)[: max(2, int(share * people))]
        if neighbours:  # everybody rates two songs in a row, one low and one high
            who = np.arange(people)[np.arange(people) // 4 == s // 2 % (people // 4)]
        out[f"s{s}"] = {f"p{w}": level + offsets[w] + both * rng.normal(size=2) + common + moving(own) for w in who}
    return out


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_known_variances_are_found_whoever_rated_which_songs(share):
    known = np.array([0.3, 0.1, 0.5, 0.05, 0.2])
    found = np.array([structure.decompose(made(seed, known, share=share)).components() for seed in range(12)])
    means, errors = found.mean(0), found.std(0, ddof=1) / np.sqrt(12)
    assert (np.abs(means - known[:, None]) < 4 * errors).all()
    assert (np.abs(means - known[:, None]) < 0.2 * known[:, None] + 0.01).all()


def test_who_rated_which_songs_does_not_bias_the_annotators():
    """Everybody rates a low and a high song: comparing a person's two levels blindly would give a share below 0."""
    known = np.array([0.001, 0.1, 0.2, 0.02, 0.02])
    found = [structure.decompose(made(seed, known, people=400, songs=200, neighbours=True)) for seed in range(6)]
    assert np.mean([f.annotator for f in found]) == pytest.approx(0.1, abs=0.03)
    assert np.mean([f.annotator_song for f in found]) == pytest.approx(0.2, abs=0.03)


def test_agreement_is_the_correlation_of_two_listeners_and_a_mirror_disagrees():
    curve = np.sin(np.arange(30))[:, None] * [1, 1]
    songs = {s: {"a": curve, "b": curve, "c": -curve} for s in ("1", "2")}
    np.testing.assert_allclose(structure.decompose(songs).correlation, -1 / 3)


def test_too_few_tracks_are_one_sentence():
    one = {"1": {"a": np.zeros((5, 2)), "b": np.ones((5, 2))}, "2": {"c": np.zeros((5, 2)), "d": np.ones((5, 2))}}
    for curves in (one, {}, {"1": one["1"]}):
        with pytest.raises(DsamlError, match="no two songs have two listeners in common"):
            structure.decompose(curves)


def test_the_stress_test_varies_as_real_labels_do():
    """Shares of VGMIDI (data/facts.json), with many listeners, so that chance says little."""
    facts = json.loads((ROOT / "data/facts.json").read_text())["vgmidi"]
    config = replace(STRESS, test_listeners=60, test_songs=40, long_songs=0)
    shares = structure.decompose(structure.simulate(config)[0]).shares()
    for row, name in enumerate(structure.COMPONENTS):
        for d, dimension in enumerate(("arousal", "valence")):
            real = float(facts[f"{name.replace(' ', '_')}_{dimension}"].split()[0]) / 100
            near = 0.1 if real > 0.1 else 0.03
            assert shares[row, d] == pytest.approx(real, abs=near), (name, dimension)


def test_what_can_be_known_of_each_population():
    small = {"test_listeners": 24, "test_songs": 12, "long_songs": 0}
    shares = {}
    for config in (TWO_SIGNS, STRESS):
        rated, heard, lasting = (
            structure.decompose(c).disagreement() for c in structure.simulate(replace(config, **small))
        )
        shares[config.population] = heard / rated, lasting / rated, structure.knowable(config, (1,), 6, 160)[1]
    heard, lasting, told = shares["two-signs"]
    np.testing.assert_array_equal(heard, lasting)  # nobody is in a mood
    assert (heard > 0.95).all() and (told > 0.85).all()
    heard, lasting, told = shares["continuous"]
    assert ((heard > 0.3) & (heard < 0.7)).all() and (lasting < heard / 2).all() and (told < 0.1).all()


def test_two_signs_tell_nearly_all_of_the_default_and_are_no_question_of_the_other():
    told = structure.two_signs(replace(TWO_SIGNS, test_songs=10, long_songs=0))
    assert (told["variance"] > 0.93).all() and (told["variance"] < 1).all() and (told["ccc"] > 0.85).all()
    with pytest.raises(DsamlError, match="does not differ by two signs"):
        structure.two_signs(STRESS)


def raw(people, pieces):
    told = {"age": "21-25", "country": "US", "gender": "Male", "musicianship": 1, "isKnown": False}
    annotations = {
        f"{piece}_{k}": told | {"ex1_description": who, "arousal": [k / 10] * length, "valence": [0.0] * length}
        for piece, length, listed in people
        for k, who in enumerate(listed)
    }
    return {"annotations": annotations, "pieces": {p: {"duration": d, "measures": m} for p, d, m in pieces}}


def test_vgmidi_is_read_from_15_s_on_and_a_person_is_known_by_two_pieces(tmp_path):
    (tmp_path / "annotations").mkdir()
    people = [("piece0", 20, ["x", "y", "z"]), ("piece1", 20, ["y", "x", "w"]), ("piece2", 20, ["v", "u"])]
    document = raw(people, [("piece0", 40.0, 20), ("piece1", 40.0, 20)])  # piece2 has no metadata
    document["annotations"]["piece1_2"] |= {"arousal": [0.0] * 7, "valence": [0.0] * 7}
    empty = {"annotations": {}, "pieces": {}}
    for name, content in zip(vgmidi.FILES, (document, empty), strict=True):
        (tmp_path / "annotations" / name).write_text(json.dumps(content))
    one, other = vgmidi.read(tmp_path).values()
    assert {len(v) for v in one.values()} == {13}  # measures of 2 s: the eighth has its middle at 15 s
    assert len(one) == 3 and len(other) == 2  # the track of another length is left out
    assert len(set(one) & set(other)) == 2
    y = next(iter(set(one) & set(other) - {next(iter(one))}))
    assert one[y][0, 0] == 0.1 and other[y][0, 0] == 0.0
    for name in vgmidi.FILES:
        (tmp_path / "annotations" / name).write_text("[]")
    with pytest.raises(DsamlError, match="is not VGMIDI's"):
        vgmidi.read(tmp_path)
    with pytest.raises(DsamlError, match=r"cannot be read .*; get VGMIDI's annotations again"):
        vgmidi.read(tmp_path / "nowhere")


@pytest.mark.skipif(REAL is None, reason="VGMIDI is not here")
def test_the_committed_facts_are_what_the_command_says():
    curves = vgmidi.read(REAL)
    found = structure.decompose(curves)
    facts = json.loads((ROOT / "data/facts.json").read_text())["vgmidi"]
    assert facts | structure.summary(found) == facts
    assert facts["songs"] == len(curves) and facts["tracks"] == found.tracks
