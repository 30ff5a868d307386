"""What of a listener comes back: a trait in one song beside the same trait of the same person elsewhere.

Four traits of a track, each against the others who rated the same song:

- *offset*: mean of the track, less the mean of the others' mean curve
- *range*: logarithm of the standard deviation over time, less the listeners' mean of it
- *gain*: slope of the track on the others' mean curve
- *lag*: seconds by which the track follows the others' mean curve, where the two correlate best

A trait that belongs to the person correlates between two songs of theirs. The placebo is somebody else who rated the same two
songs: a correlation there would come from the songs. Two halves of one song say what is the person's in *this* song.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import rankdata

from dsaml.config import DIMENSIONS
from dsaml.evaluate.structure import Curves

TRAITS = ("offset", "range", "gain", "lag")
KINDS = ("another song", "somebody else", "same song")
STILL = 1e-3  # a track with a smaller standard deviation has no range, gain or lag
LONGEST_LAG = 6.0  # s
FEWEST = 12  # labels of a song that is halved
Pairs = dict[str, tuple[np.ndarray, np.ndarray]]
"""Kind -> traits here and there, (n, 4, 2) each: rows are people, then ``TRAITS``, then arousal and valence."""


def traits(values: np.ndarray, seconds: float) -> np.ndarray:
    """The traits (N, 4, 2), as in ``TRAITS``, of N >= 2 people who rated a song (N, T, 2); NaN where a track does not move.

    ``seconds`` pass between two labels.
    """
    others = (values.sum(0) - values) / (len(values) - 1)
    moved, common = values - values.mean(1, keepdims=True), others - others.mean(1, keepdims=True)
    size = np.sqrt((moved**2).mean(1))  # (N, 2)
    still = size < STILL
    offset = values.mean(1) - others.mean(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(still, np.nan, np.log(size))
        gain = np.where(still, np.nan, (moved * common).sum(1) / (common**2).sum(1))
    lag = np.where(still, np.nan, _lags(values, others, seconds))
    return np.stack([offset, spread, gain, lag], 1)


def _lags(values: np.ndarray, others: np.ndarray, seconds: float) -> np.ndarray:
    """Seconds by which each of ``values`` (N, T, 2) follows its ``others``: (N, 2)."""
    steps = values.shape[1]
    reach = min(int(LONGEST_LAG / seconds), steps // 3)
    fits = []
    for shift in range(-reach, reach + 1):
        late = values[:, max(shift, 0) : steps + min(shift, 0)]
        early = others[:, max(-shift, 0) : steps - max(shift, 0)]
        late, early = late - late.mean(1, keepdims=True), early - early.mean(1, keepdims=True)
        scale = np.sqrt((late**2).sum(1) * (early**2).sum(1))
        fits.append(np.divide((late * early).sum(1), scale, out=np.full_like(scale, -1.0), where=scale > 0))
    return (np.argmax(fits, 0) - reach) * seconds


def song_pairs(songs: Curves) -> list[tuple[str, str, str]]:
    """(person, song, another song): each track stands in one pair at most, with the person's next song."""
    waiting: dict[str, str] = {}
    out = []
    for song, people in songs.items():
        for who in people:
            if who in waiting:
                out.append((who, waiting.pop(who), song))
            else:
                waiting[who] = song
    return out


def pair_traits(songs: Curves, seconds: Mapping[str, float]) -> Pairs:
    """Traits in one song, and elsewhere, for each of ``KINDS``; ``seconds`` between two labels, by song."""
    of: dict[tuple[str, str], np.ndarray] = {}
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([np.empty((0, 4, 2))], [np.empty((0, 4, 2))])
    for song, people in songs.items():
        if len(people) < 2:
            continue
        values = np.stack(list(people.values()))  # (N, T, 2)
        for who, row in zip(people, traits(values, seconds[song]), strict=True):
            of[song, who] = row
        middle = values.shape[1] // 2
        if values.shape[1] >= FEWEST:
            halves[0].append(traits(values[:, :middle], seconds[song]))
            halves[1].append(traits(values[:, middle:], seconds[song]))
    groups: dict[tuple[str, str], list[str]] = {}
    for who, song, other in song_pairs(songs):
        if (song, who) in of and (other, who) in of:
            groups.setdefault((song, other), []).append(who)
    same, placebo = [], []
    for (song, other), group in groups.items():
        same += [(of[song, who], of[other, who]) for who in group]
        if len(group) > 1:
            placebo += [(of[song, a], of[other, b]) for a, b in zip(group, group[1:] + group[:1], strict=True)]
    lists = {"another song": same, "somebody else": placebo}
    out = {kind: tuple(np.array([pair[k] for pair in pairs]).reshape(-1, 4, 2) for k in (0, 1)) for kind, pairs in lists.items()}
    return out | {"same song": (np.concatenate(halves[0]), np.concatenate(halves[1]))}


def comebacks(pairs: Pairs, independent: bool) -> dict[str, Any]:
    """How far each trait comes back: ``{trait: {kind: {dimension: {"r", "low", "high", "n", "deciles"}}}}``.

    That is the rank correlation (Spearman; None if there is none), its 95 % interval (Bonett and Wright 2000), pairs of tracks, and
    how many of them are in which tenth here (row) and there (column). There are intervals only where the pairs are ``independent``,
    each person in one of them, and none for two halves of a song, in which everybody is measured against the same others.
    """
    out: dict[str, Any] = {}
    for t, trait in enumerate(TRAITS):
        out[trait] = {}
        for kind, (here, there) in pairs.items():
            cells = out[trait][kind] = {d: _comeback(here[:, t, k], there[:, t, k]) for k, d in enumerate(DIMENSIONS)}
            for cell in cells.values():
                if independent and kind != "same song" and cell["n"] > 3 and cell["r"] is not None:
                    reach = 1.96 * np.sqrt((1 + cell["r"] ** 2 / 2) / (cell["n"] - 3))
                    low, high = np.tanh(np.arctanh(np.clip(cell["r"], -0.999, 0.999)) + reach * np.array([-1, 1]))
                    cell |= {"low": float(low), "high": float(high)}
    return out


def _comeback(here: np.ndarray, there: np.ndarray) -> dict[str, Any]:
    both = np.isfinite(here) & np.isfinite(there)
    ranks = np.stack([rankdata(here[both]), rankdata(there[both])])  # (2, n), ties share a rank
    n = ranks.shape[1]
    moves = n > 1 and bool((np.ptp(ranks, axis=1) > 0).all())
    tenths = np.minimum((ranks - 0.5) / max(n, 1) * 10, 9).astype(int)
    table = np.zeros((10, 10), int)
    np.add.at(table, tuple(tenths), 1)
    r = float(np.corrcoef(ranks)[0, 1]) if moves else None
    return {"r": r, "n": n, "deciles": [" ".join(map(str, row)) for row in table.tolist()]}
