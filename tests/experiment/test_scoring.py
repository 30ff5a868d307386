"""From trained models to scores: which checkpoint, which inner loop, which rows; nothing is computed twice."""

import dataclasses

import pytest
from conftest import META, MODEL, SUPERVISED, make_store

from dsaml.audio.features import Features
from dsaml.config import DEMO
from dsaml.evaluate import protocols
from dsaml.evaluate.protocols import INNER_LRS, INNER_STEPS, select_inner
from dsaml.experiment import scoring
from dsaml.experiment.recipes import MAML_ANNOTATOR, NON_META, passes
from dsaml.experiment.rows import AS_TRAINED, BEFORE, FINE_TUNED, HEAD_ONLY, SHIFTED, shots_label
from dsaml.experiment.run import Experiment
from dsaml.experiment.scoring import score_all, score_pdmer, scores_file
from dsaml.learn.loop import TrainingOptions

SHORT = dataclasses.replace(SUPERVISED, steps=4)
PROFILE = dataclasses.replace(
    DEMO, model=MODEL, warm_start=SHORT, supervised=SHORT, meta=dataclasses.replace(META, steps=2), validate_every=2
)


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    store = make_store(60)
    features = {song: Features(*store.inputs(song)) for song in store.dataset.songs}
    return Experiment(PROFILE, store.dataset, features, tmp_path)


def test_the_grid_holds_no_step_the_papers_setting_and_the_trainings_own(experiment):
    tried = {(lr, steps) for lr in INNER_LRS for steps in INNER_STEPS}
    assert {(0.005, 16), (DEMO.meta.inner_lr, DEMO.meta.inner_steps)} <= tried and 0 in INNER_STEPS
    model, _ = experiment.model(NON_META, 0)
    store = experiment.store.local(model)
    config, about = select_inner(store, model, experiment.recipes[NON_META].adaptation)
    grid = about["grid"]
    assert len(grid) == len(INNER_LRS) * (len(INNER_STEPS) - 1) + 1  # no step is one candidate, whatever the rate
    assert (config.inner_lr, config.inner_steps) in tried
    best = max(grid, key=lambda row: row["ccc"])
    assert (config.inner_lr, config.inner_steps) == (best["inner_lr"], best["inner_steps"])


@pytest.fixture
def short_grid(monkeypatch):
    """Two inner loops instead of all, where the choice is not what is tested."""
    monkeypatch.setattr(protocols, "INNER_LRS", (0.05,))
    monkeypatch.setattr(protocols, "INNER_STEPS", (0, 2))


def test_every_row_says_its_passes_and_adapted_rows_their_inner_loop(experiment, short_grid):
    table, about = score_pdmer(experiment, MAML_ANNOTATOR, 0)
    rows = {MAML_ANNOTATOR, BEFORE, AS_TRAINED, HEAD_ONLY, shots_label(3), shots_label(5)}
    assert set(table.method) == set(about) == rows
    chain = passes(SHORT) + passes(PROFILE.meta)
    assert {row["song_passes"] for row in about.values()} == {chain}
    for row in rows - {BEFORE, AS_TRAINED}:  # each chose for itself, on as many songs as it is given
        assert {"inner_lr", "inner_steps", "grid"} <= set(about[row])
    assert about[shots_label(3)]["grid"] != about[MAML_ANNOTATOR]["grid"]
    counts = table[table.protocol == "cross-song"].groupby("method").size()
    assert counts.drop(shots_label(5)).nunique() == 1  # the same listeners and songs; five of six songs leave one


def test_a_row_is_scored_with_the_checkpoint_that_was_best_at_it(experiment, monkeypatch, short_grid):
    asked = []
    plain = Experiment.model

    def spy(self, name, seed, adapted=False):
        asked.append((name, adapted))
        return plain(self, name, seed, adapted)

    monkeypatch.setattr(Experiment, "model", spy)
    table, about = score_pdmer(experiment, NON_META, 0)
    assert {(NON_META, True), (NON_META, False)} <= set(asked)
    assert {NON_META, FINE_TUNED, SHIFTED} == set(table.method) == set(about)
    assert "inner_lr" in about[FINE_TUNED] and "inner_lr" not in about[NON_META]
    asked.clear()
    score_pdmer(experiment, MAML_ANNOTATOR, 0)
    assert (MAML_ANNOTATOR, True) not in asked


def test_scores_are_kept_and_named_by_device_and_precision(experiment, monkeypatch):
    job = ("dmer", NON_META, 0)
    table, about = score_all(experiment, [job], workers=1)
    assert scores_file(experiment, job).is_file()
    monkeypatch.setattr(scoring, "score_dmer", None)  # cannot be computed again
    again, told = score_all(experiment, [job], workers=1)
    assert again.equals(table[again.columns]) and told == about
    file = scores_file(experiment, job)
    file.write_bytes(file.read_bytes().replace(b"0", b"1", 1))  # damaged: it is not used, but computed again
    with pytest.raises(TypeError, match="not callable"):
        score_all(experiment, [job], workers=1)
    other = dataclasses.replace(experiment, options=TrainingOptions(resume=True, precision="bf16"))
    assert scores_file(other, job) != scores_file(experiment, job)
    assert other.checkpoint(NON_META, 0) != experiment.checkpoint(NON_META, 0)
