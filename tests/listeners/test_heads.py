"""Heads, shrinkage and the prefix state find what was put into the data, and learn nothing where nothing is."""

from functools import partial

import numpy as np
import pytest
import torch

from dsaml.config import AudioConfig
from dsaml.experiment.average_listener import GAINS, SHARES, choose
from dsaml.listeners.harmony import chroma, key_strength, smooth, song_harmony
from dsaml.listeners.heads import Heard, fit_heads, left_out
from dsaml.listeners.prefix import fit_prefix, state_of
from dsaml.listeners.ridge import fit_ridge
from dsaml.listeners.shrinkage import fit_shrinkage, traits_of

RATE, AUDIO = 8000, AudioConfig(label_start=1.0)


def _chord(degrees: tuple[int, ...], tonic: float = 220.0) -> torch.Tensor:
    """Five seconds of tones with some overtones, that many semitones above the tonic."""
    clock = torch.arange(5 * RATE) / RATE
    pitches = [tonic * 2 ** (d / 12) * h for d in degrees for h in (1, 2)]
    return sum(torch.sin(2 * torch.pi * p * clock) / p * 220 for p in pitches) / len(pitches)


def _scale(degrees: tuple[int, ...], tonic: float = 220.0) -> np.ndarray:
    return sum(chroma(_chord((d,), tonic), RATE, 4, AUDIO).numpy() * (3 if d in (0, 7) else 1) for d in degrees)


def test_major_and_minor_are_told_apart_in_any_key():
    major, minor = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
    for tonic in (220.0, 261.63):
        assert (
            key_strength(_scale(major, tonic).mean(0))[2] > 0.1 > -0.1 > key_strength(_scale(minor, tonic).mean(0))[2]
        )


def test_a_tone_is_its_pitch_class_and_silence_is_none():
    assert chroma(_chord((3,)), RATE, 6, AUDIO).argmax(1).tolist() == [3] * 6
    assert not chroma(torch.zeros(5 * RATE), RATE, 6, AUDIO).any()
    assert np.isfinite(song_harmony(np.zeros((20, 12)))).all()


def test_harmony_does_not_change_with_the_key():
    pitches = np.random.default_rng(0).random((40, 12))
    np.testing.assert_allclose(song_harmony(np.roll(pitches, 5, 1)), song_harmony(pitches), atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_smoothing_keeps_length_and_constants(steps):
    x = np.random.default_rng(0).normal(size=(20, 3))
    assert smooth(x, steps).shape == x.shape
    np.testing.assert_allclose(smooth(np.ones((9, 2)), steps), 1)
    if steps == 7:
        np.testing.assert_allclose(smooth(x, 7)[10], x[7:14].mean(0))


def test_ridge_finds_weights_and_gives_up_on_noise():
    rng = np.random.default_rng(0)
    x, fold = rng.normal(size=(200, 30)), np.arange(200) // 20
    y = np.stack((x[:, 0] - 2 * x[:, 3] + 1, rng.normal(size=200)), 1)
    found = fit_ridge(x, y, fold)
    assert np.corrcoef(found(x)[:, 0], y[:, 0])[0, 1] > 0.99 and found.penalty[0] < found.penalty[1]
    assert found.error[0] < 0.1 * y[:, 0].var() and found.error[1] > 0.8 * y[:, 1].var()
    assert np.ptp(found(x)[:, 1]) < 0.5 * np.ptp(y[:, 1])


@pytest.fixture(scope="module")
def songs():
    """60 songs; arousal's level follows band 0, its shape band 1; valence's level is that of major keys."""
    rng, heard, labels = np.random.default_rng(0), {}, {}
    scales = [np.isin(np.arange(12), degrees) for degrees in ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))]
    for k in range(60):
        steps, minor = 30 + k % 20, k % 2
        x = rng.normal(size=(steps, 4)) * 0.1
        x[:, 0] += rng.normal()
        x[:, 1] += smooth(rng.normal(size=(steps, 1)).cumsum(0) * 0.5, 21)[:, 0]
        pitches = np.roll(scales[minor] + 2.0 * (np.arange(12) == 0) + (np.arange(12) == 7), rng.integers(12))
        heard[f"s{k:02d}"] = Heard(x, pitches + 0.1 * rng.random((steps, 12)))
        moved = smooth(x[:, 1:2], 21) - smooth(x[:, 1:2], 21).mean()
        labels[f"s{k:02d}"] = np.concatenate(
            (0.3 * x[:, :1].mean() + 0.2 * moved, np.full((steps, 1), 0.2 - 0.4 * minor)), 1
        )
    return heard, labels


def test_heads_hear_level_shape_and_mode(songs):
    heard, labels = songs
    names = sorted(heard)
    others = left_out(names, partial(fit_heads, heard, labels))
    levels = np.array([others[s].level_of(heard[s]) for s in names])
    truth = np.array([labels[s].mean(0) for s in names])
    assert min(np.corrcoef(levels[:, d], truth[:, d])[0, 1] for d in (0, 1)) > 0.9
    shapes = [np.corrcoef(others[s].shape_of(heard[s], len(labels[s]))[:, 0], labels[s][:, 0])[0, 1] for s in names]
    assert np.mean(shapes) > 0.8
    curve = fit_heads(heard, labels, names).curve(heard["s03"], 17)
    assert curve.shape == (17, 2)


