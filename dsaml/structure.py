"""How labels vary: what all listeners share, what is one listener's own, and how much of that is more than noise.

A label is taken apart as ``song + annotator + annotator x song + shared dynamics + own dynamics and noise``. The first three are
about levels (a track's mean over time), the last two about what happens around them. The estimators are unbiased for tracks of
which only some exist (not everybody rated every song): they compare pairs of tracks that share the song, the annotator, or
neither, as Gao and Owen do (Electronic Journal of Statistics 11, 2017, 1235-1296).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dsaml.annotations import Annotation
from dsaml.datasets.base import Dataset
from dsaml.errors import DsamlError

Tracks = Mapping[str, Mapping[str, Annotation]]
"""Annotator id -> song id -> track, as in :class:`dsaml.datasets.Dataset`."""

COMPONENTS = ("song", "annotator", "annotator x song", "shared dynamics", "own dynamics and noise")


@dataclass(frozen=True)
class Structure:
    """Variances of the components, and how far two listeners agree; each array is (arousal, valence)."""

    song: np.ndarray  # (2,) how much songs differ in level
    annotator: np.ndarray  # (2,) an offset that a listener has in every song
    annotator_song: np.ndarray  # (2,) a listener's level in one song beyond that, session noise included
    shared_dynamics: np.ndarray  # (2,) movement within songs that all listeners share
    own: np.ndarray  # (2,) a listener's own movement within a song, rating noise included
    correlation: np.ndarray  # (2,) mean correlation of two listeners' curves of the same song
    tracks: int

    def components(self) -> np.ndarray:
        """Variances, shape (5, 2), in the order of ``COMPONENTS``; estimates of a small one can be below 0."""
        return np.stack([self.song, self.annotator, self.annotator_song, self.shared_dynamics, self.own])

    def shares(self) -> np.ndarray:
        """The same as shares of their sum."""
        return self.components() / self.components().sum(0)

    def agreement(self) -> np.ndarray:
        """Share of the variance that two listeners of the same song have in common, (2,): an intraclass correlation."""
        return self.shares()[[0, 3]].sum(0)

    def disagreement(self) -> np.ndarray:
        """Variance between listeners, (2,): all that they do not share."""
        return self.annotator + self.annotator_song + self.own


def by_song(tracks: Tracks, songs: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    """Song id -> annotator id -> values (T, 2), of the songs with two tracks or more, cut to the song's shortest."""
    out = {}
    for song in songs:
        values = {who: mine[song].values for who, mine in tracks.items() if song in mine}
        if len(values) > 1:
            steps = min(map(len, values.values()))
            out[song] = {who: v[:steps] for who, v in values.items()}
    return out


def decompose(songs: Mapping[str, Mapping[str, np.ndarray]]) -> Structure:
    """Variance components of labels.

    Parameters
    ----------
    songs : mapping of song id to mapping of annotator id to ndarray, shape (T, 2)
        As :func:`by_song` gives them; T may differ between songs, not within one.

    Raises
    ------
    DsamlError
        If no two tracks share a song, no two an annotator, or no two share neither: nothing tells the components apart then.
    """
    cells = [(song, who, v.mean(0)) for song, people in songs.items() for who, v in people.items()]
    levels = np.array([level for *_, level in cells]).reshape(-1, 2)
    same_song = _pairs(levels, [song for song, *_ in cells])
    same_annotator = _pairs(levels, [who for _, who, _ in cells])
    every = _pairs(levels, [""] * len(cells))
    neither = every[0] - same_song[0] - same_annotator[0], every[1] - same_song[1] - same_annotator[1]
    if min(count for _, count in (same_song, same_annotator, neither)) == 0:
        raise DsamlError(
            "tracks: too few to take apart (two of one song, two of one annotator, two that share neither); give more songs"
        )
    within_song, within_annotator, across = (total / count for total, count in (same_song, same_annotator, neither))
    shared, own, correlation = [], [], []
    for people in songs.values():
        if len(people) < 2:
            continue
        moved = np.stack([v - v.mean(0) for v in people.values()])  # (annotators, T, 2)
        count, steps = moved.shape[:2]
        total = (moved**2).sum((0, 1)) / steps
        common = ((moved.sum(0) ** 2).sum(0) / steps - total) / (count * (count - 1))  # mean product of two annotators'
        shared.append(common)
        own.append(total / count - common)
        correlation.append([_mean_correlation(moved[..., d]) for d in (0, 1)])
    return Structure(
        song=across - within_song,
        annotator=across - within_annotator,
        annotator_song=within_song + within_annotator - across,
        shared_dynamics=np.mean(shared, 0),
        own=np.mean(own, 0),
        correlation=np.nanmean(correlation, 0),
        tracks=len(cells),
    )


def _pairs(levels: np.ndarray, groups: list[str]) -> tuple[np.ndarray, int]:
    """Half the squared differences of all pairs of one group, summed over groups, and the number of pairs."""
    total, pairs = np.zeros(2), 0
    _, index = np.unique(groups, return_inverse=True)
    for group in range(index.max() + 1):
        mine = levels[index == group]
        total += len(mine) * ((mine - mine.mean(0)) ** 2).sum(0) / 2
        pairs += len(mine) * (len(mine) - 1) // 2
    return total, pairs


def _mean_correlation(moved: np.ndarray) -> float:
    """Mean correlation of two rows of (annotators, T), those that do not move left out; NaN for fewer than two."""
    size = np.sqrt((moved**2).sum(1))
    unit = moved[size > 1e-9] / size[size > 1e-9, None]
    count = len(unit)
    return float(((unit.sum(0) ** 2).sum() - count) / (count * (count - 1))) if count > 1 else float("nan")


def calibration(dataset: Dataset) -> pd.DataFrame:
    """Spread of the labels, to lay beside the real data sets'.

    Returns
    -------
    DataFrame
        Rows: step disagreement (SD over annotators), within-song SD of averaged labels for clips and for full songs;
        columns arousal and valence.
    """
    groups: dict[str, list[np.ndarray]] = {}
    for tracks in dataset.tracks.values():
        for song_id, track in tracks.items():
            groups.setdefault(song_id, []).append(track.values)
    spread = [np.std([v[:60] for v in values], axis=0).mean(0) for values in groups.values() if len(values) > 2]
    rows = {"step disagreement (SD over annotators)": np.mean(spread, 0)}
    parts = {"training clips": dataset.split.songs["train"], "test songs": dataset.split.songs["test"]}
    for name, ids in parts.items():
        inside = [dataset.mean[i].values.std(0) for i in ids if i in dataset.mean]
        rows[f"within-song SD of the averaged label, {name}"] = np.mean(inside, 0)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["arousal", "valence"])
