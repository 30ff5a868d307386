"""What is worth knowing of a listener: nothing, another song of theirs, or the first half of the same song.

All predictors are asked for the same thing, the second half of a track, and none hears the music: those that need it are given
the mean curve of the others who rated the song (an oracle of the average listener). So what differs between the rows is the
evidence alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from dsaml.config import DIMENSIONS
from dsaml.evaluate.metrics import FUNCTIONS, LEVEL_AND_SHAPE
from dsaml.evaluate.structure import Curves
from dsaml.evaluate.traits import FEWEST, song_pairs

BLOCKS = 20  # of neighbouring songs: what is fitted is fitted on the other 19, and intervals leave out one at a time
EXAGGERATED = 3.0  # factor on the movement of the others' mean curve, to show what CCC rewards
Asked = dict[str, Any]
"""A song whose second half is asked for, of n people, with all that may be known of them: arrays (n, 2) and (n, T, 2)."""


def _held(level: str) -> Callable[[Asked], np.ndarray]:
    return lambda asked: np.broadcast_to(asked[level][:, None], asked["others"].shape)


def _shifted(offset: str) -> Callable[[Asked], np.ndarray]:
    return lambda asked: asked["others"] + asked[offset][:, None]


def _exaggerated(asked: Asked) -> np.ndarray:
    middle = asked["others"].mean(1, keepdims=True)
    return middle + EXAGGERATED * (asked["others"] - middle)


OTHERS = "the others' mean curve"
NOTHING, SONG, HALF = "nothing", "another song", "the first half"
ROWS: dict[str, tuple[str, Callable[[Asked], np.ndarray]]] = {
    "a constant": (NOTHING, _held("constant")),
    OTHERS: (NOTHING, lambda asked: asked["others"]),
    f"the same, its movement times {EXAGGERATED:g}": (NOTHING, _exaggerated),
    "the song's mean": (SONG, _held("song_mean")),
    "others' curve + the song's offset": (SONG, _shifted("song_offset")),
    "others' curve + a learned part of that offset": (SONG, _shifted("song_part")),
    "the half's mean": (HALF, _held("half_mean")),
    "the half's last value": (HALF, _held("half_last")),
    "others' curve + the half's offset": (HALF, _shifted("half_offset")),
    "others' curve + learned parts of its last and mean offset": (HALF, _shifted("half_parts")),
}
"""What is predicted: what has to be known of the listener for it, and how it is made, curves (n, T, 2)."""
LEARNED = {"song_part": ["song_offset"], "half_parts": ["last_offset", "half_offset"]}
"""Which offsets the parts are of: least squares for the deviation from the others in the second half."""


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
    """Scores of every row of ``ROWS``: ``{"tracks": n, "rows": {row: {dimension: {score: mean over tracks}}}}``.

    Neighbouring songs stand beside each other in ``songs``. With ``intervals`` also ``rmse_above: {mean, low, high}``, what each
    row's RMSE is above that of ``OTHERS``: the interval leaves out blocks of songs, so it is right only where people stay within a
    block. None where nobody rated two songs of 12 labels or more.
    """
    block = block_of(songs)
    asked = questions(songs, block)
    if len({block[a["song"]] for a in asked}) < 2:
        return None
    learn(songs, asked, block)
    fold = np.concatenate([a["fold"] for a in asked])
    scores = {row: np.concatenate([_scores(say(a), a["target"]) for a in asked]) for row, (_, say) in ROWS.items()}
    rows: dict[str, Any] = {}
    for row, each in scores.items():  # each: (tracks, 4 scores, 2)
        means = each.mean(0)
        rows[row] = {d: {s: float(means[i, k]) for i, s in enumerate(LEVEL_AND_SHAPE)} for k, d in enumerate(DIMENSIONS)}
        if intervals and row != OTHERS:
            above = (each - scores[OTHERS])[:, 0]  # (tracks, 2)
            reach = jackknife(np.array([above[fold != b].mean(0) for b in np.unique(fold)]))
            for k, d in enumerate(DIMENSIONS):
                mean = float(above[:, k].mean())
                low, high = mean - float(reach[k]), mean + float(reach[k])
                rows[row][d]["rmse_above"] = {"mean": mean, "low": low, "high": high}
    return {"tracks": len(fold), "rows": rows}


def questions(songs: Curves, block: Mapping[str, int]) -> list[Asked]:
    """For each song the tracks that can be asked for, with all that is known of them without learning."""
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
        pairs = [known[song][who] for who in names]
        away = [songs[other][who].mean(0) for who, (other, _) in zip(names, pairs, strict=True)]
        rest = [  # the others' mean in the other song
            (means[s] * len(songs[s]) - level) / (len(songs[s]) - 1) if len(songs[s]) > 1 else level
            for level, (s, _) in zip(away, pairs, strict=True)
        ]
        gap = mine - others
        out.append(
            {
                "song": song,
                "fold": np.array([block[first] for _, first in pairs]),
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


def learn(songs: Curves, asked: list[Asked], block: Mapping[str, int]) -> None:
    """Put ``constant`` and ``LEARNED`` into all that is asked, learned without its own block of songs."""
    pooled = {key: np.concatenate([a[key] for a in asked]) for key in asked[0] if key.endswith(("deviation", "offset", "fold"))}
    fold, found = pooled["fold"], {name: np.zeros_like(pooled["deviation"]) for name in ("constant", *LEARNED)}
    sums = {s: (np.sum([v.sum(0) for v in p.values()], 0), sum(map(len, p.values()))) for s, p in songs.items()}
    for b in np.unique(fold):
        seen, here = fold != b, fold == b
        kept = [sums[s] for s in songs if block[s] != b]
        found["constant"][here] = sum(total for total, _ in kept) / sum(count for _, count in kept)
        for d in range(2):
            truth = pooled["deviation"][:, d]
            for name, offsets in LEARNED.items():
                given = np.stack([pooled[offset][:, d] for offset in offsets], 1)
                found[name][here, d] = given[here] @ np.linalg.lstsq(given[seen], truth[seen], rcond=None)[0]
    cuts = np.cumsum([len(a["fold"]) for a in asked])[:-1]
    for name, values in found.items():
        for a, part in zip(asked, np.split(values, cuts), strict=True):
            a[name] = part


def _scores(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``LEVEL_AND_SHAPE`` of curves (n, T, 2): (n, 4, 2)."""
    x, y = prediction.swapaxes(1, 2), target.swapaxes(1, 2)  # (n, 2, T)
    return np.stack([FUNCTIONS[name](x, y) for name in LEVEL_AND_SHAPE], 1)


def level_error_left(share: float, songs: int) -> tuple[float, float]:
    """How much of the error in a listener's level is left, by what their other songs tell of it.

    The model: what a listener's level in a song is above the average listener's is an own part that is the same in every song, and
    a part of that song alone; both are normal (crossed random effects). Without any song the error is 1.

    ``share`` is the own part's of the variance, 0 to 1. Two root mean square errors: after adding the mean offset in so many known
    songs (by subtraction), and after adding the best part of it (by shrinkage).
    """
    subtraction = np.sqrt((1 - share) * (1 + 1 / songs))
    shrinkage = np.sqrt(1 - share**2 / (share + (1 - share) / songs)) if share else 1.0
    return float(subtraction), float(shrinkage)
