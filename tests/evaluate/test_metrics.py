"""The three scores, against the released code's numbers, scipy, and their own definitions."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from dsaml.errors import DsamlError
from dsaml.evaluate import metrics

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the released code's numbers (../shared/golden) are not here")
def test_golden_scores_of_the_released_code():
    sequences = np.load(GOLDEN / "released_model_d64.npz", allow_pickle=False)
    released = json.loads((GOLDEN / "released_scores.json").read_text())["scores"]
    for song in range(2):
        ours = metrics.score(sequences["prediction"][song], sequences["labels"][song])
        for dimension, values in ours.items():
            for metric, value in values.items():
                assert value == pytest.approx(released[f"{dimension}_{metric}"][song], abs=1e-6)


pairs = st.integers(3, 40).flatmap(lambda n: arrays(float, (2, n), elements=st.floats(-1, 1, width=32)))


@settings(max_examples=100, deadline=None)
@given(pairs)
def test_against_scipy_and_lins_formula(pair):
    x, y = pair
    assert metrics.rmse(x, y) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)))
    if min(x.std(), y.std()) > 1e-2:
        r = stats.pearsonr(x, y).statistic
        assert metrics.pcc(x, y) == pytest.approx(r, abs=1e-4)
        bias = 2 * x.std() * y.std() / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)  # CCC = PCC * bias correction
        assert metrics.ccc(x, y) == pytest.approx(r * bias, abs=1e-6)
        assert abs(metrics.ccc(x, y)) <= abs(metrics.pcc(x, y)) + 1e-4 <= 1 + 2e-4
    assert metrics.ccc(x, y) == pytest.approx(metrics.ccc(y, x))


@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 80))
def test_constants_have_no_correlation(a, b, length):
    x, y = np.full(length, a), np.full(length, b)
    assert metrics.ccc(x, y) == metrics.pcc(x, y) == 0
    assert metrics.rmse(x, y) == pytest.approx(abs(a - b))


def test_perfect_prediction_and_leading_dimensions():
    x = np.random.default_rng(0).normal(size=(3, 4, 50))
    assert metrics.ccc(x, x).shape == (3, 4)
    assert metrics.ccc(x, x) == pytest.approx(1)
    assert metrics.pcc(x, 2 * x + 1) == pytest.approx(1)
    assert metrics.ccc(x[0, 0], -x[0, 0] + 2 * x[0, 0].mean()) == pytest.approx(-1)


def test_mean_scores_averages_songs_not_steps():
    rng = np.random.default_rng(1)
    songs = [(rng.normal(size=(n, 2)), rng.normal(size=(n, 2))) for n in (10, 300)]
    each = [metrics.score(*s) for s in songs]
    mean = metrics.mean_scores(each)
    assert mean["valence"]["pcc"] == pytest.approx((each[0]["valence"]["pcc"] + each[1]["valence"]["pcc"]) / 2)


@pytest.mark.parametrize(
    ("prediction", "target", "says"),
    [
        (np.zeros((5, 2)), np.zeros((6, 2)), "must both be"),
        (np.zeros((5, 3)), np.zeros((5, 3)), "must both be"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "prediction contains NaN"),
        (np.zeros((5, 2)), np.full((5, 2), np.inf), "target contains NaN"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "T > 0"),
    ],
)
def test_unusable_sequences_are_refused(prediction, target, says):
    with pytest.raises(DsamlError, match=says):
        metrics.score(prediction, target)
    with pytest.raises(DsamlError, match="no song"):
        metrics.mean_scores([])
