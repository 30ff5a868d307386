"""Empirical Bayes over a listener's offset, gain and range: what one song tells of the next is learned, and may be nothing.

Each trait of a listener in a song is a number beside the model's curve. On training people the covariance of the trait in two of
their songs is its variance *between people*; the rest of its variance is the song's and the session's. The best linear guess of the
trait in the next song is then the mean plus a part of what was seen (Robbins 1956): the factor is the share that comes back, and
where nothing comes back it is 0, which is no adaptation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TRAITS = ("offset", "gain", "range")
STILL = 0.01  # added to standard deviations before their logarithm


def traits_of(values: np.ndarray, level: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Offset, gain and range (log of the spread beside the model's) of a track (T, 2) beside a curve's level and shape: (3, 2)."""
    moved = values - values.mean(0)
    gain = (moved * shape).sum(0) / ((shape**2).sum(0) + 1e-3)
    spread = np.log(moved.std(0) + STILL) - np.log(shape.std(0) + STILL)
    return np.stack((values.mean(0) - level, gain, spread))


@dataclass(frozen=True)
class Shrinkage:
    """What of each trait is expected to come back."""

    mean: np.ndarray  # (3, 2) over training people
    between: np.ndarray  # (3, 2) variance between people, the same in all songs
    within: np.ndarray  # (3, 2) the rest
    used: tuple[str, ...] = TRAITS

    def factor(self, songs: int = 1) -> np.ndarray:
        """Part of the mean deviation over so many songs that is believed, (3, 2); 0 for traits that are not used."""
        part = self.between.clip(0) / (self.between.clip(0) + self.within / songs + 1e-12)
        return part * np.array([name in self.used for name in TRAITS])[:, None]

    def predict(self, seen: Sequence[np.ndarray], level: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """The listener's curve of another song (T, 2), from traits (3, 2) in songs that they rated; the gain of nobody is 1."""
        guess = self.factor(len(seen)) * (np.mean(seen, 0) - self.mean)
        return level + guess[0] + shape * (1 + guess[1]) * np.exp(guess[2])


def fit_shrinkage(first: np.ndarray, second: np.ndarray, used: tuple[str, ...] = TRAITS) -> Shrinkage:
    """Moments of training people's traits in two songs each.

    Parameters
    ----------
    first, second : ndarray, shape (people, 3, 2)
        From :func:`traits_of`, with a model that had not seen these songs' labels.
    """
    mean = (first.mean(0) + second.mean(0)) / 2
    between = ((first - mean) * (second - mean)).mean(0)
    total = (((first - mean) ** 2).mean(0) + ((second - mean) ** 2).mean(0)) / 2
    return Shrinkage(mean, between, total - between.clip(0), used)
