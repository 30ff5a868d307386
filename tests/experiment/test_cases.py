"""What the book shows of single people, where nobody knows their true curves."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import make_store

from dsaml.config import DEMO
from dsaml.data.annotations import MEAN
from dsaml.evaluate import bootstrap, protocols
from dsaml.evaluate.scores import scores_table
from dsaml.experiment import cases, reproduce
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN
from dsaml.experiment.rows import BEFORE, FINE_TUNED
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks


@pytest.fixture
def experiment() -> SimpleNamespace:
    """Listeners without an oracle, in a test part of full songs that not all of them rated."""
    data = make_store(60).dataset
    songs = {s: dataclasses.replace(song, clip=s not in data.split.songs["test"]) for s, song in data.songs.items()}
    tracks = {who: dict(own) for who, own in data.tracks.items()}
    del tracks["test-0"][data.split.songs["test"][0]]
    real = dataclasses.replace(data, real=True, oracle={}, songs=songs, tracks=tracks)
    return SimpleNamespace(dataset=real, store=SongStore(real, {}), profile=DEMO)


def _cases(store: SongStore) -> list[cases.Case]:
    """Each method says the truth times its number."""
    found = []
    for task in cross_song_tasks(store, "test", 1):
        for song in task.query:
            truth = store.track(task.annotator, song).values
            said = {name: truth * (k + 1) / len(cases.SHOWN) for k, name in enumerate(cases.SHOWN)}
            mean = store.track(MEAN, song).values
            found.append(cases.Case(task.annotator, task.support[0], song, {cases.TRUTH: truth, cases.MEAN_LABEL: mean, **said}))
    return found


def test_curves_errors_and_study_of_listeners_whose_true_curves_nobody_knows(experiment):
    found = _cases(experiment.store)
    shown = cases.example_curves(experiment, found)
    most, data = shown["disagreement"]["song"], experiment.dataset
    spread = {
        s: np.std([data.tracks[who][s].values for who in data.split.annotators["test"] if s in data.tracks[who]], 0).mean()
        for s in data.split.songs["test"]
    }
    assert most == max(spread, key=spread.get) and set(shown["disagreement"]["pair"]) == {"test-0", "test-1"}
    assert [case["percentile"] for case in shown["personalization"]] == [90, 50, 10]
    assert len(cases.errors(found)["by_time"][MAML_MEAN]) == 60
    study = cases.study_curves(experiment, found)
    (first, *_), *_ = (person["songs"] for person in study["participants"])
    assert np.allclose(first["truth"], found[0].curves[cases.TRUTH], atol=6e-4)  # all that is known of a real listener


def test_the_numbers_of_the_prose_leave_out_what_only_a_simulation_knows(experiment):
    store = experiment.store
    questions = protocols.cross_song_questions(store, cross_song_tasks(store, "test", 1))
    shares = {FINE_TUNED: 0.3, MAML_MEAN: 0.5, BEFORE: 0.2, MAML_ANNOTATOR: 1.0}
    tables = [scores_table(questions, [share * q.target for q in questions], name, 0) for name, share in shares.items()]
    payload = bootstrap.summarize_against(pd.concat([*protocols.fixed_rows(store, "cross-song"), *tables]), MAML_ANNOTATOR)
    payload |= {"selection": {"0": {}}, "gap_closed": bootstrap.gap_closed(payload["rows"], MAML_ANNOTATOR)}
    found = reproduce.numbers(experiment, payload, reproduce.corpus_counts(experiment))
    assert found["maml_annotator_arousal"] == "1.000" and "simulated" not in found["headline"]
    assert not [name for name in found if name.startswith(("own_curve", "average_curve", "gap_closed", "structure"))]
