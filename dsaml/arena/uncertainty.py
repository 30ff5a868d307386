"""Does a method know how wrong it is? Intervals that cover what they promise, and errors ranked before they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor

from dsaml.arena.base import Personalizer, Prediction
from dsaml.arena.fit import ask
from dsaml.arena.world import Asked
from dsaml.config import DIMENSIONS

NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of labels that intervals promise to cover."""
GRID = np.linspace(0.005, 0.995, 100)


def calibrate(method: Personalizer, asked: Sequence[Asked]) -> None:
    """Fit the constants ``calibration`` (3, 2) of a method's variance on validation tasks.

    The variance is a sum of three terms for each dimension: what the posterior leaves open; how far the listener is from the
    average one, since what is known of tastes is known with an error, which weighs more for whom they weigh more; and a constant,
    for what songs and labels do beside the model. Non-negative least squares of the squared errors on the terms; then one factor
    that makes intervals of nominally 90 % cover as much of a *new* listener's labels. Labels of one listener err together, so
    listeners are what is counted: the logarithm of a new one's error has Student's t distribution around those of the validation
    listeners.
    """
    terms = []
    for number in range(3):
        method.calibration = torch.eye(3)[number][:, None].expand(3, 2).contiguous()
        answers = ask(method, asked)
        terms.append(torch.cat([answer.variance.flatten(0, 2) for answer in answers]).double().numpy())  # (labels, 2)
    squared = torch.cat([(a.mean - p.target).square().flatten(0, 2) for a, p in zip(answers, asked, strict=True)]).numpy()
    each = [(task.annotator, part.target[0, ..., 0].numel()) for part in asked for task in part.tasks]
    who = np.repeat(*map(np.array, zip(*each, strict=True)))  # (labels,)
    constants = np.zeros((3, 2))
    for d in range(2):
        design = np.stack([term[:, d] for term in terms], 1)
        weights = optimize.nnls(design, squared[:, d].astype(float))[0]
        ratio = squared[:, d] / np.maximum(design @ weights, 1e-6)
        constants[:, d] = weights * _of_a_new_listener([ratio[who == name] for name in np.unique(who)], 0.9)
        constants[:, d] /= stats.norm.ppf(0.95) ** 2
    method.calibration = torch.tensor(constants, dtype=torch.float32).clamp_min(1e-6)


def _of_a_new_listener(values: Sequence[np.ndarray], level: float) -> float:
    """The quantile of a listener who is not among these, whose values are theirs but for a scale."""
    scales = np.log([np.quantile(own, level) for own in values])
    shape = np.quantile(np.concatenate([own / np.exp(s) for own, s in zip(values, scales, strict=True)]), GRID)
    count = len(scales)
    if count > 1:
        spread = scales.std(ddof=1) * np.sqrt(1 + 1 / count)
        scales = scales.mean() + spread * stats.t.ppf(GRID, count - 1)
    return float(np.quantile(np.outer(np.exp(scales), shape), level))


def uncertainty(predictions: Sequence[Prediction], targets: Sequence[Tensor]) -> dict[str, Any]:
    """Coverage of central intervals, and how well the variance ranks the support sets by the error that they lead to.

    Parameters
    ----------
    predictions : sequence of Prediction
        Means and variances (K, B, T, 2) of K support sets each.
    targets : sequence of Tensor, shape (K, B, T, 2)

    Returns
    -------
    dict
        ``coverage``: for each of ``NOMINAL``, by dimension. ``rank``: Spearman's correlation over support sets between the mean
        standard deviation and the RMSE over the query songs, by dimension; ``rank_song``: the same over single query songs.
    """
    out: dict[str, Any] = {"coverage": {}, "rank": {}, "rank_song": {}}
    for d, name in enumerate(DIMENSIONS):
        sd = [prediction.variance[..., d].sqrt().numpy() for prediction in predictions]  # (K, B, T) each
        off = [(p.mean - t)[..., d].abs().numpy() for p, t in zip(predictions, targets, strict=True)]
        ratio = np.concatenate([np.ravel(o / s) for o, s in zip(off, sd, strict=True)])
        out["coverage"][name] = {str(p): float((ratio <= stats.norm.ppf(0.5 + p / 2)).mean()) for p in NOMINAL}
        for key, axes in (("rank", (1, 2)), ("rank_song", 2)):
            expected = np.concatenate([np.ravel(s.mean(axes)) for s in sd])
            seen = np.concatenate([np.ravel(np.sqrt(np.square(o).mean(axes))) for o in off])
            out[key][name] = float(stats.spearmanr(expected, seen).statistic)
    return out
