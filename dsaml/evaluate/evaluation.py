"""Scores on unseen annotators and unseen songs: floors, models, oracles.

A *scores table* (pandas) has one row per method, seed, annotator, song and dimension, with columns ccc, pcc, rmse: one score per
song, the mean over the support sets that the song was a query of. What needs no training has the seed ``UNTRAINED``. Means,
intervals and differences are made of it in :mod:`dsaml.evaluate.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from dsaml.config import DIMENSIONS, METRICS, MetaConfig
from dsaml.data.annotations import MEAN
from dsaml.evaluate import metrics
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import mode
from dsaml.learn.tasks import Task
from dsaml.learn.training import predict_tasks
from dsaml.model.dsaml import DSAML

UNTRAINED = -1  # the seed of rows that nothing was trained for: floors and oracles

AVERAGE_CURVE = "the average listener's true curve"
AVERAGE_CURVE_SPREAD = "the average listener's true curve, best spread"
OWN_CURVE = "the listener's own true curve"
SPREADS = np.arange(5, 31) / 10  # factors tried for the spread

Predictor = Callable[[list[Task]], list[np.ndarray]]
"""From tasks to predictions: one (B, T, 2) array per task, for its query songs."""


def truth(store: SongStore, tasks: Sequence[Task], part: str = "query") -> list[np.ndarray]:
    """The annotators' own labels of the query (or support) songs: one (B, T, 2) array per task."""
    return [
        np.stack([store.track(task.annotator, song).values[: store.steps] for song in getattr(task, part)])
        for task in tasks
    ]


def floor_predictors(store: SongStore) -> dict[str, Predictor]:
    """Predictors that hear nothing of the query song; what a model has to beat."""
    train = store.dataset.split.songs["train"]
    constant = np.concatenate([store.dataset.mean[s].values[: store.steps] for s in train]).mean(0)  # (2,)

    def held(values: Callable[[np.ndarray], np.ndarray]) -> Predictor:
        def predict(tasks: list[Task]) -> list[np.ndarray]:
            supports = truth(store, tasks, "support")
            return [
                np.broadcast_to(values(s), (len(t.query), store.steps, 2)) for t, s in zip(tasks, supports, strict=True)
            ]

        return predict

    return {
        "constant (training mean)": held(lambda support: constant),
        "support mean": held(lambda support: support.mean((0, 1))),
        "last support value": held(lambda support: support[-1, -1]),
    }


def spread(curve: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A curve (T, 2) with its distance to its own mean multiplied, by one factor per dimension."""
    middle = curve.mean(0)
    return middle + factors * (curve - middle)


def best_spread(store: SongStore) -> dict[str, float]:
    """The factor per dimension with which the average listener's true curve has the best mean CCC on *validation*.

    An average of curves moves less than the curves do, and CCC asks for the right spread: without this factor a method could be
    better than the average curve by moving more, and know nothing of the listener. Of all ``SPREADS``, over every validation
    listener and every validation song of theirs, with its first ``store.steps`` labels.
    """
    dataset, steps = store.dataset, store.steps
    truths, curves = [], []
    for who in dataset.split.annotators["validation"]:
        for song in dataset.split.songs["validation"]:
            if len(dataset.tracks.get(who, {}).get(song, ())) >= steps:
                truths.append(store.track(who, song).values[:steps])
                curves.append(dataset.oracle[MEAN][song].values[:steps])
    scores = np.array([_ccc([spread(c, factor) for c in curves], truths) for factor in SPREADS])  # (factors, 2)
    return {d: float(SPREADS[best]) for d, best in zip(DIMENSIONS, scores.argmax(0), strict=True)}


def _ccc(curves: list[np.ndarray], truths: list[np.ndarray]) -> np.ndarray:
    """Mean CCC over curves, per dimension: (2,)."""
    return metrics.ccc(np.stack(curves).swapaxes(1, 2), np.stack(truths).swapaxes(1, 2)).mean(0)


def oracle_predictors(store: SongStore) -> dict[str, Predictor]:
    """Noise-free true curves of the average listener, as it is and with :func:`best_spread`, and of the person.

    Known for simulated listeners only; no predictor otherwise.
    """
    oracle = store.dataset.oracle
    if not oracle:
        return {}
    factors = np.array(list(best_spread(store).values()))

    def average(song: str) -> np.ndarray:
        return oracle[MEAN][song].values[: store.steps]

    return {
        AVERAGE_CURVE: lambda tasks: [np.stack([average(s) for s in t.query]) for t in tasks],
        AVERAGE_CURVE_SPREAD: lambda tasks: [np.stack([spread(average(s), factors) for s in t.query]) for t in tasks],
        OWN_CURVE: lambda tasks: [
            np.stack([oracle[t.annotator][s].values[: store.steps] for s in t.query]) for t in tasks
        ],
    }


def model_predictor(model: DSAML, store: SongStore, config: MetaConfig, steps: int | None = None) -> Predictor:
    """Adapt to the support set with ``steps`` inner steps (``config``'s by default; 0 = not at all), then predict."""
    return lambda tasks: [p.numpy() for p in predict_tasks(model, store, tasks, config, steps)]


def shifted_predictor(model: DSAML, store: SongStore) -> Predictor:
    """The unadapted model, shifted so that its mean on the support songs is the support labels' mean."""

    def predict_song(song: str) -> np.ndarray:
        x, embedding = store.inputs(song)
        with torch.no_grad(), mode(model, "eval"):
            return model(x[None], embedding[None], store.stage).prediction[0].cpu().numpy()

    def predict(tasks: list[Task]) -> list[np.ndarray]:
        songs = {song for task in tasks for song in task.support + task.query}
        curves = {song: predict_song(song) for song in sorted(songs)}
        out = []
        for task, support in zip(tasks, truth(store, tasks, "support"), strict=True):
            shift = support.mean((0, 1)) - np.stack([curves[s] for s in task.support]).mean((0, 1))
            out.append(np.stack([curves[s] for s in task.query]) + shift)
        return out

    return predict


def score_tasks(predictor: Predictor, store: SongStore, tasks: list[Task], method: str, seed: int) -> pd.DataFrame:
    """Scores table of one method: per annotator and song, averaged over the support sets that song was a query of."""
    rows = []
    for task, predictions, targets in zip(tasks, predictor(tasks), truth(store, tasks), strict=True):
        for song, prediction, target in zip(task.query, predictions, targets, strict=True):
            for dimension, scores in metrics.score(prediction, target).items():
                rows.append({"annotator": task.annotator, "song": song, "dimension": dimension, **scores})
    table = pd.DataFrame(rows).groupby(["annotator", "song", "dimension"], as_index=False)[list(METRICS)].mean()
    return table.assign(method=method, seed=seed)
