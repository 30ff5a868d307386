"""Raters' noise is found where it was put in, and nobody is believed more where all are alike."""

import numpy as np
import pytest

from dsaml.listeners.raters import reliability, weighted_labels

SONGS, STEPS = 40, 20


def rated(noise: np.ndarray, songs_each: int, seed: int = 0) -> tuple[dict, dict]:
    """True labels of 40 songs; each rater's tracks of neighbouring ones, away from them by so much in level and in every step."""
    rng = np.random.default_rng(seed)
    truth = {f"s{k}": rng.normal(0, 0.3, 2) + 0.1 * np.sin(np.arange(STEPS)[:, None] / rng.uniform(3, 9, 2)) for k in range(SONGS)}
    tracks = {}
    for rater, size in enumerate(noise):
        first = int(rng.integers(SONGS))
        names = [f"s{(first + k) % SONGS}" for k in range(songs_each)]
        away = {s: size * (0.8 * rng.normal(size=2) + 0.6 * rng.normal(size=(STEPS, 2))) for s in names}
        tracks[f"r{rater}"] = {s: truth[s] + away[s] for s in names}
    return truth, tracks


def error(labels: dict, truth: dict) -> float:
    """RMS error of the songs' levels."""
    return float(np.sqrt(np.mean([((labels[s] - truth[s]).mean(0)) ** 2 for s in labels])))


@pytest.mark.parametrize("songs_each, least", [(2, 0.7), (10, 0.9)])
def test_noise_is_found_and_the_weighted_label_is_nearer_to_the_truth(songs_each, least):
    noise = 0.3 * np.exp(np.random.default_rng(5).normal(0, 0.7, 300))
    truth, tracks = rated(noise, songs_each)
    found = reliability(tracks)
    weights = np.array([found.weights[who] for who in tracks])
    for d in (0, 1):
        assert np.corrcoef(np.log(weights[:, d]), -np.log(noise))[0, 1] > least
    assert (found.comes_back > 0.3).all()
    plain, best = ({who: np.full(2, w) for who, w in zip(tracks, each, strict=True)} for each in (np.ones(300), noise**-2))
    weighted, equal, ideal = (error(weighted_labels(tracks, w), truth) for w in (found.weights, plain, best))
    assert ideal < weighted < (0.75 if songs_each == 2 else 0.6) * equal


def test_where_all_are_alike_nobody_counts_more():
    truth, tracks = rated(np.full(300, 0.3), 5)
    found = reliability(tracks)
    assert np.abs(found.comes_back).max() < 0.05
    assert max(np.abs(w - 1).max() for w in found.weights.values()) < 0.2
    equal = weighted_labels(tracks, {who: np.ones(2) for who in tracks})
    assert error(weighted_labels(tracks, found.weights), truth) == pytest.approx(error(equal, truth), rel=0.02)


def test_one_song_of_a_rater_says_nothing_and_one_rater_of_a_song_is_no_label():
    rng = np.random.default_rng(0)
    tracks = {f"r{k}": {f"s{k % 3}": rng.normal(0, 0.1 + k, (9, 2))} for k in range(9)} | {"alone": {"s9": np.ones((9, 2))}}
    found = reliability(tracks)
    assert all((w == 1).all() for w in found.weights.values())
    labels = weighted_labels(tracks, found.weights)
    assert sorted(labels) == ["s0", "s1", "s2"]
    np.testing.assert_allclose(labels["s1"], np.mean([tracks[f"r{k}"]["s1"] for k in (1, 4, 7)], 0))
    same = reliability({f"r{k}": {s: np.ones((5, 2)) for s in ("a", "b")} for k in range(4)})  # no noise at all
    assert all(np.isfinite(w).all() for w in same.weights.values())


def test_tracks_may_end_early():
    rng = np.random.default_rng(1)
    tracks = {f"r{k}": {s: rng.normal(0, 0.2, (12 - k, 2)) for s in ("a", "b")} for k in range(4)}
    found = reliability(tracks)
    label = weighted_labels(tracks, found.weights)["a"]
    assert label.shape == (12, 2)
    np.testing.assert_allclose(label[-1], tracks["r0"]["a"][-1])
    np.testing.assert_allclose(label[0], np.average([t["a"][0] for t in tracks.values()], 0, list(found.weights.values())))
