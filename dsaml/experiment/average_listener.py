"""The average listener of songs that are new: what the heads hear of songs, and averaged labels, DSAML's beside the heads'.

Everything is fitted and chosen on training and validation songs; the test part is scored once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from dsaml.arena.inputs import slice_statistics
from dsaml.audio.recording import load_waveform
from dsaml.data.annotations import Annotation
from dsaml.data.base import Dataset
from dsaml.evaluate import metrics, protocols
from dsaml.evaluate.floors import CONSTANT, floor_answers, training_mean
from dsaml.evaluate.metrics import LEVEL_AND_SHAPE
from dsaml.evaluate.scores import UNTRAINED, Answer, Question, scores_table
from dsaml.experiment.progress import counter
from dsaml.experiment.recipes import DMER_MODEL
from dsaml.experiment.run import Experiment, train_all
from dsaml.learn.batches import SongStore
from dsaml.learn.maml import mode
from dsaml.listeners.harmony import chroma
from dsaml.listeners.heads import Heard, TwoHeads, fit_heads, left_out
from dsaml.listeners.raters import reliability, weighted_labels

T = TypeVar("T")
GAINS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""On all movement around the mean: the one with the best CCC on left-out songs whose RMSE there is still below the floor's."""
SHARES = ((1.0, 0.0), *product((0.0, 1.0, 2.0, 4.0), (0.5, 1.0, 1.5, 2.0)))
"""Of the heads' shape and of DSAML's in a curve; chosen in the same way, on the validation songs that chose its checkpoints."""
HEADS, LEVEL, GAINED, WEIGHTED = "two heads", "level head", "two heads, gain for CCC", "two heads, weighted raters"
NETWORK, LEVELLED, JOINED = "DSAML, mean of trainings", "level head, DSAML's shape", "level head, both shapes for CCC"
Heads = Mapping[str, TwoHeads]
"""For each known song the heads that were fitted without it."""
Asked = tuple[pd.DataFrame, dict[str, Any]]
"""A scores table, and what was chosen for it."""


