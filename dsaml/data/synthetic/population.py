"""The simulated world of the embedded corpora: what the songs do, who listens, and what they hear.

A listener's curve is ``tanh(s u_d + kappa z_d q_d + bell)`` for each dimension d, delayed by a personal lag, with a gain and an
offset; smooth noise is added where it is rated. ``u_d`` is what everybody shares, ``q_d`` the listener's own direction. There
are two populations, and they hear the same songs:

*two-signs*, the default
    ``q_d`` is one direction for all, over controls that the *other* dimension's shared part needs, and its sign ``z_d`` is the
    person: one listener finds loud and percussive music pleasant, another unpleasant. The averaged label loses exactly what
    makes a listener that listener. It is the kind of difference that the method is built to find.
*continuous*, the stress test (:data:`STRESS`)
    every listener has a random direction over all seven controls and a normal ``z_d``, so there are no two camps; a mood
    (:class:`Session`) moves each of their songs by an amount that no other song tells; labels move little within a song
    and are rated with noise as large as people's. The sizes follow labels of real people (:mod:`dsaml.evaluate.structure`).

Nothing here is real, and every result computed on it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dsaml.config import DIMENSIONS, LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN
from dsaml.data.synthetic.sound import CONTROLS

Population = Literal["two-signs", "continuous"]

SHARED = {  # what everybody hears: weights of the controls
    "arousal": {"loudness": 0.55, "density": 0.25, "brightness": 0.10, "percussiveness": 0.35},
    "valence": {"mode": 0.45, "consonance": 0.42, "register": 0.35},
}
PERSONAL = {  # what listeners of "two-signs" disagree about, with the sign z = +1 or -1
    "arousal": {"register": 0.75, "consonance": -0.65},
    "valence": {"loudness": 0.85, "percussiveness": 0.80},
}


@dataclass(frozen=True)
class CorpusConfig:
    """Size and statistics of an embedded corpus."""

    population: Population = "two-signs"  # who listens; the songs are the same
    seed: int = 0  # everything follows from it
    train_songs: int = 160  # 45 s clips, ids from 1001
    validation_songs: int = 20  # 45 s clips, ids after the training clips
    test_songs: int = 20  # 45 s songs, ids from 2001
    long_songs: int = 6  # 90-150 s songs, ids after the test songs
    train_listeners: int = 40
    validation_listeners: int = 8
    test_listeners: int = 20
    ratings_per_song: int = 12  # listeners per training clip; validation and test listeners rate all their songs
    shared_scale: float = 1.0  # s
    personal_scale: float = 0.82  # kappa
    level_spread: float = 0.85  # song levels of the controls are uniform in +- this
    flat_share: float = 0.5  # share of training clips that hardly move, as most DEAM clips do
    flat_motion: float = 0.06  # SD of a section around the song's level, in such clips
    motion: float = 0.4  # the same in all other songs
    bell_share: float = 0.25  # share of songs with a bell
    bell_lift: float = 0.35  # what the bell adds 8-15 s later, before tanh
    response: float = 1.0  # how far listeners follow the music away from the song's mean; 1 is all the way
    gain_spread: float = 0.08  # SD of the gains around 1
    offset_spread: float = 0.04  # SD of the offsets
    shortest_lag: float = 1.0  # s; lags are uniform
    longest_lag: float = 2.5  # s
    range_spread: float = 0.0  # SD over listeners of the log of what they use of the scale within a song
    mood_range: float = 0.0  # SD over the songs of one listener of the same
    mood_level: float = 0.0  # SD of what one listener adds to one song, from its start to its end
    noise: float = 0.04  # SD of the rating noise (AR(1) at 2 Hz)
    noise_memory: float = 0.7  # correlation of the noise with itself 0.5 s earlier


TWO_SIGNS = CorpusConfig()  # the default
STRESS = CorpusConfig(  # sizes chosen so that the shares of variance come near those of VGMIDI's listeners (data/listeners.json)
    population="continuous",
    shared_scale=0.75,  # a quarter of the variance lies between songs
    personal_scale=0.30,  # lasting tastes: a fifth of the listeners' disagreement (real share unknown; see mood_level)
    response=0.5,  # people move little within a song: shared dynamics are 1 to 2 % of the variance
    gain_spread=0.15,  # reactions differ in strength; no stable trait is seen in real labels, so it is small
    offset_spread=0.07,  # a listener's own level in all songs: 2 to 4 % of the variance
    longest_lag=4.0,  # s; real lags are no stable trait, and reactions to music take 1 to 4 s
    range_spread=0.5,  # use of the scale within a song correlates about .4 between two songs of one listener
    mood_range=0.55,  # and the rest of it is new in each song
    mood_level=0.22,  # with taste and slow noise, half of the variance; nobody can know it from another song
    noise=0.27,  # own dynamics and noise: a fifth of the variance
    noise_memory=0.94,  # slow drifts, as in real labels: halves of one song agree in level with .8
)
CONFIGS = {config.population: config for config in (TWO_SIGNS, STRESS)}
"""The configuration of each population."""
SMALL: dict[str, int] = {  # just enough songs and listeners for every protocol and for the paper's tasks of 1 + 15 songs
    "train_songs": 18,
    "validation_songs": 3,
    "test_songs": 15,
    "long_songs": 1,
    "train_listeners": 4,
    "validation_listeners": 1,
    "test_listeners": 2,
    "ratings_per_song": 4,
}
"""Sizes of a corpus on which a command is tried out, in place of those of its configuration."""


@dataclass(frozen=True)
class Listener:
    """One simulated person: for (arousal, valence) z, gain, offset and range; lag in seconds.

    ``range`` multiplies what moves within a song, the listener's own noise included; ``directions`` are the weights of the
    controls in ``q_d``.
    """

    id: str
    z: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]
    lag: float
    range: tuple[float, float] = (1.0, 1.0)
    directions: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: PERSONAL)


@dataclass(frozen=True)
class Session:
    """What a listener brings to one song and to no other, for (arousal, valence): nothing can learn it from another song."""

    level: tuple[float, float] = (0.0, 0.0)  # added from the song's start to its end
    range: tuple[float, float] = (1.0, 1.0)  # multiplies the listener's


def make_listeners(config: CorpusConfig, part: str) -> list[Listener]:
    """Listeners of one part; in "two-signs" the four sign combinations are balanced."""
    rng = np.random.default_rng([config.seed, 1, len(part)])
    return [_listener(config, rng, f"{part}-{number + 1:02d}", number) for number in range(getattr(config, f"{part}_listeners"))]


def _listener(config: CorpusConfig, rng: np.random.Generator, name: str, number: int) -> Listener:
    two_signs, directions = config.population == "two-signs", PERSONAL
    if two_signs:
        z = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)][number % 4]) * rng.normal(1.0, 0.12, 2)
    else:
        weights = rng.normal(size=(2, len(CONTROLS)))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)  # a direction is of length 1; z says how strongly it is felt
        directions = {d: dict(zip(CONTROLS, row.tolist(), strict=True)) for d, row in zip(DIMENSIONS, weights, strict=True)}
        z = rng.normal(0.0, 1.0, 2)
    return Listener(
        id=name,
        z=tuple(z),
        gain=tuple(rng.normal(1.0, config.gain_spread, 2)),
        offset=tuple(rng.normal(0.0, config.offset_spread, 2)),
        lag=float(rng.uniform(config.shortest_lag, config.longest_lag)),
        range=(1.0, 1.0) if two_signs else _log_normal(rng, config.range_spread),
        directions=directions,
    )


def _log_normal(rng: np.random.Generator, spread: float) -> tuple[float, float]:
    """Two factors whose logs have this SD and whose mean square is 1, so that ``noise`` stays the noise of the corpus."""
    return tuple(np.exp(spread * rng.normal(size=2) - spread**2))


def make_session(config: CorpusConfig, song_id: int, listener_number: int) -> Session:
    """The mood in which a listener, by the number within the part, hears one song; none in "two-signs"."""
    rng = np.random.default_rng([config.seed, 7, song_id, listener_number])
    level = tuple(rng.normal(0.0, config.mood_level, 2))
    return Session(level, _log_normal(rng, config.mood_range))


@dataclass(frozen=True)
class Plan:
    """One song before it is played."""

    song_id: int
    part: str
    steps: int  # of 0.5 s, from the start of the song
    flat: bool


def make_plans(config: CorpusConfig) -> list[Plan]:
    """All songs of a corpus."""
    rng = np.random.default_rng([config.seed, 4])
    plans = [Plan(1001 + n, "train", 90, rng.random() < config.flat_share) for n in range(config.train_songs)]
    first = 1001 + config.train_songs
    plans += [Plan(first + n, "validation", 90, False) for n in range(config.validation_songs)]
    plans += [Plan(2001 + n, "test", 90, False) for n in range(config.test_songs)]
    first = 2001 + config.test_songs
    return plans + [Plan(first + n, "test", int(rng.integers(180, 301)), False) for n in range(config.long_songs)]


def make_controls(config: CorpusConfig, song_id: int, steps: int, flat: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    """Controls (steps, 7) every 0.5 s from the start of the song, and the bell times in seconds."""
    rng = np.random.default_rng([config.seed, 2, song_id])
    level = rng.uniform(-config.level_spread, config.level_spread, len(CONTROLS))
    motion = config.flat_motion if flat else config.motion
    controls, filled = np.empty((steps, len(CONTROLS))), 0
    while filled < steps:
        length = int(rng.integers(10, 23))  # sections of 5 to 11 s
        controls[filled : filled + length] = np.clip(level + motion * rng.normal(size=len(CONTROLS)), -1, 1)
        filled += length
    kernel = np.ones(3) / 3  # sections fade into each other over 1.5 s
    padded = np.pad(controls, ((1, 1), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in range(len(CONTROLS))], 1)
    has_bell = rng.random() < config.bell_share and not flat
    if not has_bell:
        return smooth, ()
    return smooth, tuple(float(b) for b in np.arange(rng.uniform(16.0, 26.0), steps * STEP_SECONDS - 12.0, 40.0))


def true_curve(
    config: CorpusConfig,
    controls: np.ndarray,
    bells: tuple[float, ...],
    listener: Listener | None,
    session: Session = Session(),
) -> np.ndarray:
    """What a listener heard, before rating it: arousal and valence on the labelled part, shape (steps - 30, 2).

    ``None`` is the average listener (z = 0). Without its ``session`` the curve is what the music and the person's lasting
    traits tell: the best that anything which knows both, but was not there, could predict.
    """
    average = Listener(
        MEAN, (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (config.shortest_lag + config.longest_lag) / 2, average_range(config)
    )
    person = listener or average
    times = np.arange(len(controls)) * STEP_SECONDS
    lift = np.zeros(len(controls))
    for bell in bells:
        lift[(times >= bell + 8.0) & (times < bell + 15.0)] = config.bell_lift
    columns = []
    for d, dimension in enumerate(DIMENSIONS):
        response = config.response * person.range[d] * session.range[d]
        heard = controls - (1 - response) * (controls - controls.mean(0))
        shared = sum(w * heard[:, CONTROLS.index(name)] for name, w in SHARED[dimension].items())
        personal = sum(w * heard[:, CONTROLS.index(name)] for name, w in person.directions[dimension].items())
        raw = np.tanh(config.shared_scale * shared + config.personal_scale * person.z[d] * personal + response * lift)
        delayed, state, rate = [], float(raw[0]), float(1 - np.exp(-STEP_SECONDS / (person.lag / 2)))
        for value in raw.tolist():  # a first-order lag: attention follows the music late
            state += rate * (value - state)
            delayed.append(state)
        columns.append(np.clip(person.gain[d] * np.array(delayed) + person.offset[d] + session.level[d], -1, 1))
    return np.stack(columns, 1)[int(LABEL_START / STEP_SECONDS) :]


def average_range(config: CorpusConfig) -> tuple[float, float]:
    """The mean over listeners and songs of the factor by which they move: log-normal, of mean square 1."""
    mean = float(np.exp(-(config.range_spread**2 + config.mood_range**2) / 2))
    return mean, mean


def rate(
    config: CorpusConfig,
    curve: np.ndarray,
    song_id: int,
    listener_number: int,
    size: tuple[float, float] = (1.0, 1.0),
) -> np.ndarray:
    """The curve as the listener wrote it down: smooth noise added, ``size`` times the configuration's, clipped to the scale."""
    rng = np.random.default_rng([config.seed, 3, song_id, listener_number])
    keep, new = config.noise_memory, float(np.sqrt(1 - config.noise_memory**2))
    columns = []
    for first, *rest in rng.normal(size=curve.shape).T.tolist():
        column = [first]
        for value in rest:
            column.append(keep * column[-1] + new * value)
        columns.append(column)
    return np.clip(curve + config.noise * np.array(size) * np.array(columns).T, -1, 1)


def hear_and_rate(config: CorpusConfig, plan: Plan) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each listener of the song's part hears in it, and what they write down.

    Returns
    -------
    heard, rated : dict of listener id to ndarray, shape (plan.steps - 30, 2)
        In [-1, 1]. A training clip has ``ratings_per_song`` listeners, other songs have all.
    """
    world = make_controls(config, plan.song_id, plan.steps, plan.flat)
    everyone = list(enumerate(make_listeners(config, plan.part)))
    if plan.part == "train":  # balanced: each listener rates about the same number of clips
        rng = np.random.default_rng([config.seed, 6, plan.song_id])
        chosen = rng.permutation(len(everyone))[: config.ratings_per_song]
        everyone = [everyone[i] for i in sorted(chosen)]
    heard, rated = {}, {}
    for number, person in everyone:
        session = make_session(config, plan.song_id, number)
        heard[person.id] = true_curve(config, *world, person, session)
        size = tuple(np.multiply(person.range, session.range))
        rated[person.id] = rate(config, heard[person.id], plan.song_id, number, size)
    return heard, rated
