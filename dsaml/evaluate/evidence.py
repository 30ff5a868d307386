"""What is worth knowing of a listener: nothing, another song of theirs, or the first half of the same song.

All predictors are asked for the same thing, the second half of a track, and none hears the music: those that need it are given
the mean curve of the others who rated the song (an oracle of the average listener). So what differs between the rows is the
evidence alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from dsaml.config import DIMENSIONS
from dsaml.evaluate import metrics
from dsaml.evaluate.structure import Curves
from dsaml.evaluate.traits import FEWEST, song_pairs

BLOCKS = 20  # of neighbouring songs: what is fitted is fitted on the other 19, and intervals leave out one at a time
OTHERS = "the others' mean curve"
EXAGGERATED = 3.0  # factor on the movement of the others' mean curve, to show what CCC rewards
NOTHING, SONG, HALF = "nothing", "another song", "the first half"
ROWS = {
    "a constant": NOTHING,
    OTHERS: NOTHING,
    f"the same, its movement times {EXAGGERATED:g}": NOTHING,
    "the song's mean": SONG,
    "others' curve + the song's offset": SONG,
    "others' curve + a learned part of that offset": SONG,
    "the half's mean": HALF,
    "the half's last value": HALF,
    "others' curve + the half's offset": HALF,
    "others' curve + learned parts of its last and mean offset": HALF,
}
"""What is predicted, and what has to be known of the listener for it."""
SCORES = ("rmse", "level", "ccc", "shape")
"""RMSE; absolute difference of the means; CCC; CCC of the curves less their means."""


def jackknife(without: np.ndarray) -> np.ndarray:
    """Half widths of 95 % intervals from estimates that each leave one block out, shape (blocks, ...) (Shao and Wu 1989)."""
    blocks = len(without)
    spread = ((without - without.mean(0)) ** 2).sum(0) * (blocks - 1) / blocks
    return stats.t.ppf(0.975, blocks - 1) * np.sqrt(spread)


def block_of(songs: Curves) -> dict[str, int]:
    """Song -> number of its block of neighbours; there are no more blocks than songs."""
    count = min(BLOCKS, len(songs))
    return {song: place * count // len(songs) for place, song in enumerate(songs)}


def evidence(songs: Curves, intervals: bool) -> dict[str, Any] | None:
    """Scores of every row of ``ROWS``, mean over tracks.

    Parameters
    ----------
    songs : mapping of song id to mapping of annotator id to ndarray, shape (T, 2)
        Neighbouring songs stand beside each other.
    intervals : bool
        Also the 95 % interval of what each row's RMSE is above that of ``OTHERS``; it leaves out blocks of songs, so it is right
        only where people stay within a block.

    Returns
    -------
    dict or None
        ``{"tracks": n, "rows": {row: {dimension: {score: mean}}}}``, with ``rmse_above: {mean, low, high}``; None where nobody
        rated two songs of 12 labels or more.
    """
    block = block_of(songs)
    asked = [a for a in _questions(songs) if a]
    if len({block[a["song"]] for a in asked}) < 2:
        return None
    fold = np.concatenate([[block[f] for f in a["fold"]] for a in asked])
    answers = _answers(songs, asked, fold, block)
    scores = {
        row: np.concatenate([_scores(p, a["target"]) for p, a in zip(parts, asked, strict=True)])
        for row, parts in answers.items()
    }
    rows: dict[str, Any] = {}
    for row, each in scores.items():  # each: (tracks, 4 scores, 2)
        means = each.mean(0)
        rows[row] = {d: {s: float(means[i, k]) for i, s in enumerate(SCORES)} for k, d in enumerate(DIMENSIONS)}
        if intervals and row != OTHERS:
            above = (each - scores[OTHERS])[:, 0]  # (tracks, 2)
            reach = jackknife(np.array([above[fold != b].mean(0) for b in np.unique(fold)]))
            for k, d in enumerate(DIMENSIONS):
                mean = float(above[:, k].mean())
                low, high = mean - float(reach[k]), mean + float(reach[k])
                rows[row][d]["rmse_above"] = {"mean": mean, "low": low, "high": high}
    return {"tracks": len(fold), "rows": rows}


def _questions(songs: Curves) -> list[dict[str, Any]]:
    """For each song the tracks that can be asked for, with all that may be known of them."""
    known: dict[str, dict[str, tuple[str, str]]] = {}  # song -> person -> (their other song, the first of the two)
    for who, first, second in song_pairs(songs):
        known.setdefault(first, {})[who] = second, first
        known.setdefault(second, {})[who] = first, first
    means = {song: np.mean([v.mean(0) for v in people.values()], 0) for song, people in songs.items()}
    out = []
    for song, people in songs.items():
        names = [who for who in people if who in known.get(song, {})]
        steps = len(next(iter(people.values()), []))
        if steps < FEWEST or len(people) < 2 or not names:
            continue
        every, middle = np.stack(list(people.values())), steps // 2
        mine = np.stack([people[who] for who in names])  # (n, T, 2)
        others = (every.sum(0) - mine) / (len(every) - 1)
        away = [songs[known[song][who][0]][who].mean(0) for who in names]
        rest = [
            (means[s] * len(songs[s]) - level) / (len(songs[s]) - 1) if len(songs[s]) > 1 else level
            for level, s in zip(away, (known[song][who][0] for who in names), strict=True)
        ]
        gap = mine - others
        out.append(
            {
                "song": song,
                "fold": [known[song][who][1] for who in names],
                "target": mine[:, middle:],
                "others": others[:, middle:],
                "deviation": gap[:, middle:].mean(1),  # (n, 2), as all below
                "song_mean": np.array(away),
                "song_offset": np.array(away) - np.array(rest),
                "half_mean": mine[:, :middle].mean(1),
                "half_last": mine[:, middle - 1],
                "half_offset": gap[:, :middle].mean(1),
                "last_offset": gap[:, middle - 1],
            }
        )
    return out


def _answers(songs: Curves, asked: list[dict[str, Any]], fold: np.ndarray, block: Mapping[str, int]) -> dict[str, list[np.ndarray]]:
    """Row -> for each song curves (n, T, 2)."""
    wanted = ("deviation", "song_offset", "half_offset", "last_offset")
    pooled = {key: np.concatenate([a[key] for a in asked]) for key in wanted}
    constant, small, both = np.zeros((len(fold), 2)), np.zeros((len(fold), 2)), np.zeros((len(fold), 2))
    sums = {s: (np.sum([v.sum(0) for v in p.values()], 0), sum(map(len, p.values()))) for s, p in songs.items()}
    for b in np.unique(fold):
        seen, here = fold != b, fold == b
        kept = [sums[s] for s in songs if block[s] != b]
        constant[here] = sum(total for total, _ in kept) / sum(count for _, count in kept)
        for d in range(2):
            truth = pooled["deviation"][:, d]
            for out, names in ((small, ["song_offset"]), (both, ["last_offset", "half_offset"])):
                given = np.stack([pooled[name][:, d] for name in names], 1)
                out[here, d] = given[here] @ np.linalg.lstsq(given[seen], truth[seen], rcond=None)[0]
    cuts = np.cumsum([len(a["fold"]) for a in asked])[:-1]
    answers: dict[str, list[np.ndarray]] = {row: [] for row in ROWS}
    for a, flat, part, parts in zip(asked, *(np.split(x, cuts) for x in (constant, small, both)), strict=True):
        others = a["others"]
        middle = others.mean(1, keepdims=True)
        levels = {0: flat, 3: a["song_mean"], 6: a["half_mean"], 7: a["half_last"]}
        shifts = {1: 0 * flat, 4: a["song_offset"], 5: part, 8: a["half_offset"], 9: parts}
        made = {k: np.broadcast_to(v[:, None], others.shape) for k, v in levels.items()}
        made |= {k: others + v[:, None] for k, v in shifts.items()} | {2: middle + EXAGGERATED * (others - middle)}
        for k, row in enumerate(ROWS):
            answers[row].append(made[k])
    return answers


def _scores(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``SCORES`` of curves (n, T, 2): (n, 4, 2)."""
    x, y = prediction.swapaxes(1, 2), target.swapaxes(1, 2)  # (n, 2, T)
    level = np.abs(x.mean(-1) - y.mean(-1))
    shape = metrics.ccc(x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True))
    return np.stack([metrics.rmse(x, y), level, metrics.ccc(x, y), shape], 1)


def level_error_left(share: float, songs: int) -> tuple[float, float]:
    """How much of the error in a listener's level is left, by what their other songs tell of it.

    The model: what a listener's level in a song is above the average listener's is an own part that is the same in every song, and
    a part of that song alone; both are normal (crossed random effects). Without any song the error is 1.

    Parameters
    ----------
    share : float
        The own part's share of the variance, 0 to 1.
    songs : int
        How many songs of the listener are known.

    Returns
    -------
    by_subtraction, by_shrinkage : float
        Root mean square errors: after adding the mean offset in the known songs, and after adding the best part of it.
    """
    subtraction = np.sqrt((1 - share) * (1 + 1 / songs))
    shrinkage = np.sqrt(1 - share**2 / (share + (1 - share) / songs)) if share else 1.0
    return float(subtraction), float(shrinkage)
