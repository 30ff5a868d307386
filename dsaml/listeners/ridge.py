"""Ridge regression whose penalty is chosen by leaving out blocks of neighbouring songs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = 10.0 ** np.arange(-1, 8)
FOLDS = 10


@dataclass(frozen=True)
class Ridge:
    """``(x - mean) / scale @ weights + level``; one penalty for each column of ``y``."""

    mean: np.ndarray  # (P,)
    scale: np.ndarray  # (P,)
    weights: np.ndarray  # (P, D)
    level: np.ndarray  # (D,)
    penalty: np.ndarray  # (D,)
    error: np.ndarray  # (D,) mean squared error on what was left out

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(..., P) -> (..., D)."""
        return (x - self.mean) / self.scale @ self.weights + self.level


def fit_ridge(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> Ridge:
    """Ridge regression of y (N, D) on x (N, P), columns standardized.

    Parameters
    ----------
    fold : ndarray of int, shape (N,)
        Rows that are left out together when the penalty is chosen (``PENALTIES``).
    """
    mean, scale = x.mean(0), (x.std(0) + 1e-6) * np.sqrt(x.shape[1])
    z, folds = (x - mean) / scale, np.unique(fold)
    error = np.zeros((len(PENALTIES), y.shape[1]))
    for one in folds if len(folds) > 1 else ():
        seen = fold != one
        paths, level = _paths(z[seen], y[seen]), y[seen].mean(0)
        guesses = (z[~seen] - z[seen].mean(0)) @ paths + level  # (penalties, n, D)
        error += ((guesses - y[~seen]) ** 2).sum(1)
    best, columns = error.argmin(0), np.arange(y.shape[1])
    weights = _paths(z, y)[best, :, columns].T
    return Ridge(mean, scale, weights, y.mean(0), PENALTIES[best], error.min(0) / len(y))


def _paths(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights for each of ``PENALTIES``: (penalties, P, D)."""
    z, y = z - z.mean(0), y - y.mean(0)
    if len(z) > z.shape[1]:
        values, vectors = np.linalg.eigh(z.T @ z)
        moment = vectors.T @ (z.T @ y)
        return np.stack([vectors @ (moment / (values + penalty)[:, None]) for penalty in PENALTIES])
    values, vectors = np.linalg.eigh(z @ z.T)
    moment = vectors.T @ y
    return np.stack([z.T @ (vectors @ (moment / (values.clip(0) + penalty)[:, None])) for penalty in PENALTIES])