@dataclass(frozen=True)
class Room:
    """A data set with what the heads hear of its songs."""

    experiment: Experiment
    songs: Mapping[str, Heard]
    data: Dataset  # the experiment's, or the same with flat tracks and their people, which have levels

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Averaged labels (T, 2)."""
        return {song: label.values for song, label in self.experiment.dataset.mean.items() if song in self.songs}

    @cached_property
    def known(self) -> list[str]:
        """Training and validation songs; neighbours stand beside each other."""
        split = self.experiment.dataset.split.songs
        return sorted([*split["train"], *split["validation"]])

    def tracks(self, *parts: str) -> dict[str, dict[str, Annotation]]:
        """The people of some parts, with their labels of these parts' songs."""
        songs = {song for part in parts for song in self.data.split.songs[part]}
        people = {who: self.data.tracks.get(who, {}) for part in parts for who in self.data.split.annotators[part]}
        found = {who: {song: own[song] for song in sorted(songs & own.keys())} for who, own in people.items()}
        return {who: own for who, own in found.items() if own}

    def table(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> pd.DataFrame:
        """Scores of every answer (level and shape); a track that never moves has no CCC: NaN, which no mean counts."""
        tables = [scores_table(questions, map(say, questions), name, UNTRAINED, LEVEL_AND_SHAPE) for name, say in answers.items()]
        table = pd.concat(tables, ignore_index=True)
        tracks = zip(table.annotator, table.song, strict=True)
        still = [who in self.data.tracks and self.data.tracks[who][song].is_flat for who, song in tracks]
        table.loc[still, ["ccc", "shape"]] = np.nan
        return table


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


def choose(
    options: Sequence[T],
    curves: Callable[[T], Sequence[np.ndarray]],
    targets: Sequence[np.ndarray],
    floor: np.ndarray,
) -> list[T]:
    """For each dimension the option with the best mean CCC on left-out songs, its mean RMSE below ``floor`` (2,), or the first."""
    found = [[mean_score(score, curves(option), targets) for score in (metrics.ccc, metrics.rmse)] for option in options]
    ccc, rmse = np.array(found).swapaxes(0, 1)  # (options, 2) each
    ccc[1:][rmse[1:] >= floor] = -1
    return [options[best] for best in ccc.argmax(0)]


def mean_score(score: Callable[..., np.ndarray], curves: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> np.ndarray:
    """The mean score of curves, (T, 2) or (2,) for all steps: (2,)."""
    return np.mean([score(np.broadcast_to(c, y.shape).T, y.T) for c, y in zip(curves, targets, strict=True)], 0)


def dsaml_curves(experiment: Experiment, seeds: Sequence[int], songs: Sequence[str]) -> dict[str, np.ndarray]:
    """What DSAML, trained on averaged labels, says of whole songs: (T, 2) by song, the mean of trainings; trained if it is not."""
    train_all(experiment, {(DMER_MODEL, seed) for seed in seeds})
    models, store, found = [experiment.model(DMER_MODEL, seed)[0] for seed in seeds], experiment.store, []
    for model in models:
        with mode(model, "eval"):
            found.append({song: protocols.whole_song(model, experiment.features[song], store) for song in songs})
    return {song: np.mean([curves[song] for curves in found], 0) for song in songs}


def averaged(room: Room, heads: TwoHeads, others: Heads, seeds: Sequence[int]) -> Asked:
    """Averaged labels of the test songs, each as long as it is; the "annotator" is the song."""
    data, known, songs = room.experiment.dataset, room.known, room.experiment.dataset.split.songs
    dsaml = dsaml_curves(room.experiment, seeds, [*songs["validation"], *songs["test"]])

    def floor_of(names: Sequence[str]) -> np.ndarray:
        return mean_score(metrics.rmse, [training_mean(data)] * len(names), [room.labels[s] for s in names])

    def curve(own: TwoHeads, song: str) -> np.ndarray:
        return own.curve(room.songs[song], len(room.labels[song]))

    def joined(own: TwoHeads, song: str, share: np.ndarray) -> np.ndarray:
        """The level head's level; of the heads' shape and of DSAML's the two rows of ``share`` (2, 2)."""
        return curve(replace(own, gain=share[0]), song) + share[1] * (dsaml[song] - dsaml[song].mean(0))

    gain = np.array(
        choose(
            GAINS,
            lambda g: [curve(replace(others[s], gain=g), s) for s in known],
            [room.labels[s] for s in known],
            floor_of(known),
        )
    )
    held_out = songs["validation"]
    share = np.transpose(
        choose(
            SHARES,
            lambda both: [joined(others[s], s, np.transpose([both, both])) for s in held_out],
            [room.labels[s] for s in held_out],
            floor_of(held_out),
        )
    )  # (heads and DSAML, dimensions)
    weighted, about = weigh_raters(room, others)
    only_dsaml = np.array([[0.0, 0.0], [1.0, 1.0]])
    answers: dict[str, Answer] = {
        CONSTANT: floor_answers(data)[CONSTANT],
        LEVEL: lambda q: np.broadcast_to(heads.level_of(room.songs[q.song]), q.target.shape),
        HEADS: lambda q: curve(heads, q.song),
        GAINED: lambda q: curve(replace(heads, gain=gain), q.song),
        WEIGHTED: lambda q: curve(weighted, q.song),
        NETWORK: lambda q: dsaml[q.song],
        LEVELLED: lambda q: joined(heads, q.song, only_dsaml),
        JOINED: lambda q: joined(heads, q.song, share),
    }
    table = room.table(protocols.dmer_questions(SongStore(data, {})), answers)
    chosen = {"gain": gain.tolist(), "shares": dict(zip(("heads", "dsaml"), share.tolist(), strict=True)), "weighted_raters": about}
    return table.assign(annotator=table.song, song=""), chosen


def weigh_raters(room: Room, others: Heads) -> tuple[TwoHeads, dict[str, Any]]:
    """Heads on labels in which raters count as they are reliable, and whether left-out songs are better for it.

    Reliability is learned anew wherever songs are left out, and what is left out is scored against the plain averaged label. A song
    that fewer than two of these raters have keeps its averaged label.
    """
    tracks, labels, known = room.tracks("train", "validation"), room.labels, room.known

    def fit(names: Sequence[str]) -> tuple[TwoHeads, np.ndarray]:
        own = {who: {s: mine[s].values for s in names if s in mine} for who, mine in tracks.items()}
        found = reliability(own)
        weighted = {s: y[: len(labels[s])] for s, y in weighted_labels(own, found.weights).items()}
        return fit_heads(room.songs, labels | weighted, names), found.comes_back

    def error(heads: Heads) -> np.ndarray:
        curves = [heads[s].curve(room.songs[s], len(labels[s])) for s in known]
        return mean_score(metrics.rmse, curves, [labels[s] for s in known])

    plain, weighted = error(others), error(left_out(known, lambda names: fit(names)[0]))
    heads, comes_back = fit(known)
    about = {"used": weighted < plain, "left_out_rmse": weighted, "left_out_rmse_unweighted": plain, "comes_back": comes_back}
    return heads, {"raters": len(tracks)} | {name: value.tolist() for name, value in about.items()}


