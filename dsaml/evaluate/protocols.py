"""The protocols as data, and who answers their questions: which labels, what is given of a listener, what is scored.

Every function that scores returns a scores table (see :mod:`dsaml.evaluate.scores`): one row per annotator, song and dimension. The
inner loop at test is chosen on validation listeners, from one grid for all models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from dsaml.audio.features import Features
from dsaml.audio.windows import predict_song
from dsaml.config import MetaConfig
from dsaml.evaluate import floors
from dsaml.evaluate.floors import AVERAGE_CURVE, CONSTANT, ORACLES, SONG_MEAN, SUPPORT_LAST, SUPPORT_MEAN
from dsaml.evaluate.scores import UNTRAINED, Question, about_rest, about_song, scores_table
from dsaml.learn import training
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import adapt, mode
from dsaml.learn.tasks import Task
from dsaml.learn.training import Progress, chunks, cross_song_tasks, engine, predict_tasks
from dsaml.model.dsaml import DSAML

SUPPORTS = 5  # one-song support sets per listener in cross-song
# Inner loops tried on validation listeners, for every row alike; the paper's (16 x .005), the demo's own (5 x .05), none
INNER_LRS, INNER_STEPS = (0.005, 0.01, 0.03, 0.05, 0.1, 0.2), (0, 1, 3, 5, 10, 16, 20)
LATE = "arousal's windows begin one step late"
PROTOCOLS = {
    "dmer": {
        "labels": "the averaged label of each test song",
        "support": "nothing",
        "query": "every label of the song: clips in one window, full songs through windows of 30 s",
        "released": LATE,
    },
    "cross-song": {
        "labels": "each test annotator's own",
        "support": f"one other test song of the annotator; {SUPPORTS} choices, averaged",
        "query": "the first 60 labels of each other test song of the annotator, or as many as it has",
        "released": "",
    },
    "prefix": {
        "labels": "each test annotator's own",
        "support": "the first labels of the same song: 60, or fewer where the data set's songs are short",
        "query": "the rest of the song; songs without one are left out",
        "released": LATE,
    },
}
"""What a number means: whose labels, what is known of the listener, what is scored, and the released code's quirks to be had."""

_PERSONAL = (CONSTANT, SUPPORT_MEAN, SUPPORT_LAST, *ORACLES)
FIXED = {"dmer": (CONSTANT, SONG_MEAN, AVERAGE_CURVE), "cross-song": _PERSONAL, "prefix": _PERSONAL}
"""Which floors and oracles stand beside the models."""


def dmer_questions(store: SongStore) -> list[Question]:
    """The averaged label of every test song, the whole of it; the "annotator" is "all"."""
    return [about_song(store.dataset.mean[song]) for song in store.dataset.split.songs["test"]]


def prefix_questions(store: SongStore) -> list[Question]:
    """What follows the first labels (:func:`prefix_steps`) of each test song that is longer, asked of every test annotator."""
    split, tracks, steps = store.dataset.split, store.dataset.tracks, prefix_steps(store)
    own = [tracks.get(who, {}).get(song) for who in split.annotators["test"] for song in split.songs["test"]]
    return [about_rest(track, steps) for track in own if track is not None and len(track) > steps]


def prefix_steps(store: SongStore) -> int:
    """Labels of a song that the prefix protocol gives away: the data set's, and no more than a clip has."""
    return min(store.dataset.prefix_steps, store.steps)


def cross_song_questions(store: SongStore, tasks: list[Task]) -> list[Question]:
    """The query songs of all tasks, one after the other."""
    questions = []
    for task in tasks:
        support = np.concatenate([store.track(task.annotator, song).values[: store.steps] for song in task.support])
        questions += [about_song(store.track(task.annotator, song), support, store.steps) for song in task.query]
    return questions


def fixed_rows(store: SongStore, protocol: str) -> list[pd.DataFrame]:
    """The floors and oracles of a protocol, a scores table each: what needs no training."""
    if protocol == "cross-song":
        questions = cross_song_questions(store, cross_song_tasks(store, "test", SUPPORTS))
    else:
        questions = {"dmer": dmer_questions, "prefix": prefix_questions}[protocol](store)
    answers = floors.floor_answers(store.dataset, store.steps) | floors.oracle_answers(store.dataset, store.steps)
    known = [name for name in FIXED[protocol] if name in answers]
    return [scores_table(questions, map(answers[name], questions), name, UNTRAINED) for name in known]


def whole_song(
    model: Module, song: Features, store: SongStore, weights: Mapping[str, Tensor] = MappingProxyType({}), *, released: bool = False
) -> np.ndarray:
    """A whole song's curve (T, 2), computed where the model is; ``weights`` replace the model's own as far as they go."""
    song, stage = song.to(next(model.parameters()).device), store.stage

    def forward(x: Tensor, global_embedding: Tensor) -> Tensor:
        return functional_call(model, dict(weights), (x.float(), global_embedding, stage)).prediction

    return predict_song(forward, song, released=released, clip=store.steps).cpu().numpy()


