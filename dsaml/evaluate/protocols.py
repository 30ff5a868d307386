"""The protocols as data, and who answers their questions: which labels, what is given of a listener, what is scored.

Every function that scores returns a scores table (see :mod:`dsaml.evaluate.scores`): one row per annotator, song and dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from dsaml.audio.features import Features
from dsaml.audio.windows import predict_song
from dsaml.config import MetaConfig
from dsaml.evaluate.floors import CONSTANT, SONG_MEAN, SUPPORT_LAST, SUPPORT_MEAN, floor_answers
from dsaml.evaluate.oracles import AVERAGE_CURVE, AVERAGE_CURVE_SPREAD, OWN_CURVE, oracle_answers
from dsaml.evaluate.scores import UNTRAINED, Question, about_rest, about_song, scores_table
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import adapt, mode
from dsaml.learn.tasks import Task
from dsaml.learn.training import Progress, chunks, cross_song_tasks, engine, predict_tasks
from dsaml.model.dsaml import DSAML

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
            "the first 60 labels of each other test song of the annotator, or as many as it has",
        ),
        Protocol(
            "prefix",
            "each test annotator's own",
            "the first labels of the same song: 60, or fewer where the data set's songs are short",
            "the rest of the song; songs without one are left out",
            "arousal's windows begin one step late",
        ),
    )
}

_PERSONAL = (CONSTANT, SUPPORT_MEAN, SUPPORT_LAST, AVERAGE_CURVE, AVERAGE_CURVE_SPREAD, OWN_CURVE)
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
    if protocol == "dmer":
        questions = dmer_questions(store)
    elif protocol == "prefix":
        questions = prefix_questions(store)
    else:
        questions = cross_song_questions(store, cross_song_tasks(store, "test", SUPPORTS))
    answers = floor_answers(store.dataset, store.steps) | oracle_answers(store.dataset, store.steps)
    known = [name for name in FIXED[protocol] if name in answers]
    return [scores_table(questions, map(answers[name], questions), name, UNTRAINED) for name in known]


def _curve(model: Module, weights: Mapping[str, Tensor], song: Features, store: SongStore, released: bool) -> np.ndarray:
    """A whole song's curve (T, 2), by the model with other weights; computed where the model is."""
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
        curves = [_curve(model, {}, features[question.song], store, released) for question in questions]
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
                curves.append(_curve(model, own, songs[question.song], store, released)[question.first :])
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
