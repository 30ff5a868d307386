"""The arena's run: chosen without the test part, kept on disk, told in a result file that pages can read."""

import dataclasses

import pytest
import torch
from conftest import META, MODEL, SUPERVISED, make_store

from dsaml.arena.base import TRAINING, ArenaConfig
from dsaml.arena.methods import METHODS
from dsaml.audio.features import Features
from dsaml.config import DEMO, DIMENSIONS
from dsaml.data.annotations import Annotation
from dsaml.evaluate import protocols
from dsaml.evaluate.floors import AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.experiment import arena, arena_rows
from dsaml.experiment.arena import EVIDENCE, run_arena
from dsaml.experiment.arena_rows import ADAPTER, FROZEN, SMALL, WHOLE, Arena
from dsaml.experiment.arena_words import COST, WIDE, in_words, table, terminal_table
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.results import read_result
from dsaml.experiment.run import Experiment

SHORT = dataclasses.replace(SUPERVISED, steps=2)
PROFILE = dataclasses.replace(
    DEMO, model=MODEL, warm_start=SHORT, supervised=SHORT, meta=dataclasses.replace(META, steps=2), validate_every=2
)
CONFIG = ArenaConfig(training=dataclasses.replace(TRAINING, steps=2), songs_per_step=8, width=8, validate_every=2, search_steps=2)
ROWS = [
    *((SMALL, name) for name in ("no adaptation", "shift", "MAML (the paper)", "low-rank Bayesian listener")),
    (FROZEN, "ridge head (R2D2)"),
    (ADAPTER, "ridge head (R2D2)"),
    (WHOLE, "low-rank Bayesian listener"),
]


def make_experiment(folder, flip: bool = False) -> Experiment:
    """``flip`` turns the test listeners' labels upside down."""
    store = make_store(60)
    dataset = store.dataset
    if flip:
        turned = {
            who: {s: Annotation(s, who, t.times, -t.values) for s, t in songs.items()}
            for who, songs in dataset.tracks.items()
            if who in dataset.split.annotators["test"]
        }
        dataset = dataclasses.replace(dataset, tracks=dataset.tracks | turned)
    features = {song: Features(*store.inputs(song)) for song in dataset.songs}
    return Experiment(PROFILE, dataset, features, folder)


@pytest.fixture
def short_grid(monkeypatch):
    monkeypatch.setattr(protocols, "INNER_LRS", (0.05,))
    monkeypatch.setattr(protocols, "INNER_STEPS", (0, 2))


def test_models_that_were_trained_without_short_songs_are_kept_apart(tmp_path):
    """Their names would be those of models of all songs, and one command would take the other's."""
    whole = make_experiment(tmp_path / "runs")
    assert arena_rows.full_clips(whole) is whole
    data = whole.dataset
    song = data.split.songs["train"][0]
    label = data.mean[song]
    short = dataclasses.replace(label, times=label.times[:50], values=label.values[:50])
    cut = dataclasses.replace(data, mean=data.mean | {song: short})
    left = arena_rows.full_clips(dataclasses.replace(whole, dataset=cut))
    assert song not in left.dataset.mean and left.checkpoints != whole.checkpoints
    assert left.checkpoints.parent == whole.checkpoints.parent


def test_a_run_writes_what_the_chapter_reads_and_is_not_repeated(tmp_path, monkeypatch, short_grid):
    experiment, results = make_experiment(tmp_path / "runs"), tmp_path / "results"
    payload = run_arena(experiment, (0, 1), results, ROWS, workers=1, config=CONFIG)
    written = read_result(results / f"arena-{experiment.dataset.name}.json")
    names = [arena_rows.label(row) for row in ROWS]
    assert {*names, MAML_ANNOTATOR, AVERAGE_CURVE_SPREAD, OWN_CURVE} <= set(written["rows"])
    assert list(written["evidence"]) == list(EVIDENCE)
    tries = {name: [tuple(map(tuple, tried[0].items())) for tried in all_of] for name, all_of in written["searched"].items()}
    assert set(tries) == {arena_rows.label(row) for row in ROWS if METHODS[row[1]].start is None}
    assert {len(set(all_of)) for all_of in tries.values()} == {6}  # as many ways to train for each
    for name in names:
        told = written["about"][name]
        assert set(told) == {"0", "1"} and set(told["0"]["chosen"]) == set(EVIDENCE)
        assert {"adapt_ms", "bytes"} <= set(told["0"]) and ("train_s" in told["0"]) == ("shift" not in name)
        assert ("uncertainty" in told["0"]) == ("Bayesian" in name)
        for d in DIMENSIONS:
            assert written["evidence"]["30 s"][name][d]["ccc"]["mean"] == pytest.approx(
                written["rows"][name][d]["ccc"]["mean"]
            )
    words = in_words(written)
    assert set(words) == {"best", "against", "dsaml"} and "the paper's MAML" in words["against"]
    assert len(table(written)) == len(written["rows"])
    narrow, wide = terminal_table(written, 80), terminal_table(written, WIDE)
    assert len(wide.columns) == len(narrow.columns) + len(COST)
    heard = {row[0] for row in ROWS}
    assert narrow.row_count == wide.row_count == len(written["rows"]) + len(heard)  # a heading for each kind of features
    monkeypatch.setattr(arena_rows, "fit", None)  # nothing can be trained again
    again = run_arena(experiment, (0, 1), results, ROWS, workers=1, config=CONFIG)
    assert again["rows"] == payload["rows"] and again["evidence"] == payload["evidence"]


