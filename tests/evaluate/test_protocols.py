"""Floors, oracles and models with known answers; the verdict of the headline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import META, MODEL, make_store

from dsaml.audio.features import Features
from dsaml.config import DIMENSIONS, METRICS
from dsaml.data import Dataset, Song, Split
from dsaml.data.annotations import Annotation
from dsaml.evaluate import bootstrap, floors, protocols
from dsaml.evaluate.floors import FLOORS, SONG_MEAN, SUPPORT_MEAN, training_mean
from dsaml.evaluate.scores import UNTRAINED
from dsaml.experiment.claims import headline
from dsaml.experiment.recipes import MAML_ANNOTATOR, MAML_MEAN
from dsaml.experiment.rows import FINE_TUNED
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.model.dsaml import DSAML


def best_spread(store: SongStore) -> dict[str, float]:
    return floors.best_spread(store.dataset, store.steps)


def _fixed(store) -> pd.DataFrame:
    return pd.concat(protocols.fixed_rows(store, "cross-song"))


def test_the_listeners_own_curve_is_best_and_floors_have_no_correlation(store):
    summary = bootstrap.summarize(bootstrap.CrossedScores(_fixed(store)))
    assert summary["constant (training mean)"]["valence"]["ccc"]["mean"] == pytest.approx(0, abs=1e-6)
    own, average = (summary[name]["valence"] for name in (floors.OWN_CURVE, floors.AVERAGE_CURVE))
    assert own["ccc"]["mean"] > 0.8 and own["rmse"]["mean"] < average["rmse"]["mean"]
    assert own["ccc"]["seeds"] == "none"
    gap = bootstrap.gap_closed(summary, floors.OWN_CURVE)
    assert gap["valence"] == pytest.approx(1.0)
    assert bootstrap.gap_closed(summary, floors.AVERAGE_CURVE_SPREAD)["valence"] == pytest.approx(0.0)


def _with(store: SongStore, **changes) -> SongStore:
    """A store without sound, for another data set."""
    return SongStore(replace(store.dataset, **changes), {}).clips_of(store.steps)


def _shrunk(store: SongStore, share: float) -> SongStore:
    """The same data, but the average listener's true arousal moves only a share of what the listeners' do."""

    def smaller(track: Annotation) -> Annotation:
        values = track.values.copy()
        middle = values[:, 0].mean()
        values[:, 0] = middle + share * (values[:, 0] - middle)
        return replace(track, values=values)

    oracle = dict(store.dataset.oracle)
    oracle["all"] = {song: smaller(track) for song, track in oracle["all"].items()}
    return _with(store, oracle=oracle)


def test_the_best_spread_is_found_on_validation_and_undoes_a_wrong_one(store):
    dataset = store.dataset
    exact = _with(store, tracks={who: tracks for who, tracks in dataset.oracle.items() if who != "all"})  # no noise
    assert best_spread(exact)["arousal"] == pytest.approx(1.0)
    half = _shrunk(exact, 0.5)
    assert best_spread(half)["arousal"] == pytest.approx(2.0)
    rows = _fixed(half).groupby(["method", "dimension"]).ccc.mean()
    names = (floors.AVERAGE_CURVE_SPREAD, floors.AVERAGE_CURVE, floors.OWN_CURVE)
    spread, plain, own = (rows[name, "arousal"] for name in names)
    assert spread == pytest.approx(own, abs=0.01) and plain < own - 0.05


def test_the_best_spread_does_not_look_at_test_listeners(store):
    tracks = dict(store.dataset.tracks)
    for who in store.dataset.split.annotators["test"]:
        tracks[who] = {
            song: Annotation(song, who, track.times, 3 * track.values) for song, track in tracks[who].items()
        }
    other = _with(store, tracks=tracks)
    assert best_spread(other) == best_spread(store)


def test_the_prefix_protocol_has_the_same_spread_around_the_mean_of_what_is_scored(store):
    exact = _with(store, tracks={who: tracks for who, tracks in store.dataset.oracle.items() if who != "all"})
    half = _shrunk(exact, 0.5)
    half = SongStore(half.dataset, {}).clips_of(8)  # clips of 8 steps: the songs of 12 are long
    rows = pd.concat(protocols.fixed_rows(half, "prefix"))
    assert set(rows.seed) == {UNTRAINED}
    ccc = rows[rows.dimension == "arousal"].groupby("method").ccc.mean()
    assert ccc[floors.OWN_CURVE] == pytest.approx(1.0) and ccc[floors.AVERAGE_CURVE] < ccc[floors.AVERAGE_CURVE_SPREAD]


def test_spreading_keeps_the_mean():
    curve = np.random.default_rng(0).normal(size=(30, 2))
    wide = floors.spread(curve, np.array([2.0, 0.5]))
    assert np.allclose(wide.mean(0), curve.mean(0)) and np.allclose(wide.std(0), curve.std(0) * [2.0, 0.5])


def test_support_mean_predicts_the_support_songs_mean(store):
    tasks = cross_song_tasks(store, "test", 1)
    first = protocols.cross_song_questions(store, tasks)[0]
    said = FLOORS[SUPPORT_MEAN](training_mean(store.dataset), first)
    assert np.allclose(said, store.track(tasks[0].annotator, tasks[0].support[0]).values.mean(0))


def test_the_shifted_model_has_the_support_labels_mean_on_the_support_song(store):
    model = DSAML(MODEL).eval()
    constant = {
        who: {s: replace(t, values=0 * t.values + 0.5) for s, t in tracks.items()}
        for who, tracks in store.dataset.tracks.items()
    }
    features = {song: Features(*store.inputs("s18")) for song in store.dataset.songs}  # every song sounds like one
    same = SongStore(replace(store.dataset, tracks=constant), features).clips_of(store.steps)
    shifted = protocols.cross_song_shifted(same, model, "shifted", 0)
    x, embedding = same.inputs("s18")
    curve = model(x[None], embedding[None]).prediction[0].detach().numpy()
    moved = curve - curve.mean(0)  # what is left of the curve around the labels' mean
    for d, dimension in enumerate(DIMENSIONS):
        assert shifted[shifted.dimension == dimension].rmse.to_numpy() == pytest.approx(moved[:, d].std(), abs=1e-5)


def _table(scores: dict[str, np.ndarray]) -> bootstrap.CrossedScores:
    """A scores table from (seeds, annotators, songs) arrays; every metric and dimension gets the same numbers."""
    rows = [
        {"method": method, "seed": s, "annotator": f"a{a:02d}", "song": f"s{k:02d}", "dimension": d}
        | dict.fromkeys(METRICS, v)
        for method, values in scores.items()
        for (s, a, k), v in np.ndenumerate(values)
        for d in DIMENSIONS
    ]
    return bootstrap.CrossedScores(pd.DataFrame(rows))


@pytest.mark.parametrize("gain, holds", [(0.15, True), (0.0, False), (-0.1, False)])
def test_the_verdict_flips_with_the_numbers(gain, holds):
    rng = np.random.default_rng(4)
    base = rng.normal(0.3, 0.1, (2, 15, 8))
    scores = {FINE_TUNED: base, MAML_MEAN: base + 0.01, MAML_ANNOTATOR: base + gain + rng.normal(0, 0.02, base.shape)}
    payload = {"paired": {"against": bootstrap.compare(_table(scores), MAML_ANNOTATOR, [FINE_TUNED, MAML_MEAN])}}
    assert headline(payload).startswith("On unseen simulated listeners") == holds
    assert ("does not hold" in headline(payload)) == (not holds)


def test_protocols_are_named_and_scored():
    store = make_store()
    assert set(protocols.PROTOCOLS) == {"dmer", "cross-song", "prefix"}
    floors = pd.concat(protocols.fixed_rows(store, "dmer"))
    own = floors[floors.method == SONG_MEAN]
    assert (own.ccc == 0).all() and set(own.annotator) == {"all"}
    assert protocols.prefix_questions(store) == []  # no song is longer than a clip


def long_store(steps: int = 80) -> tuple[SongStore, dict[str, Features]]:
    """Two test listeners with three songs of 40 s each, ready for the prefix protocol."""
    rng = np.random.default_rng(1)
    songs, people = ("a", "b", "c"), ("p", "q")
    times = 15 + 0.5 * np.arange(steps)
    features = {
        s: Features(
            torch.from_numpy(rng.normal(size=(steps, *MODEL.slice_shape)).astype(np.float32)), torch.zeros(1, MODEL.dim)
        )
        for s in songs
    }
    tracks = {
        who: {s: Annotation(s, who, times, rng.uniform(-1, 1, (steps, 2))) for s in songs if (who, s) != ("q", "c")}
        for who in people
    }
    empty = {"train": (), "validation": ()}
    split = Split(empty | {"test": songs}, empty | {"test": people})
    dataset = Dataset("synthetic", False, Path("memory"), {s: Song(s, None) for s in songs}, {}, tracks, split, (), {})
    return SongStore(dataset, features), features


@pytest.mark.parametrize("adapt", ["all", "no-adapter"])
def test_prefix_adapts_every_listener_to_each_song_by_itself(adapt):
    store, features = long_store()
    torch.manual_seed(0)
    model = DSAML(MODEL).eval()
    config = replace(META, adapt=adapt, inner_lr=0.5)
    together, alone = (
        protocols.prefix(store, features, model, replace(config, tasks_at_once=n), "m", 0) for n in (4, 1)
    )
    assert set(zip(alone.annotator, alone.song, strict=True)) == {
        (who, song) for who in "pq" for song in "abc" if (who, song) != ("q", "c")
    }
    pd.testing.assert_frame_equal(together, alone, rtol=1e-3, atol=1e-4)
    unadapted = protocols.prefix(store, features, model, replace(config, inner_steps=0), "m", 0)
    assert (unadapted.rmse - alone.rmse).abs().max() > 1e-3
