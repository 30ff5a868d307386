"""Oracles: noise-free true curves, which are known for simulated listeners only. What no model of real people can look at."""

from __future__ import annotations

import numpy as np

from dsaml.config import CLIP_STEPS, DIMENSIONS
from dsaml.data.annotations import MEAN
from dsaml.data.base import Dataset
from dsaml.evaluate import metrics
from dsaml.evaluate.scores import Answer, Question

AVERAGE_CURVE = "the average listener's true curve"
AVERAGE_CURVE_SPREAD = "the average listener's true curve, best spread"
OWN_CURVE = "the listener's own true curve"
SPREADS = np.arange(5, 31) / 10  # factors tried for the spread


def spread(curve: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A curve (T, 2) with its distance to its own mean multiplied, by one factor per dimension."""
    middle = curve.mean(0)
    return middle + factors * (curve - middle)


def best_spread(dataset: Dataset, steps: int = CLIP_STEPS) -> dict[str, float] | None:
    """The factor per dimension with which the average listener's true curve has the best mean CCC on *validation*.

    An average of curves moves less than the curves do, and CCC asks for the right spread: without this factor a method could be
    better than the average curve by moving more, and know nothing of the listener. Of all ``SPREADS``, over every validation
    listener and every validation song of theirs, with its first ``steps`` labels. None where there are no true curves.
    """
    if not dataset.oracle:
        return None
    truths, curves = [], []
    for who in dataset.split.annotators["validation"]:
        for song in dataset.split.songs["validation"]:
            track = dataset.tracks.get(who, {}).get(song)
            if track is not None and len(track) >= steps:
                truths.append(track.values[:steps])
                curves.append(dataset.oracle[MEAN][song].values[:steps])
    scores = np.array([_ccc([spread(c, factor) for c in curves], truths) for factor in SPREADS])  # (factors, 2)
    return {d: float(SPREADS[best]) for d, best in zip(DIMENSIONS, scores.argmax(0), strict=True)}


def _ccc(curves: list[np.ndarray], truths: list[np.ndarray]) -> np.ndarray:
    """Mean CCC over curves, per dimension: (2,)."""
    return metrics.ccc(np.stack(curves).swapaxes(1, 2), np.stack(truths).swapaxes(1, 2)).mean(0)


def oracle_answers(dataset: Dataset, steps: int = CLIP_STEPS) -> dict[str, Answer]:
    """What each oracle answers (T, 2); nothing where there are no true curves.

    The spread is chosen on clips of ``steps`` labels, and is around the mean of the part that is asked for.
    """
    if not dataset.oracle:
        return {}
    factors = np.array(list(best_spread(dataset, steps).values()))

    def true(annotator: str, question: Question) -> np.ndarray:
        return dataset.oracle[annotator][question.song].values[question.first :][: len(question.target)]

    return {
        AVERAGE_CURVE: lambda question: true(MEAN, question),
        AVERAGE_CURVE_SPREAD: lambda question: spread(true(MEAN, question), factors),
        OWN_CURVE: lambda question: true(question.annotator, question),
    }
