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

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dsaml.config import DIMENSIONS, METRICS
from dsaml.errors import DsamlError
from dsaml.evaluate.floors import AVERAGE_CURVE_SPREAD, OWN_CURVE
from dsaml.evaluate.scores import UNTRAINED

REPLICATES = 20_000
P_FLOOR = 2 / REPLICATES  # a smaller p-value is not told apart from it


class CrossedScores:
    """A scores table as arrays, made once for all that is computed from it.

    Attributes
    ----------
    methods : list of str
        In the order of the table.
    """

    def __init__(self, scores: pd.DataFrame):
        self.methods: list[str] = list(scores.method.unique())
        self._scores = scores
        people, self._people = pd.factorize(scores.annotator, sort=True)
        songs, self._songs = pd.factorize(scores.song, sort=True)
        self._cells: dict[tuple[str, str], tuple[np.ndarray, ...]] = {}  # rows of the table, and their places in the arrays
        self._seeds: dict[str, tuple[int, ...]] = {}
        for (method, dimension), rows in scores.groupby(["method", "dimension"], sort=False).indices.items():
            seeds, places = np.unique(scores.seed.to_numpy()[rows], return_inverse=True)
            self._cells[method, dimension] = rows, places, people[rows], songs[rows]
            self._seeds[method] = tuple(seeds[seeds != UNTRAINED].tolist())

    def of(self, method: str, dimension: str, metric: str) -> np.ndarray:
        """One method's scores as (seeds, annotators, songs); NaN where an annotator did not rate a song.

        Raises
        ------
        DsamlError
            If the scores table has no such rows.
        """
        if (method, dimension) not in self._cells:
            raise DsamlError(f"no scores for method '{method}' in {dimension}; the table has {sorted(self.methods)}")
        rows, seeds, people, songs = self._cells[method, dimension]
        out = np.full((seeds.max() + 1, len(self._people), len(self._songs)), np.nan)
        out[seeds, people, songs] = self._scores[metric].to_numpy()[rows]
        return out

    def seeds(self, method: str) -> tuple[int, ...]:
        """The training seeds of a method, in the order of :meth:`of`; none if nothing is trained."""
        return self._seeds.get(method, ())


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


def interval(values: np.ndarray, other: np.ndarray | None = None, replicates: int = REPLICATES) -> dict[str, float]:
    """Mean of scores, its 95 % interval, and the p-value of a mean of 0.

    Parameters
    ----------
    values : ndarray, shape (seeds, annotators, songs)
        Scores, or paired differences of scores.
    other : ndarray, shape (other seeds, annotators, songs), optional
        Scores to be subtracted, of which only annotators and songs are paired.

    Returns
    -------
    dict
        ``mean``, ``low``, ``high``, ``p``; ``p`` is at least 2 / replicates.

    Raises
    ------
    DsamlError
        If there is but one listener and one song, or no cell that both have.
    """
    sides = [values] if other is None else [values, other]
    there = np.all([~np.isnan(side).all(0) for side in sides], 0)  # (annotators, songs) that all sides have
    if not there.any():
        raise DsamlError("no listener and song have scores of both rows; score them on the same part of the split")
    people, songs = there.any(1), there.any(0)
    sides = [np.where(there, side, np.nan)[:, people][:, :, songs] for side in sides]
    signed = list(zip((1, -1), sides, strict=False))
    mean = float(sum(sign * np.nanmean(side) for sign, side in signed))
    means = sum(sign * bootstrap(side, replicates, k) for k, (sign, side) in enumerate(signed))  # (replicates,)
    freedom = _degrees_of_freedom(sides, sum((sign * _mean(side, 0) for sign, side in signed), np.zeros(())))
    error = float(np.nanstd(means))
    reach = error * float(stats.t.ppf(0.975, freedom))
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "p": max(p, 2 / replicates)}


def _degrees_of_freedom(sides: list[np.ndarray], pooled: np.ndarray) -> float:
    """Satterthwaite's, from the units' means: seeds of each side (seeds, annotators, songs), and what is left without them."""
    units = [_mean(side, (1, 2)) for side in sides] + [_mean(pooled, 1), _mean(pooled, 0)]
    parts = [(x.var(ddof=1) / len(x), len(x) - 1) for x in units if len(x) > 1]
    if not parts:
        raise DsamlError("one listener and one song: an interval needs at least two songs or two listeners")
    shares, freedoms = np.array(parts).T
    return float(shares.sum() ** 2 / (shares**2 / freedoms).sum()) if shares.any() else np.inf


def summarize(crossed: CrossedScores) -> dict[str, Any]:
    """Every method of a scores table: ``{method: {dimension: {metric: {mean, low, high, seeds}}}}``."""

    def cell(method: str, dimension: str, metric: str) -> dict[str, Any]:
        found = interval(crossed.of(method, dimension, metric))
        return {key: found[key] for key in ("mean", "low", "high")} | {"seeds": _what_became_of(crossed.seeds(method))}

    return {method: {d: {metric: cell(method, d, metric) for metric in METRICS} for d in DIMENSIONS} for method in crossed.methods}


