"""Means, intervals and differences: coverage of known effects, p-values, seeds of every kind."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap as bs
from dsaml.evaluate.floors import AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.evaluate.scores import UNTRAINED

SCORES = {"seed": 0.03, "listener": 0.10, "song": 0.12, "listener-song": 0.20, "seed-listener": 0.02, "seed-song": 0.04}
DIFFERENCES = {
    "seed": 0.02,
    "listener": 0.05,
    "song": 0.05,
    "listener-song": 0.10,
    "seed-listener": 0.02,
    "seed-song": 0.03,
}
SHAPES = {
    "20 listeners x 20 songs x 3 seeds": (3, 20, 20),
    "20 x 26 x 1": (1, 20, 26),
    "58 songs x 3 seeds": (3, 58, 1),
}


def _draw(rng, shape, effects, noise=0.05):
    """Scores (seeds, listeners, songs) around 0, with effects of the given standard deviations."""
    s, a, b = shape
    sizes = {
        "seed": (s, 1, 1),
        "listener": (1, a, 1),
        "song": (1, 1, b),
        "listener-song": (1, a, b),
        "seed-listener": (s, a, 1),
        "seed-song": (s, 1, b),
    }
    alone = {
        axis for axis, units in (("seed", s), ("song", b)) if units == 1
    }  # its own effect is part of what is asked
    parts = [rng.normal(0, sd, sizes[name]) for name, sd in effects.items() if name not in alone]
    return sum(parts) + rng.normal(0, noise, shape)


def _table(scores: dict[str, np.ndarray], seeds: dict[str, tuple[int, ...]] | None = None) -> bs.CrossedScores:
    """A scores table from (seeds, annotators, songs) arrays; every metric and dimension gets the same numbers."""
    rows = [
        {
            "method": method,
            "seed": (seeds or {}).get(method, range(len(values)))[s],
            "annotator": f"a{a:02d}",
            "song": f"s{k:02d}",
            "dimension": d,
            "ccc": v,
            "pcc": v,
            "rmse": v,
        }
        for method, values in scores.items()
        for (s, a, k), v in np.ndenumerate(values)
        if not np.isnan(v)
        for d in DIMENSIONS
    ]
    return bs.CrossedScores(pd.DataFrame(rows))


@pytest.mark.parametrize("effects", [SCORES, DIFFERENCES], ids=["means", "paired differences"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_intervals_cover_known_effects(shape, effects):
    rng = np.random.default_rng(0)
    cells = [bs.interval(0.1 + _draw(rng, shape, effects), replicates=500) for _ in range(800)]
    covered = np.mean([cell["low"] <= 0.1 <= cell["high"] for cell in cells])
    assert 0.92 <= covered <= 0.98, covered


def test_intervals_of_unpaired_seeds_cover_too():
    rng, hits = np.random.default_rng(1), []
    apart = {name: DIFFERENCES[name] for name in ("seed", "seed-listener", "seed-song")}
    for _ in range(500):
        shared = _draw(rng, (1, 20, 20), {name: sd for name, sd in DIFFERENCES.items() if "seed" not in name})
        mine, theirs = (_draw(rng, (seeds, 20, 20), apart) for seeds in (3, 2))
        cell = bs.interval(mine + shared, theirs, replicates=500)
        hits.append(cell["low"] <= 0 <= cell["high"])
    assert 0.92 <= np.mean(hits) <= 0.98, np.mean(hits)


def _songs_within_listeners(values: np.ndarray, replicates: int = 500) -> tuple[float, float]:
    """The interval that this module replaced: listeners, then songs drawn anew within each listener, then seeds."""
    rng = np.random.default_rng(0)
    seeds, listeners, songs = values.shape
    s = rng.integers(seeds, size=(replicates, seeds))
    a = rng.integers(listeners, size=(replicates, listeners))
    b = rng.integers(songs, size=(replicates, listeners, songs))
    means = values[s[:, :, None, None], a[:, None, :, None], b[:, None]].mean((1, 2, 3))
    return tuple(np.percentile(means, (2.5, 97.5)))


@pytest.mark.parametrize(
    "effects, at_most",
    [(SCORES, 0.88), (DIFFERENCES, 0.90), (DIFFERENCES | {"song": 0.10}, 0.76)],  # 82, 85 and 69 % in 600 simulations
    ids=["means", "paired differences", "songs that differ twice as much"],
)
def test_songs_drawn_within_listeners_would_cover_too_little(effects, at_most):
    rng, hits = np.random.default_rng(2), []
    for _ in range(250):
        low, high = _songs_within_listeners(_draw(rng, (1, 20, 20), effects), 300)
        hits.append(low <= 0 <= high)
    assert np.mean(hits) < at_most, np.mean(hits)


def test_p_values_are_uniform_enough_where_there_is_no_difference():
    rng = np.random.default_rng(3)
    p = np.array([bs.interval(_draw(rng, (3, 20, 20), DIFFERENCES), replicates=500)["p"] for _ in range(1000)])
    assert 0.01 < np.mean(p < 0.05) < 0.07 and np.mean(p < 0.01) < 0.02 and 0.3 < np.median(p) < 0.7


def test_the_standard_error_is_the_closed_form_of_crossed_effects():
    rng = np.random.default_rng(4)
    values = rng.normal(0, 1.0, (1, 60, 1)) + rng.normal(0, 0.8, (1, 1, 30)) + rng.normal(0, 0.1, (1, 60, 30))
    expected = np.sqrt(values.mean((0, 2)).var(ddof=1) / 60 + values.mean((0, 1)).var(ddof=1) / 30)
    assert bs.bootstrap(values).std() == pytest.approx(expected, rel=0.03)


def test_cells_that_are_missing_carry_no_weight():
    rng = np.random.default_rng(5)
    whole = rng.normal(0.4, 0.1, (3, 12, 10))
    holes = np.where(rng.random((1, 12, 10)) < 0.3, np.nan, whole)
    holes[:, 4] = np.nan  # a listener without any song is no listener
    cell = bs.interval(holes)
    assert cell["mean"] == pytest.approx(np.nanmean(holes))
    assert cell == bs.interval(np.delete(holes, 4, axis=1))
    wide, narrow = (c["high"] - c["low"] for c in (cell, bs.interval(whole)))
    assert narrow < wide < 2 * narrow
    sparse = np.full((1, 3, 3), np.nan)
    sparse[0, range(3), range(3)] = 0.1, 0.2, 0.3  # some replicates draw no cell at all
    assert np.isfinite(list(bs.interval(sparse).values())).all()


def test_songs_may_stand_on_the_listeners_axis():
    values = np.random.default_rng(6).normal(size=(3, 58, 1))
    cells = bs.interval(values), bs.interval(values.transpose(0, 2, 1))
    assert cells[0]["mean"] == pytest.approx(cells[1]["mean"])
    assert cells[0]["low"] == pytest.approx(cells[1]["low"], abs=0.01)


@pytest.mark.parametrize("values", [np.zeros((3, 1, 1))[:1], np.full((1, 4, 4), np.nan)], ids=["one cell", "no cell"])
def test_nothing_to_resample_is_one_sentence(values):
    with pytest.raises(DsamlError, match="listener and"):
        bs.interval(values)


def test_a_known_difference_is_found_and_no_difference_is_not():
    rng = np.random.default_rng(2)
    base = rng.normal(0.3, 0.2, (3, 20, 10))
    table = _table(
        {
            "mine": base + 0.1 + rng.normal(0, 0.05, base.shape),
            "same": base + rng.normal(0.1, 0.3, base.shape),
            "worse": base,
        }
    )
    cells = bs.compare(table, "mine", ["worse", "same"])
    assert cells["worse"]["arousal"]["low"] > 0
    assert cells["worse"]["arousal"]["mean"] == pytest.approx(0.1, abs=0.01)
    assert cells["same"]["arousal"]["low"] < 0 < cells["same"]["arousal"]["high"]
    assert all(cell["p"] <= cell["p_holm"] <= 1 for row in cells.values() for cell in row.values())
    assert cells["worse"]["arousal"]["annotators_better"] == 1.0
    assert cells["worse"]["arousal"]["p"] == cells["worse"]["arousal"]["p_floor"] == 1e-4


def test_a_row_minus_itself_has_p_one_and_no_effect_size():
    values = np.random.default_rng(7).normal(size=(1, 5, 4))
    cell = bs.compare(_table({"a": values, "b": values}), "a", ["b"])["b"]["valence"]
    assert cell["mean"] == cell["low"] == cell["high"] == 0 and cell["p"] == 1 and np.isnan(cell["dz"])


def _seeded(mine: tuple[int, ...], theirs: tuple[int, ...]) -> dict:
    rng = np.random.default_rng(3)
    values = {"mine": rng.normal(0.5, 0.1, (len(mine), 8, 5)), "theirs": rng.normal(0.2, 0.1, (len(theirs), 8, 5))}
    table = _table(values, {"mine": mine, "theirs": theirs})
    cell = bs.compare(table, "mine", ["theirs"])["theirs"]["valence"]
    assert cell["mean"] == pytest.approx(values["mine"].mean() - values["theirs"].mean())
    return cell


@pytest.mark.parametrize(
    "mine, theirs, said",
    [
        ((0, 1, 2), (0, 1, 2), "several"),
        ((0, 1, 2), (UNTRAINED,), "several"),
        ((UNTRAINED,), (0, 1), "several"),
        ((0, 1, 2), (0, 1), "unpaired"),
        ((0, 1), (5, 6), "unpaired"),
        ((0, 1, 2), (0,), "unknown"),
        ((4,), (0, 1), "unknown"),
        ((0,), (1,), "unknown"),
        ((0,), (0,), "one"),
        ((0,), (UNTRAINED,), "one"),
        ((UNTRAINED,), (UNTRAINED,), "none"),
    ],
)
def test_a_difference_says_what_became_of_the_seeds(mine, theirs, said):
    assert _seeded(mine, theirs)["seeds"] == said


def test_a_trained_row_with_one_seed_is_never_taken_for_three():
    """Seeds that matter much: they widen the interval where they are known on both sides, and only there."""
    rng = np.random.default_rng(8)
    cells = 0.02 * rng.normal(size=(1, 20, 20))
    many = cells + np.array([-0.2, 0.0, 0.2])[:, None, None]
    table = _table({"mine": many, "one": cells, "two": many[:2] + 0.1}, {"one": (0,), "two": (0, 3)})
    width = {name: cell["arousal"] for name, cell in bs.compare(table, "mine", ["one", "two"]).items()}
    reach = {name: cell["high"] - cell["low"] for name, cell in width.items()}
    assert reach["one"] < 0.05 < 0.5 < reach["two"]


def test_summary_and_gap():
    rng = np.random.default_rng(9)
    shape = (1, 6, 5)
    values = {"model": 0.6, AVERAGE_CURVE_SPREAD: 0.4, OWN_CURVE: 0.9}
    scores = {name: level + 0.01 * rng.normal(size=shape) for name, level in values.items()}
    untrained = dict.fromkeys((AVERAGE_CURVE_SPREAD, OWN_CURVE), (UNTRAINED,))
    summary = bs.summarize(_table(scores, untrained))
    cell = summary["model"]["arousal"]["pcc"]
    assert cell["low"] < cell["mean"] < cell["high"] and cell["seeds"] == "one"
    assert summary[OWN_CURVE]["valence"]["ccc"]["seeds"] == "none"
    assert bs.gap_closed(summary, "model")["valence"] == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("size", [0, 1, 2, 16])
def test_holm_is_that_of_statsmodels(size):
    p = np.random.default_rng(size).choice([0.0001, 0.003, 0.003, 0.02, 0.2, 0.9], size)
    assert bs.holm(p) == pytest.approx(multipletests(p, method="holm")[1] if size else [])


def test_unknown_method_gets_one_sentence():
    with pytest.raises(DsamlError, match="no scores for method 'x'"):
        _table({"mine": np.zeros((1, 2, 2))}).of("x", "arousal", "ccc")
