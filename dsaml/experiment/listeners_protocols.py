"""What real listeners are asked for: averaged labels, another song, a song's rest; models of :mod:`dsaml.listeners`, and floors.

Everything is chosen and fitted on training and validation songs and people, with heads that had not seen the song; the test part is
scored once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dsaml.arena.inputs import slice_statistics
from dsaml.audio.recording import load_waveform
from dsaml.config import DIMENSIONS
from dsaml.data.base import Dataset
from dsaml.errors import DsamlError
from dsaml.evaluate import bootstrap, metrics
from dsaml.evaluate.floors import CONSTANT, SUPPORT_LAST, SUPPORT_MEAN, training_mean
from dsaml.evaluate.oracles import spread
from dsaml.evaluate.scores import UNTRAINED
from dsaml.experiment.progress import counter
from dsaml.experiment.run import Experiment
from dsaml.learn.batches import SongStore
from dsaml.learn.training import cross_song_tasks
from dsaml.listeners.harmony import chroma
from dsaml.listeners.heads import Heard, TwoHeads
from dsaml.listeners.prefix import PrefixState, fit_prefix, state_of
from dsaml.listeners.shrinkage import Shrinkage, fit_shrinkage, traits_of

log = logging.getLogger(__name__)

SCORES = ("rmse", "level", "ccc", "shape")
"""RMSE; absolute difference of the means; CCC; CCC of the curves less their means. The last two only of tracks that move."""
GAINS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""On all movement around the mean: the one with the best CCC on left-out songs whose RMSE there is still below the floor's."""
FEWEST = 24  # labels of a track whose first half is known and whose second half is asked for
HEADS = "two heads"
SHIFTED, OFFSET, ALL = (
    "two heads + the song's offset",
    "two heads, shrunken offset",
    "two heads, shrunken offset, gain and range",
)
LAST = "two heads + last deviation"
STATE, STATE_GAINED = "two heads, prefix state", "two heads, prefix state, gain for CCC"
SUPPORTS = 5  # support songs of each listener, as in :mod:`dsaml.evaluate.protocols`; each choice counts once
Table = pd.DataFrame


@dataclass(frozen=True)
class Room:
    """A data set with what the heads hear of its songs."""

    experiment: Experiment
    songs: Mapping[str, Heard]
    data: Dataset  # the experiment's, or the same with flat tracks and their people, which have levels

    @cached_property
    def flat(self) -> set[tuple[str, str]]:
        """(Annotator, song) of the tracks that never move, and so have no CCC."""
        return {(who, song) for who, own in self.data.tracks.items() for song, track in own.items() if track.is_flat}

    @property
    def labels(self) -> dict[str, np.ndarray]:
        """Averaged labels (T, 2)."""
        return {song: label.values for song, label in self.experiment.dataset.mean.items() if song in self.songs}

    @property
    def known(self) -> list[str]:
        """Training and validation songs; neighbours stand beside each other."""
        split = self.experiment.dataset.split.songs
        return sorted([*split["train"], *split["validation"]])

    def tracks(self, *parts: str) -> dict[str, dict[str, np.ndarray]]:
        """The people of some parts, with their labels (T, 2) of these parts' songs."""
        data, out = self.data, {}
        songs = {song for part in parts for song in data.split.songs[part]}
        for who in (who for part in parts for who in data.split.annotators[part]):
            own = {song: track.values for song, track in sorted(data.tracks.get(who, {}).items()) if song in songs}
            if own:
                out[who] = own
        return out


def hear(experiment: Experiment) -> Room:
    """Log-mel statistics from the experiment's features, and chroma from the audio."""
    data, audio, songs = experiment.dataset, experiment.profile.audio, {}
    statistics = {song: slice_statistics(f.log_mel.float()).numpy() for song, f in experiment.features.items()}
    every = np.concatenate([statistics[song] for song in data.split.songs["train"]])
    mean, deviation = every.mean(0), every.std(0) + 1e-6
    with counter("chroma") as progress:
        for done, (song, x) in enumerate(statistics.items(), 1):
            waveform = load_waveform(data.songs[song].audio, audio.sample_rate)
            pitches = chroma(waveform, audio.sample_rate, len(x), audio).numpy()
            songs[song] = Heard((x - mean) / deviation, pitches)
            progress(done, len(statistics))
    return Room(experiment, songs, data)


