"""How labels vary: what all listeners share, what is one listener's own, and how much of that can be known.

A label is taken apart as ``song + annotator + annotator x song + shared dynamics + own dynamics and noise``. The first three are
about levels (a track's mean over time), the last two about what happens around them. The estimators are moments of crossed
random effects (Searle, Casella and McCulloch, Variance Components, 1992), unbiased also where only some of the tracks exist, and
where it is not chance who rated which songs:

- annotator: the covariance, over the listeners of two songs, of their levels in one and in the other; mean over all pairs of songs
- annotator x song: the variance of levels within a song, less the annotator's
- song: the squared difference of two songs' mean levels, less what their listeners contribute to it; mean over all pairs
- shared dynamics: the mean product, over time and pairs of listeners, of what moves around the levels; own dynamics are the rest

*Disagreement* is all that listeners do not share: annotator, annotator x song, own dynamics and noise. Its *structured* share is
what the same listener would feel again: everything but the rating noise. Only a simulation knows it (its oracle). Real labels
bound it from below by the annotator's own share, which is the same in another song; without a second rating of the same song by
the same person nothing bounds it from above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dsaml.config import DIMENSIONS
from dsaml.data import Dataset
from dsaml.data.annotations import Annotation
from dsaml.data.synthetic import population
from dsaml.data.synthetic.population import CorpusConfig, Listener, Plan
from dsaml.errors import DsamlError
from dsaml.evaluate.metrics import mean_scores, score

Tracks = Mapping[str, Mapping[str, Annotation]]
"""Annotator id -> song id -> track, as in :class:`dsaml.data.Dataset`."""

Curves = Mapping[str, Mapping[str, np.ndarray]]
"""Song id -> annotator id -> arousal and valence, (T, 2)."""

_RIDGES = 10.0 ** np.arange(-4, 2.0)
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


def decompose(songs: Curves) -> Structure:
    """Variance components of labels, as :func:`by_song` gives them; T may differ between songs, not within one.

    Raises
    ------
    DsamlError
        If no two songs have two listeners in common: nothing tells annotator and annotator x song apart then.
    """
    songs = {song: people for song, people in songs.items() if len(people) > 1}
    song, annotator, annotator_song = level_variances(songs)
    shared, own, correlation = zip(*map(_dynamics, songs.values()), strict=True)
    return Structure(
        song=song,
        annotator=annotator,
        annotator_song=annotator_song,
        shared_dynamics=np.mean(shared, 0),
        own=np.mean(own, 0),
        correlation=np.nanmean(correlation, 0),
        tracks=sum(map(len, songs.values())),
    )


def level_variances(songs: Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Variances, (2,) each, of song, annotator and annotator x song: of the tracks' means over time.

    Raises
    ------
    DsamlError
        If no two songs have two listeners in common.
    """
    column = {who: k for k, who in enumerate(dict.fromkeys(who for people in songs.values() for who in people))}
    levels, there = np.zeros((2, len(songs), len(column))), np.zeros((len(songs), len(column)))
    for row, people in enumerate(songs.values()):
        for who, values in people.items():
            levels[:, row, column[who]], there[row, column[who]] = values.mean(0), 1
    # for the digits' sake: what follows does not see it
    levels -= levels.sum((1, 2), keepdims=True) / max(there.sum(), 1)
    levels *= there
    count, both = there.sum(1), there @ there.T
    means = levels.sum(2) / count
    pair = np.triu(np.ones_like(both, dtype=bool), 1)
    common = pair & (both > 1)
    if not common.any():
        raise DsamlError("tracks: no two songs have two listeners in common, so nothing can be taken apart; give more songs")
    inside = (levels**2).sum(2) - count * means**2
    within_song = inside.sum(1) / (count - 1).sum()
    sums = levels @ there.T  # (2, songs, songs): sum of a song's levels over the listeners it shares with another
    products = levels @ levels.transpose(0, 2, 1) - sums * sums.transpose(0, 2, 1) / np.maximum(both, 1)
    annotator = products[:, common].sum(1) / (both[common] - 1).sum()
    weight = 1 / count[:, None] + 1 / count[None]
    gaps = (means[:, :, None] - means[:, None]) ** 2 / 2
    listeners = within_song[:, None, None] * weight / 2 - annotator[:, None, None] * both / np.outer(count, count)
    return (gaps - listeners)[:, pair].mean(1), annotator, within_song - annotator