def test_no_training_and_no_choice_sees_the_test_listeners(tmp_path):
    """Their labels upside down change no weight and no setting; only their scores."""
    row = (SMALL, "MAML (the paper)")
    states, tried, chosen, scores = [], [], [], []
    for flip in (False, True):
        run = Arena(make_experiment(tmp_path / str(flip), flip), CONFIG)
        tried.append(run.tried(row, 0, {"inner_lr": 0.3}, 2))
        states.append(run.train(row, 0)[0].state_dict())
        found, about = arena._scored(run, row, 0)
        chosen.append(about["chosen"])
        scores.append(found.rmse.to_numpy())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert tried[0] == tried[1] and chosen[0] == chosen[1]
    assert not (scores[0] == scores[1]).all()


def test_a_way_to_train_that_diverges_is_not_taken(tmp_path, monkeypatch):
    """It counts as worse than any other, and the search goes on."""
    run, row = Arena(make_experiment(tmp_path), dataclasses.replace(CONFIG, search_steps=4)), (SMALL, "ANIL")
    monkeypatch.setattr(METHODS["ANIL"], "trainings", ({"learning_rate": 1e30}, {"learning_rate": 1e-3}))
    found = arena._searched(run, row, 0)
    assert [score == -1.0 for _, score in found] == [True, False]


def test_a_search_trains_the_better_half_of_the_ways_to_its_end(tmp_path, monkeypatch):
    run, row, trained = Arena(make_experiment(tmp_path), dataclasses.replace(CONFIG, search_steps=4)), (SMALL, "ANIL"), []
    rates = (0.0, 1e-3, 1e-2, 3e-2)
    monkeypatch.setattr(METHODS["ANIL"], "trainings", tuple({"learning_rate": rate} for rate in rates))
    tried = Arena.tried

    def noted(self, row, seed, tuned, until):
        trained.append((tuned["learning_rate"], until, score := tried(self, row, seed, tuned, until)))
        return score

    monkeypatch.setattr(Arena, "tried", noted)
    found = arena._searched(run, row, 0)
    halves = {rate: score for rate, until, score in trained if until == 2}
    ends = {rate: score for rate, until, score in trained if until == 4}
    assert set(halves) == set(rates) and set(ends) == set(sorted(rates, key=halves.get)[2:])
    assert all(score >= halves[rate] for rate, score in ends.items())  # the same training, gone on with
    assert [(tuned["learning_rate"], score) for tuned, score in found] == list((halves | ends).items())


def test_a_new_method_leaves_what_others_have_trained(tmp_path, monkeypatch):
    run, row = Arena(make_experiment(tmp_path), CONFIG), (SMALL, "ANIL")
    monkeypatch.setattr(arena_rows, "code_digest", lambda module: module)
    assert run.file(row, 0, "pt") == run.file(row, 0, "pt") != run.file(row, 0, "pt", {"inner_lr": 0.3})
    monkeypatch.setattr(arena_rows, "code_digest", lambda module: module + ("changed" if "low_rank" in module else ""))
    after = run.file(row, 0, "pt"), run.file((SMALL, "low-rank Bayesian listener"), 0, "pt")
    monkeypatch.setattr(arena_rows, "code_digest", lambda module: module)
    before = run.file(row, 0, "pt"), run.file((SMALL, "low-rank Bayesian listener"), 0, "pt")
    assert before[0] == after[0] and before[1] != after[1]
