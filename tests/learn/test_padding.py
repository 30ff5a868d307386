"""Songs shorter than a clip: padded and masked, they give what they give alone; where every song is full nothing is masked."""

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import META, MODEL, SUPERVISED, make_store
from hypothesis import given, settings
from hypothesis import strategies as st

from dsaml.audio.features import Features
from dsaml.audio.song import Song
from dsaml.baselines import BaselineConfig, make_baseline
from dsaml.config import DEMO, get_profile
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import without_short
from dsaml.errors import DsamlError
from dsaml.evaluate import protocols
from dsaml.experiment.prepare import with_task_songs
from dsaml.learn.batches import SongStore
from dsaml.learn.losses import diagonal_attention_loss, mse_loss, score_loss, sequence_scores
from dsaml.learn.maml import adapt, predict
from dsaml.learn.reference import import_learn2learn
from dsaml.learn.training import ENGINES, cross_song_tasks, mean_ccc, train_maml, train_supervised
from dsaml.model.dsaml import DSAML

STEPS = 12


def cut(store: SongStore, lengths: dict[str, int]) -> SongStore:
    """The same songs, some of them shorter."""

    def shorter(tracks):
        return {
            s: Annotation(s, t.annotator_id, t.times[: lengths.get(s)], t.values[: lengths.get(s)])
            for s, t in tracks.items()
        }

    mean, tracks = shorter(store.dataset.mean), {who: shorter(own) for who, own in store.dataset.tracks.items()}
    features = {
        s: Features(store.inputs(s)[0][: lengths.get(s)], store.inputs(s)[1]) for s in store.dataset.songs
    }
    return SongStore(dataclasses.replace(store.dataset, mean=mean, tracks=tracks, oracle={}), features).clips_of(STEPS)


def model_of(name: str, **changes):
    torch.manual_seed(0)
    if name == "dsaml":
        return DSAML(dataclasses.replace(MODEL, **changes)).eval()
    return make_baseline(BaselineConfig(name, 0.5, slice_shape=(8, 16), dropout=0.0)).eval()


def batch_for(name: str, tasks: int, lengths: list[int]):
    """Random songs of given lengths, padded by other random numbers: (tasks, songs, T, ...)."""
    draw = torch.Generator().manual_seed(1)
    shape = {"dsaml": MODEL.slice_shape, "crnn": (8, 16), "damff": (8, 16), "dnn": (8000,), "mcrnn": (8000,)}[name]
    x = torch.randn(tasks, len(lengths), STEPS, *shape, generator=draw)
    embedding = torch.randn(tasks, len(lengths), 1, MODEL.dim, generator=draw)
    there = (torch.arange(STEPS) < torch.tensor(lengths)[:, None]).expand(tasks, -1, -1)
    return x, embedding, there


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, STEPS), min_size=1, max_size=4),
    positions=st.sampled_from(["relative-key", "sinusoidal", "none"]),
)
def test_a_padded_song_is_predicted_as_it_is_alone(lengths, positions):
    model = model_of("dsaml", positions=positions, layers=2)
    x, embedding, there = batch_for("dsaml", 1, lengths)
    with torch.no_grad():
        together = model(x[0], embedding[0], "audio", there[0])
        for k, steps in enumerate(lengths):
            alone = model(x[0, k : k + 1, :steps], embedding[0, k : k + 1])
            torch.testing.assert_close(together.prediction[k, :steps], alone.prediction[0], rtol=1e-4, atol=1e-5)
            maps = together.attention_global[k, ..., :steps, :]
            torch.testing.assert_close(maps[..., :steps], alone.attention_global[0], rtol=1e-4, atol=1e-5)
            assert not maps[..., steps:].any()  # nobody looks at padding
    assert together.prediction.isfinite().all()


@pytest.mark.parametrize("name", ["crnn", "dnn", "mcrnn", "damff"])
@pytest.mark.parametrize("tasks", [1, 3])
def test_a_baseline_predicts_it_so_too(name, tasks):
    model, (x, _, there) = model_of(name), batch_for(name, tasks, [STEPS, 5])
    own = {key: torch.stack([p] * tasks) for key, p in model.named_parameters()}
    with torch.no_grad():
        alone = model(x[0, 1:, :5]).prediction[0]
        if tasks == 1:
            padded = model(x[0], None, "audio", there[0]).prediction[1, :5]
        else:
            padded = torch.func.functional_call(model, own, (x, None, "audio", there)).prediction[0, 1, :5]
    torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(2, STEPS), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_losses_and_scores_count_each_song_as_it_is(lengths, seed):
    draw = torch.Generator().manual_seed(seed)
    prediction, target = (torch.randn(len(lengths), STEPS, 2, generator=draw) for _ in range(2))
    there = torch.arange(STEPS) < torch.tensor(lengths)[:, None]
    for loss in (score_loss, mse_loss):
        each = [loss(prediction[k : k + 1, :n], target[k : k + 1, :n]) for k, n in enumerate(lengths)]
        torch.testing.assert_close(loss(prediction, target, there), torch.stack(each).mean())
    labels = target.masked_fill(~there.unsqueeze(-1), torch.nan)
    each = [sequence_scores(prediction[k, :n], target[k, :n])[0] for k, n in enumerate(lengths)]
    assert mean_ccc([prediction], [labels]) == pytest.approx(torch.stack(each).mean().item(), abs=1e-6)
    full = there.new_ones(there.shape)
    torch.testing.assert_close(score_loss(prediction, target, full), score_loss(prediction, target))


