"""Scores on unseen annotators and unseen songs: floors, models, oracles, and intervals around all of them.

A *scores table* (pandas) has one row per method, seed, annotator, song and dimension, with columns ccc, pcc, rmse: scores are
per song, then averaged. Several support songs of one annotator are averaged before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from dsaml import metrics
from dsaml.annotations import MEAN
from dsaml.batches import SongStore
from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.maml import mode
from dsaml.model import DSAML
from dsaml.tasks import Task
from dsaml.training import predict_tasks

DIMENSIONS = ("arousal", "valence")
METRICS = ("ccc", "pcc", "rmse")
AVERAGE_CURVE = "the average listener's true curve"
AVERAGE_CURVE_SPREAD = "the average listener's true curve, best spread"
OWN_CURVE = "the listener's own true curve"
HIGHER_IS_BETTER = {"ccc": True, "pcc": True, "rmse": False}

UNTRAINED = -1
"""The seed of rows that come from no training: floors and true curves."""

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


def oracle_predictors(store: SongStore) -> dict[str, Predictor]:
    """Noise-free true curves of the population and of the person; known for simulated listeners only."""
    oracle = store.dataset.oracle

    def of(who: Callable[[Task], str]) -> Predictor:
        return lambda tasks: [np.stack([oracle[who(t)][s].values[: store.steps] for s in t.query]) for t in tasks]

    if not oracle:
        return {}
    return {"population oracle": of(lambda task: MEAN), "personal oracle": of(lambda task: task.annotator)}


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


def cube(table: pd.DataFrame, method: str, dimension: str, metric: str) -> np.ndarray:
    """One method's scores as (seeds, annotators, songs); NaN where an annotator did not rate a song.

    Raises
    ------
    DsamlError
        If the table has no such rows.
    """
    rows = table[(table.method == method) & (table.dimension == dimension)]
    if rows.empty:
        raise DsamlError(
            f"no scores for method '{method}' in {dimension}; the table has {sorted(table.method.unique())}"
        )
    annotators, songs = sorted(table.annotator.unique()), sorted(table.song.unique())
    out = np.full((rows.seed.nunique(), len(annotators), len(songs)), np.nan)
    index = [
        pd.Categorical(rows[k], categories=c).codes
        for k, c in (("seed", None), ("annotator", annotators), ("song", songs))
    ]
    out[tuple(index)] = rows[metric]
    return out


@lru_cache(maxsize=8)
def _resampling(shape: tuple[int, int, int], replicates: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each replicate takes each seed (R, seeds), and each cell (R, annotators * songs); the same for all methods."""
    rng = np.random.default_rng(seed)
    seeds, annotators, songs = shape
    of_seeds, of_cells = np.empty((replicates, seeds)), np.empty((replicates, annotators * songs))
    for replicate in range(replicates):
        s = rng.integers(seeds, size=seeds)
        a = rng.integers(annotators, size=annotators)
        columns = rng.integers(songs, size=(annotators, songs))  # of each drawn annotator
        of_seeds[replicate] = np.bincount(s, minlength=seeds)
        of_cells[replicate] = np.bincount((a[:, None] * songs + columns).ravel(), minlength=annotators * songs)
    return of_seeds, of_cells


def bootstrap(values: np.ndarray, replicates: int = 2000, seed: int = 0) -> np.ndarray:
    """Hierarchical bootstrap of a mean: annotators, then songs within each annotator, then seeds, with replacement.

    A replicate's mean is a mean weighted with how often each seed and each cell was drawn.

    Parameters
    ----------
    values : ndarray, shape (seeds, annotators, songs)
        Cells that are NaN (for any seed) are left out.

    Returns
    -------
    ndarray, shape (replicates,)
        Means of the resampled data.
    """
    of_seeds, of_cells = _resampling(values.shape, replicates, seed)
    flat = values.reshape(len(values), -1)  # (seeds, cells); seeds are crossed with annotators and songs
    there = ~np.isnan(flat).any(0)
    sums = of_cells @ np.where(there, flat, 0.0).T  # (R, seeds)
    return (of_seeds * sums).sum(1) / (len(values) * (of_cells @ there))


def interval(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Mean and 95 % percentile interval of :func:`bootstrap`: keys mean, low, high."""
    low, high = np.percentile(bootstrap(values, seed=seed), (2.5, 97.5))
    return {"mean": float(np.nanmean(values)), "low": float(low), "high": float(high)}


def _broadcast(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A method without training (a floor) has one seed; it is the same under each training seed."""
    seeds = max(len(first), len(second))
    grow = [np.broadcast_to(x, (seeds, *x.shape[1:])) if len(x) == 1 else x for x in (first, second)]
    if len(grow[0]) != len(grow[1]):
        raise DsamlError(f"methods were trained with different numbers of seeds: {len(first)} and {len(second)}")
    return grow[0], grow[1]


def summarize(table: pd.DataFrame) -> dict[str, Any]:
    """Every method: mean and interval of each metric and dimension, ``{method: {dimension: {metric: {mean, low, high}}}}``."""
    return {
        method: {d: {m: interval(cube(table, method, d, m)) for m in METRICS} for d in DIMENSIONS}
        for method in table.method.unique()
    }


def compare(table: pd.DataFrame, method: str, others: Sequence[str], metric: str = "ccc") -> dict[str, Any]:
    """Paired differences ``method - other`` with intervals, effect sizes and Holm-corrected p-values.

    Returns
    -------
    dict
        ``{other: {dimension: {mean, low, high, p, p_holm, dz, annotators_better}}}``.
        ``p`` is twice the share of bootstrap means on
        the other side of 0; Holm corrects over all comparisons of the call; ``dz`` is the mean over annotators divided by
        their standard deviation; ``annotators_better`` is the share of annotators for whom ``method`` is better.
    """
    from statsmodels.stats.multitest import multipletests

    result: dict[str, Any] = {other: {} for other in others}
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    for other in others:
        for d in DIMENSIONS:
            mine, theirs = _broadcast(cube(table, method, d, metric), cube(table, other, d, metric))
            difference = mine - theirs
            means = bootstrap(difference)
            persons = np.nanmean(difference, (0, 2))  # (annotators,)
            tail = min(np.mean(means <= 0), np.mean(means >= 0))
            result[other][d] = {
                "mean": float(np.nanmean(difference)),
                "low": float(np.percentile(means, 2.5)),
                "high": float(np.percentile(means, 97.5)),
                "p": float(min(1.0, 2 * max(tail, 1 / len(means)))),
                "dz": float(persons.mean() / persons.std(ddof=1)),
                "annotators_better": float(np.mean(sign * persons > 0)),
            }
    cells = [result[other][d] for other in others for d in DIMENSIONS]
    for cell, corrected in zip(cells, multipletests([c["p"] for c in cells], method="holm")[1], strict=True):
        cell["p_holm"] = float(corrected)
    return result


def gap_closed(summary: Mapping[str, Any], method: str, metric: str = "ccc") -> dict[str, float]:
    """Share of the way from the population to the personal oracle that a method goes, per dimension; NaN without a gap."""
    out = {}
    for d in DIMENSIONS:
        low, high = (summary[name][d][metric]["mean"] for name in ("population oracle", "personal oracle"))
        gain = summary[method][d][metric]["mean"] - low
        out[d] = gain / (high - low) if high != low else float("nan")
    return out
