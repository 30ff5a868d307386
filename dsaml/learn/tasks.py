"""Task construction: by annotator (Eq. 6) or at random on averaged labels (Eq. 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dsaml.data.annotations import MEAN, Annotation
from dsaml.errors import DsamlError


@dataclass(frozen=True)
class Task:
    """Songs and whose labels they carry; support and query share no song."""

    annotator: str  # "all" for averaged labels
    support: tuple[str, ...]  # song ids
    query: tuple[str, ...]


class TaskSampler:
    """Draws tasks; the n-th batch depends on the seed and n alone, so that a resumed training sees the same tasks.

    Parameters
    ----------
    tracks : mapping of annotator id to mapping of song id to Annotation
        Of one split part; averaged labels under "all".
    kind : {"annotator", "random"}
        "annotator": one annotator per task (Eq. 6). "random": averaged labels, songs drawn from the whole set (Eq. 5).

    Raises
    ------
    DsamlError
        If an annotator has fewer than ``support_songs + query_songs`` songs; the message counts them.
    """

    def __init__(
        self,
        tracks: Mapping[str, Mapping[str, Annotation]],
        kind: Literal["annotator", "random"],
        support_songs: int,
        query_songs: int,
        seed: int,
    ):
        tracks = {who: songs for who, songs in tracks.items() if (who == MEAN) == (kind == "random")}
        need = support_songs + query_songs
        short = {who: len(songs) for who, songs in tracks.items() if len(songs) < need}
        if short:
            worst = ", ".join(f"{who} has {count}" for who, count in sorted(short.items())[:3])
            raise DsamlError(
                f"tasks: {len(short)} of {len(tracks)} annotators have fewer than the {need} songs of a task "
                f"({support_songs} support + {query_songs} query): {worst}; leave them out or ask for fewer songs"
            )
        if not tracks:
            raise DsamlError(f"tasks: no labels for '{kind}' tasks; this data set lacks them")
        self.songs = {who: tuple(sorted(songs)) for who, songs in sorted(tracks.items())}
        self.annotators = tuple(self.songs)
        self.support_songs, self.query_songs, self.seed = support_songs, query_songs, seed

    def task(self, rng: np.random.Generator) -> Task:
        """Draw an annotator, then support and query songs without replacement."""
        who, count = self.annotators[rng.integers(len(self.annotators))], self.support_songs
        songs = self.songs[who]
        chosen = tuple(songs[i] for i in rng.permutation(len(songs))[: count + self.query_songs])
        return Task(who, chosen[:count], chosen[count:])

    def batch(self, number: int, size: int) -> list[Task]:
        """The ``number``-th batch of ``size`` tasks."""
        rng = np.random.default_rng([self.seed, number])
        return [self.task(rng) for _ in range(size)]
