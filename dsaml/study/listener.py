"""One participant in closed form, from what a design holds of songs: the mathematics of :mod:`dsaml.arena.low_rank` in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EDGE = 0.97  # labels at the ends of the scale stay finite, as in dsaml.arena.base.atanh


@dataclass(frozen=True)
class Terms:
    """What a listener's curve of one song is made of, ``tanh(base + basis w)``; see ``LightModel.terms``."""

    base: np.ndarray  # (T, 2)
    basis: np.ndarray  # (T, 2, R)

    def curve(self, w: np.ndarray) -> np.ndarray:
        """Arousal and valence (T, 2) of the listener ``w`` (2, R); zeros are nobody in particular."""
        return np.tanh(self.base + np.einsum("tdr,dr->td", self.basis, w))


def adapt(terms: Terms, noise: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """The posterior mean of a listener, w (2, R), from one drawn curve.

    Parameters
    ----------
    terms : Terms
        Of the song.
    noise : ndarray, shape (2,)
        SD of a label, before tanh.
    curve : ndarray, shape (T, 2)
        In [-1, 1]; NaN where nothing was said.
    """
    w = np.zeros(terms.basis.shape[1:])
    for d in range(2):
        said = np.isfinite(curve[:, d])
        basis = terms.basis[said, d] / noise[d]  # (n, R)
        residual = (np.arctanh(curve[said, d].clip(-EDGE, EDGE)) - terms.base[said, d]) / noise[d]
        w[d] = np.linalg.solve(basis.T @ basis + np.eye(basis.shape[1]), basis.T @ residual)
    return w
