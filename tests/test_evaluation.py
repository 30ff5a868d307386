"""Evaluation: known answers through the whole path, bootstrap against a closed form."""

import numpy as np
import pandas as pd
import pytest
from conftest import META, MODEL

from dsaml import evaluation as ev
from dsaml.errors import DsamlError
from dsaml.model import DSAML
from dsaml.reproduce import FINE_TUNED, MAML_ANNOTATOR, MAML_MEAN, verdict
from dsaml.training import cross_song_tasks


def _table(scores: dict[str, np.ndarray]) -> pd.DataFrame:
    """A scores table from (seeds, annotators, songs) arrays; every metric and dimension gets the same numbers."""
    rows = [
        {
            "method": method,
            "seed": s,
            "annotator": f"a{a:02d}",
            "song": f"s{k:02d}",
            "dimension": d,
            "ccc": v,
            "pcc": v,
            "rmse": v,
        }
        for method, values in scores.items()
        for (s, a, k), v in np.ndenumerate(values)
        for d in ev.DIMENSIONS
    ]
    return pd.DataFrame(rows)


def test_personal_oracle_is_best_and_floors_have_no_correlation(store):
    tasks = cross_song_tasks(store, "test", 2)
    rows = ev.floor_predictors(store) | ev.oracle_predictors(store)
    table = pd.concat([ev.score_tasks(p, store, tasks, name, 0) for name, p in rows.items()])
    summary = ev.summarize(table)
    assert summary["constant (training mean)"]["valence"]["ccc"]["mean"] == pytest.approx(0, abs=1e-6)
    assert summary["personal oracle"]["valence"]["ccc"]["mean"] > 0.8
    assert (
        summary["personal oracle"]["valence"]["rmse"]["mean"] < summary["population oracle"]["valence"]["rmse"]["mean"]
    )
    gap = ev.gap_closed(summary, "personal oracle")
    assert gap["valence"] == pytest.approx(1.0)


def test_support_mean_predicts_the_support_songs_mean(store):
    tasks = cross_song_tasks(store, "test", 1)
    prediction = ev.floor_predictors(store)["support mean"](tasks)[0]
    expected = store.track(tasks[0].annotator, tasks[0].support[0]).values.mean(0)
    assert np.allclose(prediction, expected)


def test_shifted_model_has_the_support_mean_on_the_support_song(store):
    tasks = cross_song_tasks(store, "test", 1)
    model = DSAML(MODEL).eval()
    plain = ev.model_predictor(model, store, META, steps=0)(tasks)[0]
    shifted = ev.shifted_predictor(model, store)(tasks)[0]
    shift = shifted - plain
    assert np.allclose(shift, shift[0, 0], atol=1e-5)  # one shift for all songs and steps


def test_bootstrap_agrees_with_the_closed_form_on_normal_data():
    """Independent cells: the standard error of the mean of A annotators and S songs is that of the annotators' means and more."""
    rng = np.random.default_rng(0)
    annotator_effect, noise = rng.normal(0, 1.0, (1, 60, 1)), rng.normal(0, 0.5, (1, 60, 30))
    values = annotator_effect + noise
    spread = ev.bootstrap(values, replicates=3000, seed=1).std()
    per_annotator = values.mean((0, 2)).var() / 60
    per_song = values.var(2).mean() / (60 * 30)
    assert spread == pytest.approx(np.sqrt(per_annotator + per_song), rel=0.06)


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
    cells = ev.compare(table, "mine", ["worse", "same"])
    assert cells["worse"]["arousal"]["low"] > 0
    assert cells["worse"]["arousal"]["mean"] == pytest.approx(0.1, abs=0.01)
    assert cells["same"]["arousal"]["low"] < 0 < cells["same"]["arousal"]["high"]
    assert all(cell["p"] <= cell["p_holm"] <= 1 for row in cells.values() for cell in row.values())
    assert cells["worse"]["arousal"]["annotators_better"] == 1.0


def test_floors_have_one_seed_and_are_compared_with_every_training_seed():
    rng = np.random.default_rng(3)
    model, floor = rng.normal(0.5, 0.1, (3, 8, 5)), np.full((1, 8, 5), 0.2)
    cells = ev.compare(_table({"mine": model, "floor": floor}), "mine", ["floor"])
    assert cells["floor"]["valence"]["mean"] == pytest.approx(model.mean() - 0.2)


def test_unknown_method_gets_one_sentence():
    with pytest.raises(DsamlError, match="no scores for method 'x'"):
        ev.cube(_table({"mine": np.zeros((1, 2, 2))}), "x", "arousal", "ccc")


@pytest.mark.parametrize("gain, holds", [(0.15, True), (0.0, False), (-0.1, False)])
def test_the_verdict_flips_with_the_numbers(gain, holds):
    rng = np.random.default_rng(4)
    base = rng.normal(0.3, 0.1, (2, 15, 8))
    scores = {FINE_TUNED: base, MAML_MEAN: base + 0.01, MAML_ANNOTATOR: base + gain + rng.normal(0, 0.02, base.shape)}
    payload = {"paired": {"against": ev.compare(_table(scores), MAML_ANNOTATOR, [FINE_TUNED, MAML_MEAN])}}
    assert verdict(payload).startswith("On unseen simulated listeners") == holds
    assert ("does not hold" in verdict(payload)) == (not holds)