def dmer(
    store: SongStore, features: Mapping[str, Features], model: Module, method: str, seed: int, *, released: bool = False
) -> pd.DataFrame:
    """Traditional DMER: averaged labels of the test songs, whole songs; ``released`` with the released code's windows."""
    questions = dmer_questions(store)
    with mode(model, "eval"):
        curves = [whole_song(model, features[question.song], store, released=released) for question in questions]
    return scores_table(questions, curves, method, seed)


def prefix(
    store: SongStore,
    features: Mapping[str, Features],
    model: DSAML,
    config: MetaConfig,
    method: str,
    seed: int,
    *,
    released: bool = False,
    progress: Progress = lambda done, total: None,
) -> pd.DataFrame:
    """PDMER as the released code measures it: adapt to the start of a song (in DEAM 30 s of it), predict its rest."""
    questions, curves = prefix_questions(store), []
    songs = {question.song: features[question.song] for question in questions}
    if config.adapt != "all":  # what adaptation leaves alone is computed once per song
        store = store.local(model)
        with torch.no_grad(), mode(model, "eval"):
            for song, whole in songs.items():
                whole = whole.to(next(model.parameters()).device)
                songs[song] = Features(model.local_features(whole.log_mel[None])[0], whole.global_embedding)
    given = store.clips_of(prefix_steps(store))
    for part in chunks(questions, config.tasks_at_once):
        support = given.batch([question.annotator for question in part], [[question.song] for question in part])
        weights = adapt(model, support, config, inner=engine(config.engine))
        with mode(model, config.test_mode):
            for number, question in enumerate(part):
                own = {name: weight[number] for name, weight in weights.items()}
                curves.append(whole_song(model, songs[question.song], store, own, released=released)[question.first :])
        progress(len(curves), len(questions))
    return scores_table(questions, curves, method, seed)


def cross_song(
    store: SongStore,
    model: DSAML,
    config: MetaConfig,
    method: str,
    seed: int,
    songs: int = 1,
    supports: int = SUPPORTS,
    *,
    progress: Progress = lambda done, total: None,
) -> pd.DataFrame:
    """PDMER as the paper's text describes it: adapt to ``songs`` other songs of the annotator, predict the others."""
    tasks = cross_song_tasks(store, "test", supports, songs)
    curves = [curve.numpy() for predicted in predict_tasks(model, store, tasks, config, progress=progress) for curve in predicted]
    return scores_table(cross_song_questions(store, tasks), curves, method, seed)


def cross_song_shifted(store: SongStore, model: DSAML, method: str, seed: int) -> pd.DataFrame:
    """The same by the unadapted model, shifted so that its mean on the support song is the support labels' mean."""
    tasks, plain = cross_song_tasks(store, "test", SUPPORTS), {}
    with torch.no_grad(), mode(model, "eval"):
        for song in sorted({song for task in tasks for song in task.support + task.query}):
            x, embedding = store.inputs(song)
            plain[song] = model(x[None], embedding[None], store.stage).prediction[0].cpu().numpy()
    questions, curves = cross_song_questions(store, tasks), []
    heard = [np.concatenate([plain[song] for song in task.support]) for task in tasks for _ in task.query]
    for question, support in zip(questions, heard, strict=True):
        curves.append(plain[question.song] + (question.support.mean(0) - support.mean(0)))
    return scores_table(questions, curves, method, seed)


def select_inner(
    store: SongStore,
    model: DSAML,
    config: MetaConfig,
    supports: int = 2,
    songs: int = 1,
    progress: Progress = lambda done, total: None,
) -> tuple[MetaConfig, dict[str, Any]]:
    """Inner learning rate and steps with the best mean CCC on the *validation* listeners.

    Parameters
    ----------
    supports, songs : int
        Support sets of each validation listener, and songs in one.
    progress : callable
        Called with (tasks done, tasks in all), each once for every learning rate.

    Returns
    -------
    config : MetaConfig
        The given one with these two.
    about : dict
        ``inner_lr``, ``inner_steps``, and the whole ``grid``.
    """
    tasks = cross_song_tasks(store, "validation", supports, songs)
    target = training.query_labels(store, tasks)
    grid: list[dict[str, Any]] = []
    for turn, inner_lr in enumerate(INNER_LRS):

        def done(count: int, total: int, turn: int = turn) -> None:
            progress(turn * total + count, len(INNER_LRS) * total)

        stops = INNER_STEPS if inner_lr == INNER_LRS[0] else INNER_STEPS[1:]  # without a step the rate does not matter
        settings = dataclasses.replace(config, inner_lr=inner_lr)
        for steps, predictions in training.predict_along(model, store, tasks, settings, stops, done).items():
            grid.append({"inner_lr": inner_lr, "inner_steps": steps, "ccc": training.mean_ccc(predictions, target)})
    best = max(grid, key=lambda row: row["ccc"])
    chosen = {key: best[key] for key in ("inner_lr", "inner_steps")}
    return dataclasses.replace(config, **chosen), chosen | {"grid": grid}