def score_rows(
    asked: Iterable[tuple[str, str, np.ndarray]],
    curves: Iterable[np.ndarray],
    method: str,
    seed: int,
    flat: Collection[tuple[str, str]] = (),
) -> Table:
    """One row per (annotator, song), and dimension: ``SCORES``, the mean over support sets; ``asked`` holds the labels (T, 2).

    The pairs (annotator, song) in ``flat`` have no CCC: NaN, which no mean counts.
    """
    rows = []
    for (who, song, target), curve in zip(asked, curves, strict=True):
        x, y = np.broadcast_to(curve, target.shape).T, target.T
        level = np.abs(x.mean(-1) - y.mean(-1))
        shape = metrics.ccc(x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True))
        ccc = np.full(2, np.nan) if (who, song) in flat else metrics.ccc(x, y)
        every = zip(DIMENSIONS, metrics.rmse(x, y), level, ccc, np.where(np.isnan(ccc), np.nan, shape), strict=True)
        rows += [(who, song, *cells) for cells in every]
    table = pd.DataFrame(rows, columns=["annotator", "song", "dimension", *SCORES])
    means = table.groupby(["annotator", "song", "dimension"], as_index=False)[list(SCORES)].mean()
    return means.assign(method=method, seed=seed)


def summary(table: Table, reference: str) -> dict[str, Any]:
    """Means with crossed intervals of every row, and the paired differences from ``reference`` in RMSE and CCC."""
    people, songs = sorted(table.annotator.unique()), sorted(table.song.unique())
    cells: dict[tuple[str, str, str], np.ndarray] = {}
    for (method, dimension), part in table.groupby(["method", "dimension"], sort=False):
        seeds = sorted(part.seed.unique())
        places = part.seed.map(seeds.index), part.annotator.map(people.index), part.song.map(songs.index)
        for score in SCORES:
            values = np.full((len(seeds), len(people), len(songs)), np.nan)
            values[tuple(place.to_numpy() for place in places)] = part[score]
            cells[method, dimension, score] = values
    rows: dict[str, Any] = {}
    for method in table.method.unique():
        rows[method] = {}
        for d in DIMENSIONS:
            cell: dict[str, Any] = {score: _plain(bootstrap.interval(cells[method, d, score])) for score in SCORES}
            if method != reference:
                for score in ("rmse", "ccc"):
                    mine, theirs = cells[method, d, score], cells[reference, d, score]
                    if len(mine) == len(theirs) or len(theirs) == 1:
                        above = bootstrap.interval(mine - theirs)
                    else:
                        above = bootstrap.interval(mine - np.nanmean(theirs, 0))
                    cell[f"{score}_above"] = _plain(above)
            rows[method][d] = cell
    asked = table.drop_duplicates(["annotator", "song"])
    sizes = {"people": len(people), "songs": len(songs), "curves": len(asked), "flat_curves": int(asked.ccc.isna().sum())}
    return {"rows": rows, "reference": reference, **sizes}


def _plain(found: Mapping[str, float]) -> dict[str, float]:
    return {key: round(found[key], 5) for key in ("mean", "low", "high")}


def choose_gain(
    curves: Callable[[float], Sequence[np.ndarray]], targets: Sequence[np.ndarray], floor: np.ndarray
) -> np.ndarray:
    """For each dimension the gain of ``GAINS`` with the best mean CCC on left-out songs, its mean RMSE below ``floor`` (2,)."""
    found = []
    for gain in GAINS:
        pairs = [(np.broadcast_to(c, y.shape).T, y.T) for c, y in zip(curves(gain), targets, strict=True)]
        found.append([np.mean([score(x, y) for x, y in pairs], 0) for score in (metrics.ccc, metrics.rmse)])
    ccc, rmse = np.array(found).swapaxes(0, 1)  # (gains, 2) each
    ccc[(rmse >= floor) & (np.array(GAINS) > 1)[:, None]] = -1
    return np.array(GAINS)[ccc.argmax(0)]


def learn_shrinkage(room: Room, others: Mapping[str, TwoHeads], steps: int) -> Shrinkage:
    """What comes back from one song to the next, of training and validation people."""
    first, second = [], []
    for own in room.tracks("train", "validation").values():
        seen = [
            traits_of(y[:steps], *_parts(others[s], room.songs[s], len(y[:steps])))
            for s, y in own.items()
            if s in others
        ]
        for k in range(0, len(seen) - 1, 2):
            first.append(seen[k])
            second.append(seen[k + 1])
    if len(first) < 3:
        raise DsamlError(
            f"{room.experiment.dataset.root}: fewer than three people with two songs; nothing is learned about them"
        )
    return fit_shrinkage(np.stack(first), np.stack(second))


def _parts(heads: TwoHeads, song: Heard, steps: int) -> tuple[np.ndarray, np.ndarray]:
    return heads.level_of(song), heads.gain * heads.shape_of(song, steps)