def _dynamics(people: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one song: variances of shared and of own movement around the levels, and the listeners' mean correlation, (2,) each."""
    moved = np.stack([v - v.mean(0) for v in people.values()])  # (annotators, T, 2)
    size, steps = moved.shape[:2]
    total = (moved**2).sum((0, 1)) / steps
    shared = ((moved.sum(0) ** 2).sum(0) / steps - total) / (size * (size - 1))
    return shared, total / size - shared, np.array([_mean_correlation(moved[..., d]) for d in (0, 1)])


def _mean_correlation(moved: np.ndarray) -> float:
    """Mean correlation of two rows of (annotators, T), those that do not move left out; NaN for fewer than two."""
    size = np.sqrt((moved**2).sum(1))
    unit = moved[size > 1e-9] / size[size > 1e-9, None]
    count = len(unit)
    return float(((unit.sum(0) ** 2).sum() - count) / (count * (count - 1))) if count > 1 else float("nan")


def calibration(dataset: Dataset) -> dict[str, dict[str, float]]:
    """Spread of the labels by dimension, to lay beside the real data sets': disagreement at a step, and inside averaged labels."""
    groups: dict[str, list[np.ndarray]] = {}
    for tracks in dataset.tracks.values():
        for song_id, track in tracks.items():
            groups.setdefault(song_id, []).append(track.values)
    spread = [np.std([v[:60] for v in values], axis=0).mean(0) for values in groups.values() if len(values) > 2]
    rows = {"step disagreement (SD over annotators)": np.mean(spread, 0) if spread else np.full(2, np.nan)}
    parts = {"training clips": dataset.split.songs["train"], "test songs": dataset.split.songs["test"]}
    for name, ids in parts.items():
        inside = [dataset.mean[i].values.std(0) for i in ids if i in dataset.mean]
        rows[f"within-song SD of the averaged label, {name}"] = np.mean(inside, 0)
    return {name: dict(zip(DIMENSIONS, map(float, values), strict=True)) for name, values in rows.items()}


def simulate(config: CorpusConfig) -> tuple[Curves, Curves, Curves]:
    """Curves of an embedded corpus' test part without its sound: what the listeners wrote down, what they heard (all but the
    rating noise), and what the music and their traits tell, without the moods of single songs.
    """
    rated, heard, lasting = {}, {}, {}
    people = {person.id: person for person in population.make_listeners(config, "test")}
    for plan, true, written in _test_part(config):
        song = str(plan.song_id)
        rated[song], heard[song], lasting[song] = written, true, _heard_by(people, true, config, plan)
    return rated, heard, lasting


def _test_part(config: CorpusConfig) -> Iterator[tuple[Plan, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Each test song with what listeners heard and what they wrote down."""
    yield from ((plan, *population.hear_and_rate(config, plan)) for plan in population.make_plans(config) if plan.part == "test")


def _heard_by(people: Mapping[str, Listener], names: Iterable[str], config: CorpusConfig, plan: Plan) -> dict[str, np.ndarray]:
    """What listeners hear in a song when they are in no mood: curves (T, 2) by name."""
    world = population.make_controls(config, plan.song_id, plan.steps, plan.flat)
    return {who: population.true_curve(config, *world, people[who]) for who in names}


def two_signs(config: CorpusConfig) -> dict[str, np.ndarray]:
    """How much of the default population two signs tell, each (arousal, valence).

    A listener is replaced by the one with the same signs of z, and average in everything else. ``variance`` is the share of the
    variance between the listeners' true curves that this explains, ``ccc`` the mean CCC with the listeners' labels.

    Raises
    ------
    DsamlError
        If the population is another one.
    """
    if config.population != "two-signs":
        raise DsamlError(f"the population '{config.population}' does not differ by two signs; give the default corpus")
    lag, listeners = (config.shortest_lag + config.longest_lag) / 2, population.make_listeners(config, "test")
    people = {p.id: Listener(p.id, tuple(np.sign(p.z)), (1.0, 1.0), (0.0, 0.0), lag) for p in listeners}
    left, between, scores = np.zeros(2), np.zeros(2), []
    for plan, heard, rated in _test_part(config):
        curves, true = (np.stack(list(c.values())) for c in (_heard_by(people, heard, config, plan), heard))
        left += ((true - curves) ** 2).mean((0, 1))
        between += ((true - true.mean(0)) ** 2).mean((0, 1))
        scores += [score(c, y) for c, y in zip(curves, rated.values(), strict=True)]
    ccc = mean_scores(scores)
    return {"variance": 1 - left / between, "ccc": np.array([ccc[d]["ccc"] for d in DIMENSIONS])}


def knowable(
    config: CorpusConfig, supports: Sequence[int] = (1, 5), songs: int = 8, listeners: int = 2400
) -> dict[int, np.ndarray]:
    """Share of disagreement on a song that other songs, rated by the same listener, tell: (arousal, valence) by number of songs.

    By simulation: the best linear guess (ridge regression on means over 6 s) of somebody who has seen many listeners rate the very
    same songs, for new listeners. Nothing that is given less can be expected to do much better.
    """
    config = replace(config, test_listeners=listeners, test_songs=songs, long_songs=0)
    ratings = np.stack([np.stack(list(rated.values())) for *_, rated in _test_part(config)])  # (songs, listeners, 60, 2)
    ratings -= ratings.mean(1, keepdims=True)
    coarse = ratings.reshape(songs, listeners, 5, 12, 2).mean(3)
    total, out = (ratings**2).sum((0, 1, 2)), {}
    for number in supports:
        left = np.zeros(2)
        for turn in range(4):  # half of the listeners to fit, a quarter to choose the ridge, a quarter to score: each once
            order = np.roll(np.arange(listeners), turn * listeners // 4)
            seen, choice, new = np.split(order, [listeners // 2, 3 * listeners // 4])
            errors = np.zeros((len(_RIDGES), 2, 2))  # of each ridge: on those who choose, and on the new
            for k in range(songs):
                given = [(k + 1 + i) % songs for i in range(number)]
                x = coarse[given].transpose(1, 0, 2, 3).reshape(listeners, -1)
                y = ratings[k].reshape(listeners, -1)
                inner, outer, eye = x[seen].T @ x[seen], x[seen].T @ y[seen], np.eye(x.shape[1])
                for row, ridge in enumerate(_RIDGES):
                    guess = x @ np.linalg.solve(inner + ridge * len(seen) * eye, outer)
                    gaps = (guess - y).reshape(ratings[k].shape) ** 2
                    errors[row] += gaps[choice].sum((0, 1)), gaps[new].sum((0, 1))
            left += errors[errors[:, 0].sum(1).argmin(), 1]
        out[number] = 1 - left / total
    return out


def summary(structure: Structure) -> dict[str, str]:
    """The structure as text for pages: shares in percent, the rest with two digits after the point; keys end in the dimension."""
    lower = structure.annotator / structure.disagreement()
    rows = {name.replace(" ", "_"): share for name, share in zip(COMPONENTS, structure.shares(), strict=True)}
    out: dict[str, str] = {}
    for k, d in enumerate(DIMENSIONS):
        out |= {f"{name}_{d}": percent(share[k]) for name, share in rows.items()}
        out |= {f"lower_{d}": percent(max(lower[k], 0)), f"agreement_{d}": percent(structure.agreement()[k])}
        out |= {f"correlation_{d}": f"{structure.correlation[k]:.2f}"}
    return out


def percent(share: float) -> str:
    """``0.268`` -> ``26.8 %``."""
    return f"{round(100 * share, 1) + 0.0:.1f} %"


def of_corpus(config: CorpusConfig) -> dict[str, str]:
    """:func:`summary` of a simulated corpus' test part, with what only a simulation knows."""
    rated, heard, lasting = (decompose(curves) for curves in simulate(config))
    rows = {name: s.disagreement() / rated.disagreement() for name, s in (("structured", heard), ("lasting", lasting))}
    rows |= {f"knowable_{number}": share for number, share in knowable(config).items()}
    ccc = {}
    if config.population == "two-signs":
        signs = two_signs(config)
        rows["signs"] = signs["variance"]
        ccc = {f"signs_ccc_{d}": f"{signs['ccc'][k]:.2f}" for k, d in enumerate(DIMENSIONS)}
    shares = {f"{name}_{d}": percent(share[k]) for name, share in rows.items() for k, d in enumerate(DIMENSIONS)}
    return summary(rated) | shares | ccc
