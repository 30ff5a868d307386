"""The paper's three scores. Rule: one score per song (or track) and dimension, then the mean over songs.

Scores over all songs pooled are another thing: a predictor that knows only each song's mean has CCC 0 by this rule and
up to 0.9 pooled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from dsaml.config import DIMENSIONS, METRICS, PCC_EPS
from dsaml.errors import DsamlError

Scores = dict[str, dict[str, float]]
"""``{"arousal": {"ccc", "pcc", "rmse"}, "valence": {...}}``"""


def _pair(prediction: ArrayLike, target: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(prediction, float), np.asarray(target, float)
    if x.ndim == 0 or x.shape != y.shape or x.shape[-1] == 0:
        raise DsamlError(f"scores: prediction {x.shape} and target {y.shape} must have one shape (..., T) with T > 0")
    for name, values in (("prediction", x), ("target", y)):
        if not np.isfinite(values).all():
            raise DsamlError(f"scores: the {name} contains NaN or infinity; leave such songs out and say so")
    return x, y


def rmse(prediction: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Root mean square error along the last axis.

    Parameters
    ----------
    prediction, target : array_like, shape (..., T)

    Returns
    -------
    ndarray, shape (...)
        In the labels' unit; lower is better.

    Raises
    ------
    DsamlError
        If the shapes differ or a value is not finite.
    """
    x, y = _pair(prediction, target)
    return np.sqrt(np.square(x - y).mean(-1))


def pcc(prediction: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Pearson correlation along the last axis, with 1e-8 in the denominator; 0 if either sequence is constant.

    Parameters, result shape and errors as in :func:`rmse`. Source: the released code, ``cov / (|x| |y| + 1e-8)`` with
    centred x and y.
    """
    x, y = _pair(prediction, target)
    constant = (np.ptp(x, -1) == 0) | (np.ptp(y, -1) == 0)
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    product = (x * y).sum(-1)
    lengths = np.sqrt(np.square(x).sum(-1)) * np.sqrt(np.square(y).sum(-1))
    return np.where(constant, 0.0, product / (lengths + PCC_EPS))


def ccc(prediction: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Concordance correlation along the last axis, with biased variances; 0 if either sequence is constant.

    Two equal constants have no defined CCC; it is 0 here, because there is no movement to agree about. Parameters,
    result shape and errors as in :func:`rmse`. Source: Lin 1989, as in the released code.
    """
    x, y = _pair(prediction, target)
    constant = (np.ptp(x, -1) == 0) | (np.ptp(y, -1) == 0)
    mean_x, mean_y = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
    covariance = ((x - mean_x) * (y - mean_y)).mean(-1)
    total = x.var(-1) + y.var(-1) + np.square(mean_x - mean_y)[..., 0]
    return np.where(constant, 0.0, 2 * covariance / np.where(constant, 1.0, total))


def level(prediction: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Absolute difference of the means over the last axis; shapes and errors as in :func:`rmse`."""
    x, y = _pair(prediction, target)
    return np.abs(x.mean(-1) - y.mean(-1))


def shape(prediction: ArrayLike, target: ArrayLike) -> np.ndarray:
    """CCC of what moves around the means; shapes and errors as in :func:`rmse`."""
    x, y = _pair(prediction, target)
    return ccc(x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True))


FUNCTIONS: dict[str, Callable[[ArrayLike, ArrayLike], np.ndarray]] = {
    "ccc": ccc, "pcc": pcc, "rmse": rmse, "level": level, "shape": shape,
}  # fmt: skip
LEVEL_AND_SHAPE = ("rmse", "level", "ccc", "shape")
"""What is scored where listeners differ in level, in place of the paper's three."""


def score(prediction: ArrayLike, target: ArrayLike, metrics: Sequence[str] = METRICS) -> Scores:
    """Scores of one song.

    Parameters
    ----------
    prediction, target : array_like, shape (T, 2)
        Columns arousal, valence.
    metrics : sequence of str
        Of ``FUNCTIONS``.

    Raises
    ------
    DsamlError
        If a shape is not (T, 2), the shapes differ, or a value is not finite.
    """
    x, y = np.asarray(prediction, float), np.asarray(target, float)
    if x.ndim != 2 or x.shape[1] != 2 or x.shape != y.shape:
        raise DsamlError(f"scores: prediction {x.shape} and target {y.shape} must both be (T, 2): arousal, valence")
    values = {m: FUNCTIONS[m](x.T, y.T) for m in metrics}
    return {d: {m: float(values[m][k]) for m in metrics} for k, d in enumerate(DIMENSIONS)}


def mean_scores(scores: Sequence[Mapping[str, Mapping[str, float]]]) -> Scores:
    """Mean over songs of what :func:`score` gave for each.

    Raises
    ------
    DsamlError
        If there are no scores.
    """
    if not scores:
        raise DsamlError("scores: there is no song to average over; check the split and the exclusions")
    return {d: {m: float(np.mean([s[d][m] for s in scores])) for m in METRICS} for d in DIMENSIONS}
