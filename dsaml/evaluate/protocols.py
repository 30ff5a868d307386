"""The protocols as data, and what a model predicts under each: which labels, what is given of a listener, what is scored.

Every function returns a scores table (see :mod:`dsaml.evaluate.evaluation`): one row per annotator, song and dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call

from dsaml.audio.features import Features
from dsaml.audio.windows import HOPS, predict_song
from dsaml.config import CLIP_STEPS, METRICS, MetaConfig
from dsaml.data.annotations import MEAN
from dsaml.evaluate import evaluation as ev
from dsaml.evaluate.metrics import score
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import mode, personalize
from dsaml.learn.tasks import Task
from dsaml.learn.training import chunks, cross_song_tasks, engine

SUPPORTS = 5  # one-song support sets per listener in cross-song


@dataclass(frozen=True)
class Protocol:
    """What a number means."""

    name: str
    labels: str  # whose curve is the target
    support: str  # what is known of the listener
    query: str  # what is scored
    released: str = ""  # quirks of the released code that can be asked for by name


PROTOCOLS = {
    p.name: p
    for p in (
        Protocol(
            "dmer",
            "the averaged label of each test song",
            "nothing",
            "every label of the song: clips in one window, full songs through windows of 30 s",
            "arousal's windows begin one step late",
        ),
        Protocol(
            "cross-song",
            "each test annotator's own",
            f"one other test song of the annotator; {SUPPORTS} choices, averaged",
            "the first 60 labels of each other test song of the annotator",
        ),
        Protocol(
            "prefix",
            "each test annotator's own",
            "the first 60 labels of the same song",
            "the rest of the song; songs of 60 labels have none and are left out",
            "arousal's windows begin one step late",
        ),
    )
}

SCORING_HOPS = {"arousal": 10, "valence": 10}
"""Steps between the windows of a full song when it is scored: 5 s. The released code takes 5 and 1, and as much longer."""

Forward = Callable[[Tensor, Tensor], Tensor]
"""Log-mels (B, T, ...) and global embeddings (B, 1 or T, D) to predictions (B, T, 2)."""


def forward_of(model: torch.nn.Module, weights: Mapping[str, Tensor] | None = None, stage: str = "audio") -> Forward:
    """A model, with weights of its own or adapted ones, as a function of its inputs."""
    return lambda x, g: functional_call(model, dict(weights or {}), (x.float(), g, stage)).prediction


def _rows(method: str, seed: int, scored: list[tuple[str, str, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Scores table from (annotator, song, prediction, target)."""
    rows = [
        {"annotator": who, "song": song, "dimension": dimension, **values}
        for who, song, prediction, target in scored
        for dimension, values in score(prediction, target).items()
    ]
    columns = ["annotator", "song", "dimension", *METRICS]
    return pd.DataFrame(rows, columns=columns).assign(method=method, seed=seed)


def dmer(
    store: SongStore,
    features: Mapping[str, Features],
    model: torch.nn.Module,
    method: str,
    seed: int,
    *,
    released: bool = False,
) -> pd.DataFrame:
    """Traditional DMER: averaged labels of the test songs, whole songs. The "annotator" of every row is "all"."""
    scored, hops = [], HOPS if released else SCORING_HOPS
    with torch.no_grad(), mode(model, "eval"):
        for song in store.dataset.split.songs["test"]:
            target = store.dataset.mean[song].values
            predicted = predict_song(forward_of(model), features[song], released=released, hops=hops)[: len(target)]
            scored.append((MEAN, song, predicted.numpy(), target[: len(predicted)]))
    return _rows(method, seed, scored)


def dmer_floors(store: SongStore) -> list[pd.DataFrame]:
    """Traditional DMER of predictors that hear nothing, and of the average simulated listener's true curve."""
    split, mean = store.dataset.split.songs, store.dataset.mean
    constant = np.concatenate([mean[s].values[: store.steps] for s in split["train"]]).mean(0)
    floors: dict[str, Callable[[str, np.ndarray], np.ndarray]] = {
        "constant (training mean)": lambda song, target: np.broadcast_to(constant, target.shape),
        "the song's own mean (oracle)": lambda song, target: np.broadcast_to(target.mean(0), target.shape),
    }
    if MEAN in store.dataset.oracle:
        floors[ev.AVERAGE_CURVE] = lambda song, target: store.dataset.oracle[MEAN][song].values[: len(target)]
    return [
        _rows(name, ev.UNTRAINED, [(MEAN, s, floor(s, mean[s].values), mean[s].values) for s in split["test"]])
        for name, floor in floors.items()
    ]