def test_left_out_heads_have_not_seen_the_song(songs):
    heard, labels = songs
    names = sorted(heard)[:30]
    changed = labels | {"s04": labels["s04"] + 5}
    first, second = (left_out(names, partial(fit_heads, heard, own))["s04"].level_of(heard["s04"]) for own in (labels, changed))
    np.testing.assert_array_equal(first, second)


def _people(own: float, song: float, people: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Traits in two songs: offset with so much variance between people, and so much that is each song's."""
    rng = np.random.default_rng(1)
    shared = rng.normal(0, np.sqrt(own), (people, 3, 2))
    first, second = (shared + rng.normal(0, np.sqrt(song), (people, 3, 2)) for _ in range(2))
    return first, second


def test_shrinkage_learns_how_much_comes_back_and_may_be_nothing():
    nothing = fit_shrinkage(*_people(0.0, 1.0))
    assert nothing.factor().max() < 0.15
    half = fit_shrinkage(*_people(1.0, 1.0))
    assert half.factor()[0] == pytest.approx(0.5, abs=0.1) and (half.factor(5) > half.factor()).all()
    level, shape = np.zeros(2), np.linspace(-0.1, 0.1, 9)[:, None] * np.ones(2)
    seen = [half.mean + 1.0]
    only = fit_shrinkage(*_people(1.0, 1.0), used=("offset",))
    np.testing.assert_allclose(only.predict(seen, level, shape) - shape, only.factor()[0] * np.ones((9, 1)), atol=1e-9)
    assert not only.factor()[1:].any()


def test_traits_are_what_was_done_to_the_curve():
    shape = np.sin(np.arange(40) / 5)[:, None] * [0.3, 0.2]
    shape -= shape.mean(0)
    offset, gain, spread = traits_of(0.4 + 2 * shape, np.array([0.1, 0.1]), shape)
    np.testing.assert_allclose(offset, 0.3)
    np.testing.assert_allclose(gain, 2, rtol=0.01)
    np.testing.assert_allclose(spread, np.log(2), atol=0.05)


def test_a_prefix_state_learns_how_fast_a_deviation_fades():
    rng, states, after, last = np.random.default_rng(0), [], [], []
    for _ in range(300):
        mean, away = rng.normal(0, 0.2, 2), [rng.normal(0, 0.3, 2)]
        for _ in range(59):  # falls back to the person's mean in about 15 steps
            away.append(away[-1] + (mean - away[-1]) / 15 + rng.normal(0, 0.02, 2))
        y = np.array(away)
        states.append(state_of(y[:30], np.zeros((30, 2))))
        after.append(y[30:])
        last.append(y[29])
    found = fit_prefix(states[:200], after[:200])
    error = [np.mean((found.deviation(s, 30) - y) ** 2) for s, y in zip(states[200:], after[200:], strict=True)]
    assert np.mean(error) < 0.92 * np.mean(
        [np.mean((one - y) ** 2) for one, y in zip(last[200:], after[200:], strict=True)]
    )
    still = fit_prefix(states[:200], [np.broadcast_to(s[0], (30, 2)) for s in states[:200]])
    np.testing.assert_allclose(still.deviation(states[250], 30), np.broadcast_to(states[250][0], (30, 2)), atol=1e-6)


def test_a_gain_is_taken_for_ccc_while_rmse_stays_below_the_floor():
    clock = np.arange(48)[:, None] / 4
    targets = [0.3 * (k % 3) + np.sin(clock + k) * [1.0, 1.0] for k in range(9)]
    weak = [0.2 * np.sin(clock + k) * [1.0, 1.0] + 0.1 * np.cos(clock + k) for k in range(9)]  # half right, and too small

    def curves(gain: float) -> list[np.ndarray]:
        return [gain * c for c in weak]

    def left(gain: float) -> float:
        return float(np.mean([np.sqrt(((c - y) ** 2).mean()) for c, y in zip(curves(gain), targets, strict=True)]))

    free = choose(GAINS, curves, targets, np.full(2, 9.0))
    assert free[0] == free[1] > 3
    floor = (left(2.0) + left(1.5)) / 2  # 1.5 and 1 are above it
    kept = choose(GAINS, curves, targets, np.array([9.0, left(1.0)]))
    assert kept == free and left(free[0]) < left(1.0) and floor < left(1.5)
    assert choose(GAINS, curves, targets, np.zeros(2)) == [1.0, 1.0]  # nothing is below: no gain


def test_of_two_shapes_the_one_that_is_right_gets_the_larger_share():
    """In arousal the heads know the movement, in valence DSAML does; what errs more than the floor is not taken."""
    rng, clock = np.random.default_rng(0), np.linspace(0, 6, 60)
    truth = [np.stack((0.2 * np.sin(clock + p), 0.2 * np.cos(clock + p)), 1) for p in rng.uniform(0, 6, 20)]
    noise = [0.2 * rng.normal(size=(60, 2)) for _ in truth]

    def curves(share: tuple[float, float]) -> list[np.ndarray]:
        heads, dsaml = share
        return [
            np.stack((heads * y[:, 0] / 2 + dsaml * e[:, 0], heads * e[:, 1] + dsaml * y[:, 1] / 2), 1)
            for y, e in zip(truth, noise, strict=True)
        ]

    arousal, valence = choose(SHARES, curves, truth, np.full(2, 9.0))
    assert arousal[0] > arousal[1] and valence[1] > valence[0]
    assert choose(SHARES, curves, truth, np.zeros(2)) == [SHARES[0]] * 2
