"""Reliable raters count more: each rater's noise is learned from how far they are from the others, and weighs their labels.

Labels and noise are estimated in turn (Raykar et al. 2010, Learning from Crowds, JMLR 11; for regression): a song's label is the
mean over its raters, weighted by 1 / noise; a rater's noise is the mean squared distance of their tracks from that label. Two
things differ. A rater is compared with the label of *the others*, so that nobody becomes reliable by having pulled the label to
themselves. And noise seen in few songs is a guess, which is drawn to the mean, 1: the covariance of the noise in two songs of the
same person says how far (empirical Bayes, Robbins 1956). Where nothing of it comes back, all weights are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

ROUNDS = 10  # the weights have settled long before
LEAST = 0.01  # noise of a rater, the mean being 1: nobody counts more than a hundredfold
TINY = 1e-12

Tracks = Mapping[str, Mapping[str, np.ndarray]]
"""Rater -> song -> labels (T, 2) from the song's first one on; a track may end early."""


@dataclass(frozen=True)
class Reliability:
    """What :func:`reliability` learned."""

    weights: Mapping[str, np.ndarray]  # by rater, (2,): 1 / noise, which is 1 on average
    comes_back: np.ndarray  # (2,) correlation of a rater's noise in two songs; not above 0: all weights are 1


def reliability(tracks: Tracks) -> Reliability:
    """How much each rater's labels are worth beside the others'.

    Parameters
    ----------
    tracks : mapping of rater to mapping of song to ndarray, shape (T, 2)
        Songs of one rater say nothing.
    """
    songs, people = _by_song(tracks), list(tracks)
    place, noise, share = {who: k for k, who in enumerate(people)}, np.ones((len(people), 2)), np.zeros(2)
    for _ in range(ROUNDS):
        sums, squares, counts = np.zeros_like(noise), np.zeros_like(noise), np.zeros((len(people), 1))
        for raters, values in songs.values():
            who = [place[rater] for rater in raters]
            seen = _noise(values, 1 / noise[who])  # (R, 2)
            sums[who] += seen
            squares[who] += seen**2
            counts[who] += 1
        away = sums - counts  # of a rater's songs, from the mean noise, 1
        spread = squares - 2 * sums + counts  # sum of squared distances from it
        total, pairs = spread.sum(0) / max(counts.sum(), 1), (counts * (counts - 1)).sum()
        between = (away**2 - spread).sum(0) / max(pairs, 1)  # covariance in two songs: variance between people
        share = between / (total + TINY)
        known = counts * between.clip(0)
        part = known / (known + (total - between).clip(0) + TINY)  # of the mean over their songs that is believed
        noise = (1 + part * (sums / counts.clip(1) - 1)).clip(LEAST)
    return Reliability({who: 1 / noise[k] for who, k in place.items()}, share)


def weighted_labels(tracks: Tracks, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weighted mean label (T, 2) of each song that two raters or more have; T is that of the longest track."""
    out = {}
    for song, (raters, values) in _by_song(tracks).items():
        own = np.stack([weights[who] for who in raters])[:, None]
        there = np.isfinite(values)
        out[song] = (own * np.where(there, values, 0)).sum(0) / (own * there).sum(0)
    return out


def _by_song(tracks: Tracks) -> dict[str, tuple[list[str], np.ndarray]]:
    """Song -> its raters and their labels (R, T, 2), NaN where a track has ended; songs of one rater left out."""
    raters: dict[str, list[str]] = {}
    for who, own in tracks.items():
        for song in own:
            raters.setdefault(song, []).append(who)
    out = {}
    for song, names in raters.items():
        if len(names) > 1:
            values = np.full((len(names), max(len(tracks[who][song]) for who in names), 2), np.nan)
            for row, who in enumerate(names):
                values[row, : len(tracks[who][song])] = tracks[who][song]
            out[song] = names, values
    return out


def _noise(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared distance of each track (R, T, 2) from the others' mean, weighted (R, 2); as a multiple of the song's: (R, 2)."""
    there = np.isfinite(values)
    own = weights[:, None] * there
    others = own.sum(0) - own
    mean = ((own * np.where(there, values, 0)).sum(0) - own * np.where(there, values, 0)) / np.where(others > TINY, others, np.nan)
    square = np.nanmean((values - mean) ** 2, 1)
    return square / (square.mean(0) + TINY)
