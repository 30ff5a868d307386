"""What a personalizer may see: songs as sequences of feature vectors, and what some listeners said of them.

A world holds one part of a split. Training gets those of "train" and "validation"; the one of "test" is made when all choices
are made (:mod:`dsaml.experiment.arena`), so nothing can be chosen on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsaml.data.base import Dataset
from dsaml.errors import DsamlError
from dsaml.learn.tasks import Task

AT_ONCE = 20  # support sets that are adapted to together


class Asked(NamedTuple):
    """Tasks with equally many songs."""

    tasks: list[Task]
    songs: Tensor  # (songs, T, F), of the whole part: most of them stand in several tasks, and are encoded once
    support: Tensor  # (K, S), places in ``songs``
    y: Tensor  # (K, S, T, 2), of the support sets
    query: Tensor  # (K, B), places in ``songs``
    target: Tensor  # (K, B, T, 2)


@dataclass(frozen=True)
class World:
    """Songs and listeners of one part of a split.

    Attributes
    ----------
    songs, listeners : tuple of str
    x : Tensor, shape (songs, T, F)
        Standardized with the mean and standard deviation of the training songs.
    y : Tensor, shape (listeners, songs, T, 2)
        Arousal and valence; NaN where a listener did not rate a song.
    """

    songs: tuple[str, ...]
    listeners: tuple[str, ...]
    x: Tensor
    y: Tensor
    mean: Tensor  # (F,), of the inputs before they were standardized
    deviation: Tensor  # (F,)

    @property
    def rated(self) -> Tensor:
        """Who rated what: (listeners, songs), bool."""
        return ~self.y[..., 0, 0].isnan()

    def asked(self, tasks: list[Task]) -> Asked:
        """Tasks with equally many songs, and their labels."""
        who = torch.tensor([self.listeners.index(task.annotator) for task in tasks])[:, None]
        place = {song: number for number, song in enumerate(self.songs)}
        support, query = (
            torch.tensor([[place[song] for song in getattr(task, name)] for task in tasks])
            for name in ("support", "query")
        )
        return Asked(tasks, self.x, support, self.y[who, support], query, self.y[who, query])

    def batches(self, tasks: Sequence[Task]) -> list[Asked]:
        """Tasks in groups that have equally many songs, ``AT_ONCE`` at most."""
        by_size: dict[tuple[int, int], list[Task]] = {}
        for task in tasks:
            by_size.setdefault((len(task.support), len(task.query)), []).append(task)
        parts = [same[k : k + AT_ONCE] for same in by_size.values() for k in range(0, len(same), AT_ONCE)]
        return [self.asked(part) for part in parts]


def make_worlds(dataset: Dataset, inputs: Mapping[str, Tensor], steps: int, parts: Sequence[str]) -> dict[str, World]:
    """The worlds of some parts of a data set.

    Parameters
    ----------
    inputs : mapping of song id to Tensor, shape (at least T, F)
        What stands for each song. Those of the training songs have to be among them: they set the scale.
    steps : int
        T. Songs count with their first T labels; shorter tracks are left out.
    parts : sequence of str

    Raises
    ------
    DsamlError
        If a part has no listener who rated two songs.
    """
    split = dataset.split
    known = torch.cat([inputs[song][:steps] for song in split.songs["train"]])
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-3)
    worlds = {}
    for part in parts:
        songs = split.songs[part]
        listeners = [
            who for who in split.annotators[part] if sum(song in dataset.tracks.get(who, {}) for song in songs) > 1
        ]
        if not listeners:
            raise DsamlError(f"{dataset.root}: no {part} listener rated two songs, so nobody can be personalized for")
        y = np.full((len(listeners), len(songs), steps, 2), np.nan, np.float32)
        for i, who in enumerate(listeners):
            for j, song in enumerate(songs):
                track = dataset.tracks[who].get(song)
                if track is not None and len(track) >= steps:
                    y[i, j] = track.values[:steps]
        x = torch.stack([(inputs[song][:steps] - mean) / deviation for song in songs])
        worlds[part] = World(tuple(songs), tuple(listeners), x, torch.from_numpy(y), mean, deviation)
    return worlds
