"""Two heads: one for the level of a song, one for its shape. Each is a ridge regression on what a song's slices look like.

A loss over curves rewards shape and is nearly blind to level (CCC per song), so each of the two is asked for by itself, in squared
error. A gain multiplies the shape: the least-squares one moves little, as it should where little is known; CCC rewards more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dsaml.listeners.harmony import smooth, song_harmony
from dsaml.listeners.ridge import FOLDS, Ridge, fit_ridge

WINDOW = 21  # steps (10 s) over which the inputs of the shape head are averaged; chosen on left-out training songs of VGMIDI
RISES = (2.0, 10.0, 40.0)  # s; time constants of what every curve does after its start


@dataclass(frozen=True, eq=False)
class Heard:
    """What the heads hear of a song.

    Attributes
    ----------
    log_mel : ndarray, shape (T, F)
        Mean and standard deviation of each band of each slice, standardized over training songs.
    chroma : ndarray, shape (T, 12)
    """

    log_mel: np.ndarray
    chroma: np.ndarray

    def song(self) -> np.ndarray:
        """Numbers of the song as a whole: mean, spread and change of its slices, and its harmony."""
        x = self.log_mel
        return np.concatenate((x.mean(0), x.std(0), np.abs(np.diff(x, axis=0)).mean(0), song_harmony(self.chroma)))

    def steps(self, steps: int) -> np.ndarray:
        """Numbers of each of the first ``steps`` steps beside the mean of these: (steps, P)."""
        clock = np.arange(steps)[:, None] * 0.5
        x = np.concatenate((smooth(self.log_mel, WINDOW)[:steps], 3 * np.exp(-clock / np.array(RISES))), 1)
        return x - x.mean(0)


Songs = Mapping[str, Heard]
Labels = Mapping[str, np.ndarray]
"""Averaged labels (T, 2) by song."""


@dataclass(frozen=True)
class TwoHeads:
    """Level and shape of the average listener."""

    level: Ridge
    shape: Ridge
    gain: np.ndarray = field(default_factory=lambda: np.ones(2))  # on the shape

    def level_of(self, song: Heard) -> np.ndarray:
        """(2,)."""
        return self.level(song.song())

    def shape_of(self, song: Heard, steps: int) -> np.ndarray:
        """(steps, 2), around 0, without the gain."""
        return self.shape(song.steps(steps))

    def curve(self, song: Heard, steps: int) -> np.ndarray:
        """(steps, 2)."""
        return self.level_of(song) + self.gain * self.shape_of(song, steps)


def fit_heads(songs: Songs, labels: Labels, names: Sequence[str]) -> TwoHeads:
    """Both heads, on averaged labels; penalties are those that are best on left-out blocks of neighbouring songs.

    Parameters
    ----------
    names : sequence of str
        The songs to learn from; neighbours stand beside each other.
    """
    fold = np.arange(len(names)) * FOLDS // len(names)
    level = fit_ridge(np.stack([songs[s].song() for s in names]), np.stack([labels[s].mean(0) for s in names]), fold)
    steps = np.concatenate([songs[s].steps(len(labels[s])) for s in names])
    moved = np.concatenate([labels[s] - labels[s].mean(0) for s in names])
    return TwoHeads(level, fit_ridge(steps, moved, np.repeat(fold, [len(labels[s]) for s in names])))


def left_out(names: Sequence[str], fit: Callable[[list[str]], TwoHeads]) -> dict[str, TwoHeads]:
    """For each song the heads that were fitted without its block: what is learned about people has to be learned with these.

    Parameters
    ----------
    names : sequence of str
        Songs; neighbours stand beside each other.
    fit : callable
        Makes heads from such songs, such as :func:`fit_heads` does.
    """
    fold = np.arange(len(names)) * FOLDS // len(names)
    heads = {one: fit([s for s, f in zip(names, fold, strict=True) if f != one]) for one in np.unique(fold)}
    return {song: heads[one] for song, one in zip(names, fold, strict=True)}