def seed_means(crossed: CrossedScores) -> dict[str, dict[str, list[float]]]:
    """The mean CCC of every training seed, of every trained method: ``{method: {dimension: [CCC of each seed]}}``."""
    return {
        method: {d: _mean(crossed.of(method, d, "ccc"), (1, 2)).tolist() for d in DIMENSIONS}
        for method in crossed.methods
        if crossed.seeds(method)
    }


def _what_became_of(seeds: Sequence[int]) -> str:
    """What stands under ``seeds`` where these were resampled together."""
    return ("none", "one", "several")[min(len(seeds), 2)]


def _paired_scores(
    crossed: CrossedScores, method: str, other: str, dimension: str, metric: str
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """What :func:`interval` takes for ``method - other``, and what becomes of the seeds."""
    mine, theirs = (crossed.of(name, dimension, metric) for name in (method, other))
    trained = [seeds for seeds in (crossed.seeds(method), crossed.seeds(other)) if seeds]
    if len(set(trained)) < 2:  # the same seeds, or a row without training: it is the same under each seed
        return mine - theirs, None, _what_became_of(trained[0] if trained else ())
    if min(map(len, trained)) == 1:
        return (_mean(mine, 0) - _mean(theirs, 0))[None], None, "unknown"
    return mine, theirs, "unpaired"


def compare(crossed: CrossedScores, method: str, others: Sequence[str], metric: str = "ccc") -> dict[str, Any]:
    """Paired differences in a metric, ``method - other``, with intervals, effect sizes and Holm-corrected p-values.

    Returns
    -------
    dict
        ``{other: {dimension: {mean, low, high, p, p_floor, p_holm, seeds, dz, annotators_better}}}``.
        ``p_floor`` is the least that ``p`` can be; Holm corrects over all comparisons of the call; ``dz`` is the mean over
        annotators divided by their standard deviation (NaN without one); ``annotators_better`` is the share of annotators for whom
        ``method`` has more of the metric.

    Raises
    ------
    DsamlError
        If a method is not in the scores table, or nothing can be compared.
    """
    result: dict[str, Any] = {other: {} for other in others}
    for other in others:
        for d in DIMENSIONS:
            first, second, seeds = _paired_scores(crossed, method, other, d, metric)
            pooled = _mean(first, 0) if second is None else _mean(first, 0) - _mean(second, 0)
            persons = _mean(pooled, 1)
            persons = persons[~np.isnan(persons)]
            deviation = persons.std(ddof=1) if len(persons) > 1 else 0.0
            result[other][d] = interval(first, second) | {
                "p_floor": P_FLOOR,
                "seeds": seeds,
                "dz": float(persons.mean() / deviation) if deviation else float("nan"),
                "annotators_better": float(np.mean(persons > 0)),
            }
    correct([cell for row in result.values() for cell in row.values()])
    return result


def summarize_against(scores: pd.DataFrame, method: str) -> dict[str, Any]:
    """Every method, and what ``method`` has above each of the others: for a result file."""
    crossed = CrossedScores(scores)
    rows = summarize(crossed)
    against = compare(crossed, method, [name for name in rows if name != method])
    return {"rows": rows, "paired": {"method": method, "metric": "ccc", "against": against}}


def correct(cells: Collection[dict[str, Any]]) -> None:
    """Put ``p_holm``, corrected over all these differences, into each of them."""
    for cell, corrected in zip(cells, holm([cell["p"] for cell in cells]), strict=True):
        cell["p_holm"] = corrected


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected together after Holm, in the order given; what is no number stays none and does not count.

    As statsmodels' ``multipletests``, which runs the garbage collector at each call: a quarter of a second beside torch.
    """
    values = np.asarray(p, float)
    order = values.argsort()[: np.isfinite(values).sum()]  # NaN comes last
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected = np.full_like(values, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected.tolist()


def p_text(cell: Mapping[str, Any]) -> str:
    """The Holm-corrected p-value of a difference (:func:`compare`) for readers; where p could not be smaller, what it is below."""
    digits = 3 if cell["p_holm"] >= 0.001 else 4
    return ("< " if cell["p"] <= cell["p_floor"] else "") + f"{cell['p_holm']:.{digits}f}"


def gap_closed(summary: Mapping[str, Any], method: str) -> dict[str, float] | None:
    """Share of the way in CCC from the average listener's true curve, best spread, to the listener's own.

    NaN without a gap; None where :func:`summarize` gave no row of the method or of the oracles.
    """
    if not {method, AVERAGE_CURVE_SPREAD, OWN_CURVE} <= set(summary):
        return None
    out = {}
    for d in DIMENSIONS:
        low, high, here = (summary[name][d]["ccc"]["mean"] for name in (AVERAGE_CURVE_SPREAD, OWN_CURVE, method))
        out[d] = (here - low) / (high - low) if high != low else float("nan")
    return out