def cross_song(room: Room, heads: TwoHeads, others: Mapping[str, TwoHeads]) -> tuple[Table, dict[str, Any]]:
    """One other song of the listener is known; clips, as :mod:`dsaml.evaluate.protocols` asks for them."""
    store = SongStore(room.data, {})  # for labels alone
    steps = store.steps
    learned = learn_shrinkage(room, others, steps)
    constant, offset = training_mean(store.dataset, steps), replace(learned, used=("offset",))
    asked, curves = [], {name: [] for name in (CONSTANT, SUPPORT_MEAN, HEADS, SHIFTED, OFFSET, ALL)}
    for task in cross_song_tasks(store, "test", SUPPORTS):
        given = {song: store.track(task.annotator, song).values[:steps] for song in task.support}
        seen = [traits_of(y, *_parts(heads, room.songs[song], len(y))) for song, y in given.items()]
        for song in task.query:
            target = store.track(task.annotator, song).values[:steps]
            level, shape = _parts(heads, room.songs[song], len(target))
            asked.append((task.annotator, song, target))
            answers = (
                constant,
                np.concatenate(list(given.values())).mean(0),
                level + shape,
                level + shape + np.mean(seen, 0)[0],
                offset.predict(seen, level, shape),
                learned.predict(seen, level, shape),
            )
            for name, answer in zip(curves, answers, strict=True):
                curves[name].append(answer)
    tables = [score_rows(asked, own, name, UNTRAINED, room.flat) for name, own in curves.items()]
    about = {name: getattr(learned, name).tolist() for name in ("mean", "between", "within")}
    return pd.concat(tables), about | {"factor": learned.factor().tolist()}


def halves(tracks: Mapping[str, Mapping[str, np.ndarray]]) -> list[tuple[str, str, np.ndarray, int]]:
    """Every track that is long enough: annotator, song, labels, and where the second half begins."""
    return [(who, song, y, len(y) // 2) for who, own in tracks.items() for song, y in own.items() if len(y) >= FEWEST]


def _after(curve: np.ndarray, values: np.ndarray, half: int, state: PrefixState) -> np.ndarray:
    """The second half as the prefix state carries it on."""
    return curve[half:] + state.deviation(state_of(values[:half], curve[:half]), len(values) - half)


def prefix(room: Room, heads: TwoHeads, others: Mapping[str, TwoHeads]) -> tuple[Table, dict[str, Any]]:
    """The first half of a track is known, the second half is asked for."""
    known = [track for track in halves(room.tracks("train", "validation")) if track[1] in others]

    longest: dict[str, int] = {}
    for _, song, y, _ in known:
        longest[song] = max(longest.get(song, 0), len(y))
    by_song = {song: others[song].curve(room.songs[song], steps) for song, steps in longest.items()}
    curves = [by_song[song][: len(y)] for _, song, y, _ in known]
    rows = [(c, y, h) for c, (_, _, y, h) in zip(curves, known, strict=True)]
    state = fit_prefix([state_of(y[:h], c[:h]) for c, y, h in rows], [y[h:] - c[h:] for c, y, h in rows])
    carried, targets = [_after(c, y, h, state) for c, y, h in rows], [y[h:] for _, y, h in rows]
    last = np.mean([metrics.rmse(np.broadcast_to(y[h - 1], y[h:].shape).T, y[h:].T) for _, y, h in rows], 0)
    gain = choose_gain(lambda g: [spread(c, np.full(2, g)) for c in carried], targets, last)
    constant, tracks = training_mean(room.experiment.dataset), halves(room.tracks("test"))
    answers: dict[str, Callable[[str, np.ndarray, int], np.ndarray]] = {
        CONSTANT: lambda song, y, h: constant,
        HEADS: lambda song, y, h: heads.curve(room.songs[song], len(y))[h:],
        SUPPORT_MEAN: lambda song, y, h: y[:h].mean(0),
        SUPPORT_LAST: lambda song, y, h: y[h - 1],
        LAST: lambda song, y, h: (c := heads.curve(room.songs[song], len(y)))[h:] + state_of(y[:h], c[:h])[0],
        STATE: lambda song, y, h: _after(heads.curve(room.songs[song], len(y)), y, h, state),
        STATE_GAINED: lambda song, y, h: spread(_after(heads.curve(room.songs[song], len(y)), y, h, state), gain),
    }
    asked = [(who, song, y[h:]) for who, song, y, h in tracks]
    tables = [
        score_rows(asked, [say(song, y, h) for _, song, y, h in tracks], name, UNTRAINED, room.flat)
        for name, say in answers.items()
    ]
    return pd.concat(tables), {"gain": gain.tolist(), "decay": list(state.decay), "weights": state.weights.tolist()}