def test_the_attention_loss_asks_nothing_of_padding():
    model, (x, embedding, there) = model_of("dsaml"), batch_for("dsaml", 1, [STEPS, 5])
    output = model(x[0], embedding[0], "audio", there[0])
    diagonals = output.attention_local[:, -1].mean(1).diagonal(dim1=-2, dim2=-1)
    wanted = torch.cat((diagonals[:, :5].mean(0), diagonals[0, 5:]))
    other = output.attention_global[:, -1].mean(1).diagonal(dim1=-2, dim2=-1)
    also = torch.cat((other[:, :5].mean(0), other[0, 5:]))
    expected = (wanted - 0.5).square().mean() + (also - 0.05).square().mean()
    torch.testing.assert_close(diagonal_attention_loss(output, 0.5, 0.05, there[0]), expected)


@pytest.mark.parametrize("engine", ["stacked", "learn2learn"])
@pytest.mark.parametrize("tasks", [1, 2])
def test_adaptation_does_not_see_padding(engine, tasks):
    """Whatever stands behind a song's end, the listener is the same; both engines, one task and several."""
    if engine == "learn2learn":
        pytest.importorskip("learn2learn", exc_type=ImportError)
        import_learn2learn()
    store = cut(make_store(), {"s00": 7, "s03": 9})
    people = store.dataset.split.annotators["train"][:tasks]
    support, query = (store.batch(people, [songs] * tasks) for songs in (["s00", "s01"], ["s03", "s04"]))
    changed = dataclasses.replace(support, x=torch.where(support.there[..., None, None], support.x, 99.0))
    model, config = model_of("dsaml"), dataclasses.replace(META, adapt="all")
    first, second = (
        predict(model, adapt(model, batch, config, inner=ENGINES[engine]), query, config) for batch in (support, changed)
    )
    torch.testing.assert_close(first[query.there], second[query.there])


def test_only_a_store_with_short_songs_has_a_mask():
    store = make_store()
    assert store.batch([MEAN], [["s00", "s01"]]).there is None
    short = cut(store, {"s00": 7})
    batch = short.batch([MEAN], [["s00", "s01"]])
    assert batch.there.sum(-1).tolist() == [[7, 12]]
    assert torch.equal(batch.x[0, 0, 7:], batch.x[0, 0, 6:7].expand(5, -1, -1))  # the last slice, again
    assert torch.equal(batch.target[0, 1], store.batch([MEAN], [["s01"]]).target[0, 0])
    assert short.clips_of(6).batch([MEAN], [["s00", "s01"]]).there is None


def test_short_songs_are_trained_on_and_scored():
    store = cut(make_store(), {f"s{k:02d}": 4 + k % 8 for k in range(24)})
    model = model_of("dsaml")
    first = train_supervised(model, store, SUPERVISED, adaptation=META)
    second = train_maml(model, store, META)
    for history in (first, second):
        assert np.isfinite(history.loss).all() and np.isfinite([score for _, score in history.validation]).all()
    scores = protocols.cross_song(store, model, META, "DSAML", 0)
    floors = protocols.fixed_rows(store, "cross-song")[0]
    assert set(scores.song) == set(floors.song) == set(store.dataset.split.songs["test"])
    assert scores.notna().all(axis=None)
    rest = protocols.prefix(store.clips_of(6), {s: Features(*store.inputs(s)) for s in scores.song}, model, META, "DSAML", 0)
    assert set(rest.song) == {s for s in scores.song if len(store.dataset.mean[s]) > 6}


def test_very_short_songs_are_left_out_with_their_people():
    store = cut(make_store(), {"s00": 3, "s13": 9})
    whole = make_store().dataset
    assert without_short(whole)[0] is whole
    left, songs, tracks = without_short(store.dataset)
    assert (songs, tracks) == (2, 4) and "s00" not in left.split.songs["train"] and "s13" not in left.mean
    only = {"train-0": {"s00": store.dataset.tracks["train-0"]["s00"], "s01": store.dataset.tracks["train-0"]["s01"]}}
    alone = without_short(dataclasses.replace(store.dataset, tracks=store.dataset.tracks | only))[0]
    assert alone.split.annotators["train"] == ("train-1",)


def test_tasks_are_as_large_as_people_have_songs_for(caplog):
    data = make_store().dataset
    few = {"train-0": {s: data.tracks["train-0"][s] for s in ("s00", "s01")}}
    data = dataclasses.replace(data, tracks=data.tracks | few, root=Path("here"), songs={"s00": Song("s00", None)})
    with caplog.at_level(logging.WARNING):
        profile = with_task_songs(DEMO, data, (None, None))
    assert (profile.meta.support_songs, profile.meta.query_songs) == (1, 1) and "1 support and 1 query" in caplog.text
    assert profile.name == "demo-1-and-1-songs" and get_profile(profile.name) == profile
    with pytest.raises(DsamlError, match=r"here: tasks of 1 support and 4 query songs want 5.*train-0 has 2.*--query-songs"):
        with_task_songs(DEMO, data, (None, 4))
    with pytest.raises(DsamlError, match="2 support and 1 query"):
        with_task_songs(DEMO, data, (2, None))
    assert with_task_songs(DEMO, make_store().dataset, (None, None)) == DEMO  # 12 songs each: nothing to say


def test_two_songs_make_two_tasks_however_many_are_asked_for():
    store = make_store()
    few = {who: {s: own[s] for s in sorted(own)[:2]} for who, own in store.dataset.tracks.items()}
    data = dataclasses.replace(store.dataset, tracks=few)
    tasks = cross_song_tasks(SongStore(data, {}).clips_of(STEPS), "test", 5)
    assert len(tasks) == len(set(tasks)) == 4  # of two people
    assert len(cross_song_tasks(store, "test", 5)) == 10
