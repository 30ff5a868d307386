"""From a scores table to means, 95 % intervals and paired differences.

Every listener rates the same songs, and every training seed is scored on all of them: listeners, songs and seeds are *crossed*. So
a replicate draws each of the three by itself, and a cell (seed, listener, song) weighs as much as the product of its three counts
(the pigeonhole bootstrap: Owen 2007; Owen and Eckles 2012). The standard deviation of the replicates' means is the standard error.
It overstates what is noise in single cells, and so errs on the safe side.

Two corrections for few units: of n units n - 1 are drawn, with which a factor's variance is unbiased (Rao and Wu 1988); and the
standard error is multiplied by a quantile of Student's t instead of the normal 1.96, with Satterthwaite's (1946) degrees of
freedom over the factors' shares of the variance. With three seeds that matters.

A factor of one unit adds no variance. What became of the training seeds stands in each cell, under ``seeds``:

``none``
    Nothing here is trained (floors, oracles).
``several``
    Seeds were resampled; in a difference of two trained rows both have the same ones, and are paired by seed.
``unpaired``
    Both rows have several seeds, but not the same ones: they were resampled on each side separately.
``one``
    One seed: the interval says nothing about another training run.
``unknown``
    A difference of which one side has one seed, and not the seeds of the other: as with ``one``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dsaml.errors import DsamlError
from dsaml.evaluation import AVERAGE_CURVE_SPREAD, DIMENSIONS, METRICS, OWN_CURVE, UNTRAINED

HIGHER_IS_BETTER = {"ccc": True, "pcc": True, "rmse": False}
REPLICATES = 20_000
P_FLOOR = 2 / REPLICATES  # a smaller p-value is not told apart from it


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


def seeds_of(table: pd.DataFrame, method: str) -> tuple[int, ...]:
    """The training seeds of a method, in the order of :func:`cube`; none if nothing is trained."""
    return tuple(sorted(set(table[table.method == method].seed.unique().tolist()) - {UNTRAINED}))


@lru_cache(maxsize=16)
def _weights(units: int, replicates: int, stream: int) -> np.ndarray:
    """How much each replicate weighs each unit, (replicates, units): mean 1, variance 1; the same for all methods."""
    if units == 1:
        return np.ones((replicates, 1))
    rng = np.random.default_rng((stream, units))
    return rng.multinomial(units - 1, np.full(units, 1 / units), replicates) * (units / (units - 1))


def bootstrap(values: np.ndarray, replicates: int = REPLICATES, side: int = 0) -> np.ndarray:
    """Crossed bootstrap of a mean.

    Parameters
    ----------
    values : ndarray, shape (seeds, annotators, songs)
        NaN where there is no score.
    replicates : int
    side : int
        Another number draws other seeds, but the same annotators and songs.

    Returns
    -------
    ndarray, shape (replicates,)
        Weighted means over the cells that there are; NaN where a replicate drew none of them.
    """
    seeds, annotators, songs = values.shape
    of_seeds, of_annotators, of_songs = (
        _weights(units, replicates, stream) for units, stream in ((seeds, 2 + side), (annotators, 0), (songs, 1))
    )

    def total(cells: np.ndarray) -> np.ndarray:
        by_annotator = of_annotators @ cells.transpose(1, 0, 2).reshape(annotators, -1)
        by_song = np.einsum("rsk,rk->rs", by_annotator.reshape(-1, seeds, songs), of_songs)
        return (by_song * of_seeds).sum(1)

    there = ~np.isnan(values)
    if there.all():
        return total(values) / values.size  # the weights of each factor sum to its number of units
    with np.errstate(invalid="ignore"):
        return total(np.where(there, values, 0.0)) / total(there.astype(float))


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Mean over an axis of what there is; NaN where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis) / there.sum(axis)


def _estimate(values: np.ndarray, other: np.ndarray | None, replicates: int) -> tuple[float, float, float]:
    """Mean, standard error, degrees of freedom of ``values``, or of ``values - other`` with seeds of their own.

    Both (seeds, annotators, songs).
    """
    sides = [values] if other is None else [values, other]
    there = np.all([~np.isnan(side).all(0) for side in sides], 0)  # (annotators, songs) that all sides have
    if not there.any():
        raise DsamlError("no listener and song have scores of both rows; score them on the same part of the split")
    people, songs = there.any(1), there.any(0)
    sides = [np.where(there, side, np.nan)[:, people][:, :, songs] for side in sides]
    signs = (1, -1)[: len(sides)]
    pooled = sum(sign * _mean(side, 0) for sign, side in zip(signs, sides, strict=True))
    means = sum(sign * bootstrap(side, replicates, k) for k, (sign, side) in enumerate(zip(signs, sides, strict=True)))
    units = [_mean(side, (1, 2)) for side in sides] + [_mean(pooled, 1), _mean(pooled, 0)]
    parts = [(x.var(ddof=1) / len(x), len(x) - 1) for x in units if len(x) > 1]
    if not parts:
        raise DsamlError("one listener and one song: an interval needs at least two songs or two listeners")
    shares, freedoms = np.array(parts).T
    freedom = shares.sum() ** 2 / (shares**2 / freedoms).sum() if shares.any() else np.inf
    mean = sum(sign * np.nanmean(side) for sign, side in zip(signs, sides, strict=True))
    return float(mean), float(np.nanstd(means)), float(freedom)


def interval(values: np.ndarray, other: np.ndarray | None = None, replicates: int = REPLICATES) -> dict[str, float]:
    """Mean of scores, its 95 % interval, and the p-value of a mean of 0.

    Parameters
    ----------
    values : ndarray, shape (seeds, annotators, songs)
        Scores, or paired differences of scores.
    other : ndarray, shape (other seeds, annotators, songs), optional
        Scores to be subtracted, of which only annotators and songs are paired.
    replicates : int

    Returns
    -------
    dict
        ``mean``, ``low``, ``high``, ``p``; ``p`` is at least 2 / replicates.

    Raises
    ------
    DsamlError
        If there is but one listener and one song, or no cell that both have.
    """
    mean, error, freedom = _estimate(values, other, replicates)
    reach = error * float(stats.t.ppf(0.975, freedom))
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "p": max(p, 2 / replicates)}


def summarize(table: pd.DataFrame) -> dict[str, Any]:
    """Every method: ``{method: {dimension: {metric: {mean, low, high, seeds}}}}``."""
    out: dict[str, Any] = {}
    for method in table.method.unique():
        seeds = ("none", "one", "several")[min(len(seeds_of(table, method)), 2)]
        out[method] = {d: {} for d in DIMENSIONS}
        for d in DIMENSIONS:
            for metric in METRICS:
                cell = interval(cube(table, method, d, metric))
                out[method][d][metric] = {key: cell[key] for key in ("mean", "low", "high")} | {"seeds": seeds}
    return out


def seed_means(table: pd.DataFrame, metric: str = "ccc") -> dict[str, dict[str, list[float]]]:
    """The mean score of every training seed, of every trained method: ``{method: {dimension: [score of each seed]}}``."""
    trained = [method for method in table.method.unique() if seeds_of(table, method)]
    return {method: {d: _mean(cube(table, method, d, metric), (1, 2)).tolist() for d in DIMENSIONS} for method in trained}


def _sides(
    table: pd.DataFrame, method: str, other: str, dimension: str, metric: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """What :func:`interval` takes for ``method - other``, and what becomes of the seeds."""
    mine, theirs = (cube(table, name, dimension, metric) for name in (method, other))
    trained = [seeds for seeds in (seeds_of(table, method), seeds_of(table, other)) if seeds]
    if len(set(trained)) < 2:  # the same seeds, or a row without training: it is the same under each seed
        return mine - theirs, None, ("none", "one", "several")[min(max(map(len, trained), default=0), 2)]
    if min(map(len, trained)) == 1:
        return (_mean(mine, 0) - _mean(theirs, 0))[None], None, "unknown"
    return mine, theirs, "unpaired"


def compare(table: pd.DataFrame, method: str, others: Sequence[str], metric: str = "ccc") -> dict[str, Any]:
    """Paired differences ``method - other`` with intervals, effect sizes and Holm-corrected p-values.

    Returns
    -------
    dict
        ``{other: {dimension: {mean, low, high, p, p_floor, p_holm, seeds, dz, annotators_better}}}``.
        ``p_floor`` is the least that ``p`` can be; Holm corrects over all comparisons of the call; ``dz`` is the mean over
        annotators divided by their standard deviation (NaN without one); ``annotators_better`` is the share of annotators for whom
        ``method`` is better.

    Raises
    ------
    DsamlError
        If a method is not in the table, or nothing can be compared.
    """
    result: dict[str, Any] = {other: {} for other in others}
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    for other in others:
        for d in DIMENSIONS:
            first, second, seeds = _sides(table, method, other, d, metric)
            pooled = _mean(first, 0) if second is None else _mean(first, 0) - _mean(second, 0)
            persons = _mean(pooled, 1)
            persons = persons[~np.isnan(persons)]
            deviation = persons.std(ddof=1) if len(persons) > 1 else 0.0
            result[other][d] = interval(first, second) | {
                "p_floor": P_FLOOR,
                "seeds": seeds,
                "dz": float(persons.mean() / deviation) if deviation else float("nan"),
                "annotators_better": float(np.mean(sign * persons > 0)),
            }
    cells = [cell for row in result.values() for cell in row.values()]
    for cell, corrected in zip(cells, holm([cell["p"] for cell in cells]), strict=True):
        cell["p_holm"] = corrected
    return result


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected together after Holm, in the order given.

    As statsmodels' ``multipletests``, which runs the garbage collector at each call: a quarter of a second beside torch.
    """
    values = np.asarray(p, float)
    order = values.argsort()
    steps = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def gap_closed(summary: Mapping[str, Any], method: str, metric: str = "ccc") -> dict[str, float]:
    """Share of the way from the average listener's true curve, best spread, to the listener's own; NaN without a gap."""
    out = {}
    for d in DIMENSIONS:
        low, high, here = (summary[name][d][metric]["mean"] for name in (AVERAGE_CURVE_SPREAD, OWN_CURVE, method))
        out[d] = (here - low) / (high - low) if high != low else float("nan")
    return out
