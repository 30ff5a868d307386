"""Does a method know how wrong it is? Intervals that cover what they promise, and errors ranked before they are seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from dsaml.arena.base import Personalizer, Prediction
from dsaml.config import DIMENSIONS

NOMINAL = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of labels that intervals promise to cover."""


def calibrate(method: Personalizer, predictions: Sequence[Prediction], targets: Sequence[Tensor]) -> None:
    """Fit the two constants of a method's variance on validation tasks: factor and what is added.

    Least squares of the squared errors on the variance, then one common factor with which 90 % of the labels are covered.
    """
    variance = torch.cat([prediction.variance.flatten() for prediction in predictions])
    squared = torch.cat([(p.mean - t).square().flatten() for p, t in zip(predictions, targets, strict=True)])
    design = torch.stack((variance, torch.ones_like(variance)), 1)
    factor, added = torch.linalg.lstsq(design, squared[:, None]).solution[:, 0].clamp_min(1e-4).tolist()
    needed = float(np.quantile((squared / (factor * variance + added)).numpy(), 0.9)) / stats.norm.ppf(0.95) ** 2
    method.calibration = torch.tensor([factor, added]) * needed


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