def prefix_tasks(store: SongStore) -> list[Task]:
    """Every test annotator with every test song that is longer than a clip."""
    dataset = store.dataset
    return [
        Task(who, (song,), (song,))
        for who in dataset.split.annotators["test"]
        for song in dataset.split.songs["test"]
        if len(dataset.tracks.get(who, {}).get(song, ())) > store.steps
    ]


def prefix(
    store: SongStore,
    features: Mapping[str, Features],
    model: torch.nn.Module,
    config: MetaConfig,
    method: str,
    seed: int,
    *,
    steps: int | None = None,
    released: bool = False,
) -> pd.DataFrame:
    """PDMER as the released code measures it: adapt to the first 30 s of a song, predict the rest of the same song."""
    scored, hops = [], HOPS if released else SCORING_HOPS
    stage, whole_songs = "audio", dict(features)
    if config.adapt != "all":  # what adaptation leaves alone is computed once per song
        stage, store = "local", store.local(model)
        with torch.no_grad(), mode(model, "eval"):
            for song in {task.query[0] for task in prefix_tasks(store)}:
                local = model.local_features(features[song].log_mel[None])[0]
                whole_songs[song] = Features(local, features[song].global_embedding)
    for part in chunks(prefix_tasks(store), config.tasks_at_once):
        weights = personalize(model, store.support(part), config, steps, inner=engine(config.engine))
        for number, task in enumerate(part):
            song, who = task.query[0], task.annotator
            own = {name: weight[number] for name, weight in weights.items()}
            target = store.track(who, song).values[CLIP_STEPS:]
            with torch.no_grad(), mode(model, config.test_mode):
                whole = predict_song(forward_of(model, own, stage), whole_songs[song], released=released, hops=hops)
            predicted = whole[CLIP_STEPS : CLIP_STEPS + len(target)].numpy()
            scored.append((who, song, predicted, target[: len(predicted)]))
    return _rows(method, seed, scored)


def prefix_floors(store: SongStore) -> list[pd.DataFrame]:
    """What the first 30 s alone say about the rest: their mean, their last value; and the oracles.

    The spread of the average listener's curve is the one of cross-song, chosen on clips: no validation song is longer than a clip.
    It is around the mean of the part that is scored.
    """
    tasks, oracle = prefix_tasks(store), store.dataset.oracle
    constant = np.concatenate(
        [store.dataset.mean[s].values[: store.steps] for s in store.dataset.split.songs["train"]]
    ).mean(0)
    floors: dict[str, Callable[[Task, np.ndarray], np.ndarray]] = {
        "constant (training mean)": lambda task, head: constant,
        "support mean": lambda task, head: head.mean(0),
        "last support value": lambda task, head: head[-1],
    }
    if oracle:
        factors = np.array(list(ev.best_spread(store).values()))
        floors[ev.AVERAGE_CURVE] = lambda task, head: oracle[MEAN][task.query[0]].values[CLIP_STEPS:]
        floors[ev.AVERAGE_CURVE_SPREAD] = lambda task, head: ev.spread(floors[ev.AVERAGE_CURVE](task, head), factors)
        floors[ev.OWN_CURVE] = lambda task, head: oracle[task.annotator][task.query[0]].values[CLIP_STEPS:]
    tables = []
    for name, floor in floors.items():
        scored = []
        for task in tasks:
            values = store.track(task.annotator, task.query[0]).values
            target = values[CLIP_STEPS:]
            guess = np.broadcast_to(floor(task, values[:CLIP_STEPS]), target.shape)
            scored.append((task.annotator, task.query[0], guess, target))
        tables.append(_rows(name, ev.UNTRAINED, scored))
    return tables


def cross_song(
    store: SongStore,
    model: torch.nn.Module,
    config: MetaConfig,
    method: str,
    seed: int,
    *,
    steps: int | None = None,
    songs: int = 1,
    supports: int = SUPPORTS,
) -> pd.DataFrame:
    """PDMER as the paper's text describes it: adapt to ``songs`` other songs of the annotator, predict the others."""
    tasks = cross_song_tasks(store, "test", supports, songs)
    return ev.score_tasks(ev.model_predictor(model, store, config, steps), store, tasks, method, seed)
