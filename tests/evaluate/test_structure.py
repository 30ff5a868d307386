"""The parts that labels vary in: estimators, and the two simulated corpora."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsaml.data.synthetic.population import STRESS, TWO_SIGNS
from dsaml.errors import DsamlError
from dsaml.evaluate import structure

ROOT = Path(__file__).resolve().parents[2]


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
    """Shares of VGMIDI (data/listeners.json), with many listeners, so that chance says little."""
    facts = json.loads((ROOT / "data/listeners.json").read_text())["vgmidi"]
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
