"""A prefix state: how far a listener was from the model when the labels ended, and how that goes on.

The last deviation fades into parts of the recent and of the mean one, with a decay that is learned on training people; any
model can carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DECAYS = (1.0, 5.0, 15.0, 40.0, 120.0)  # steps until 1/e of the last deviation is left; chosen by squared error
LAST = 2  # labels whose mean is the last deviation
RECENT = 4  # the last one in so many of the prefix is recent


def state_of(values: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Last, recent and mean deviation of a prefix (n, 2) from the model's curve of it: (3, 2)."""
    away = values - curve
    return np.stack((away[-LAST:].mean(0), away[-max(LAST, len(away) // RECENT) :].mean(0), away.mean(0)))


def _design(state: np.ndarray, steps: int, decay: float) -> np.ndarray:
    """(steps, 6, 2): the three deviations, fading out and fading in."""
    left = np.exp(-np.arange(1, steps + 1) / decay)[:, None, None]
    return np.concatenate((left * state, (1 - left) * state), 1)


@dataclass(frozen=True)
class PrefixState:
    """Deviations that are expected after a prefix."""

    weights: np.ndarray  # (6, 2)
    decay: tuple[float, float]  # steps

    def deviation(self, state: np.ndarray, steps: int) -> np.ndarray:
        """What is to be added to the model's curve of the next ``steps`` steps: (steps, 2)."""
        columns = [_design(state, steps, decay)[..., d] @ self.weights[:, d] for d, decay in enumerate(self.decay)]
        return np.stack(columns, 1)


def fit_prefix(states: Sequence[np.ndarray], deviations: Sequence[np.ndarray]) -> PrefixState:
    """Least squares over training tracks, each counting alike.

    Parameters
    ----------
    states : sequence of ndarray, shape (3, 2)
        From :func:`state_of`.
    deviations : sequence of ndarray, shape (T, 2)
        How far the listeners then were from the model.
    """
    weights, decays = np.zeros((6, 2)), []
    scale = [1 / np.sqrt(len(away)) for away in deviations]
    for d in range(2):
        target = np.concatenate([s * away[:, d] for s, away in zip(scale, deviations, strict=True)])
        tried = {}
        for decay in DECAYS:
            rows = [
                s * _design(state, len(away), decay)[..., d]
                for s, state, away in zip(scale, states, deviations, strict=True)
            ]
            design = np.concatenate(rows)
            solution = np.linalg.lstsq(design, target, rcond=None)[0]
            tried[decay] = float(((target - design @ solution) ** 2).sum()), solution
        best = min(tried, key=lambda decay: tried[decay][0])
        decays.append(best)
        weights[:, d] = tried[best][1]
    return PrefixState(weights, (decays[0], decays[1]))
