"""Does a song sound like anything that a model was trained on? A distance, and what is usual among the training songs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

USUAL = 0.95  # share of the training songs that are nearer to another one than ``limit``


@dataclass(frozen=True)
class Familiar:
    """What the training songs sounded like.

    A song's place is the mean over time of its standardized inputs; the distance of two songs is the root mean square difference
    of their places, so 1 is a standard deviation of the training songs' slices in every input.
    """

    songs: Tensor  # (N, F), the training songs' places
    limit: Tensor  # (), the quantile USUAL of their distances to the nearest other one

    @classmethod
    def of(cls, x: Tensor) -> Familiar:
        """From the standardized inputs of N >= 2 training songs, (N, T, F)."""
        songs = x.mean(1)
        apart = torch.stack([_distances(song, songs) for song in songs])  # (N, N)
        nearest = apart.fill_diagonal_(torch.inf).amin(1)
        return cls(songs, nearest.quantile(USUAL))

    def distance(self, x: Tensor) -> float:
        """Of a song (T, F) from the nearest training song."""
        return float(_distances(x.mean(0), self.songs).min())


def _distances(song: Tensor, songs: Tensor) -> Tensor:
    """(F,), (N, F) -> (N,)."""
    return (songs - song).square().mean(1).sqrt()
