"""Trivial predictors, which hear nothing of the music, so that every model has to beat them; and oracles. Labels only, no audio.

``FLOORS`` defines each of them, once. Beside models they are scored by :mod:`dsaml.evaluate.protocols`; here on labels alone, for
the command ``floors`` and ``data/floors.json``: on averaged labels, and under two protocols for one listener's own labels, where a
data set has them: *prefix* (the first labels of the same song are given, as in the released code) and *cross-song* (one other
song by the same annotator is given, as the paper says).

Oracles are noise-free true curves, which are known for simulated listeners only: what no model of real people can look at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Column, Table

from dsaml.config import CLIP_STEPS, DIMENSIONS, METRICS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import PARTS, Dataset, flat_tracks, with_flat
from dsaml.errors import DsamlError
from dsaml.evaluate import metrics
from dsaml.evaluate.metrics import Scores
from dsaml.evaluate.scores import Answer, Question, about_rest, about_song
from dsaml.io import read_json, write_json

CONSTANT, ZERO, SONG_MEAN = "constant (training mean)", "zero", "the song's own mean (oracle)"
SUPPORT_MEAN, SUPPORT_LAST = "support mean", "last support value"
AVERAGE_CURVE = "the average listener's true curve"
AVERAGE_CURVE_SPREAD = "the average listener's true curve, best spread"
OWN_CURVE = "the listener's own true curve"
ORACLES = (AVERAGE_CURVE, AVERAGE_CURVE_SPREAD, OWN_CURVE)
SPREADS = np.arange(5, 31) / 10  # factors tried for the spread

Floor = Callable[[np.ndarray, Question], np.ndarray]
"""From the mean of all training labels (2,) and a question to what is said at every step (2,)."""

FLOORS: dict[str, Floor] = {
    CONSTANT: lambda training, question: training,
    ZERO: lambda training, question: np.zeros(2),
    SONG_MEAN: lambda training, question: question.target.mean(0),
    SUPPORT_MEAN: lambda training, question: question.support.mean(0),
    SUPPORT_LAST: lambda training, question: question.support[-1],
}

NAMES = {
    "constant": (CONSTANT, "constant (mean of all training labels)"),
    "zero": (ZERO, "zero"),
    "song_mean": (SONG_MEAN, "the song's own mean (oracle)"),
    "prefix_mean": (SUPPORT_MEAN, "after the first {n} labels: their mean"),
    "prefix_last": (SUPPORT_LAST, "after the first {n} labels: the last of them"),
    "prefix_constant": (CONSTANT, "after the first {n} labels: mean of all training labels"),
    "support_mean": (SUPPORT_MEAN, "mean of one other song by the same annotator"),
    "support_last": (SUPPORT_LAST, "last label of one other song by the same annotator"),
}
"""Short names in ``data/floors.json``: which floor it is, and its long name. ``prefix_...`` are given the prefix of the target."""
WHOLE_SONG, AFTER_PREFIX = ("constant", "zero", "song_mean"), ("prefix_mean", "prefix_last", "prefix_constant")
TITLES = {
    "averaged": "averaged labels",
    "prefix": "each annotator's own labels, prefix",
    "cross-song": "each annotator's own labels, cross-song",
}
FLAT_TOO = ", flat tracks too"
SHOWN = ("rmse", "pcc", "ccc")

FloorScores = dict[str, Scores]
"""Scores by the short names of ``NAMES``."""


def training_mean(dataset: Dataset, steps: int | None = None) -> np.ndarray:
    """Arousal and valence averaged over the labels of all training songs, shape (2,); of each song the first ``steps``, or all.

    Raises
    ------
    DsamlError
        If no training song has labels.
    """
    labels = [dataset.mean[song].values[:steps] for song in dataset.split.songs["train"]]
    if not labels:
        raise DsamlError(f"{dataset.root}: no training song has labels, so there is no training mean; see 'check'")
    return np.concatenate(labels).mean(0)


def floor_answers(dataset: Dataset, steps: int | None = None) -> dict[str, Answer]:
    """What each of ``FLOORS`` answers to a question (T, 2); ``steps`` as in :func:`training_mean`."""
    training = training_mean(dataset, steps)

    def answer(floor: Floor, question: Question) -> np.ndarray:
        return np.broadcast_to(floor(training, question), question.target.shape)

    return {name: partial(answer, floor) for name, floor in FLOORS.items()}


def spread(curve: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """A curve (T, 2) with its distance to its own mean multiplied, by one factor per dimension."""
    middle = curve.mean(0)
    return middle + factors * (curve - middle)


def best_spread(dataset: Dataset, steps: int = CLIP_STEPS) -> dict[str, float] | None:
    """The factor per dimension with which the average listener's true curve has the best mean CCC on *validation*.

    An average of curves moves less than the curves do, and CCC asks for the right spread: without this factor a method could be
    better than the average curve by moving more, and know nothing of the listener. Of all ``SPREADS``, over every validation
    listener and every validation song of theirs, with its first ``steps`` labels. None where there are no true curves.
    """
    if not dataset.oracle:
        return None
    truths, curves = [], []
    for who in dataset.split.annotators["validation"]:
        for song in dataset.split.songs["validation"]:
            track = dataset.tracks.get(who, {}).get(song)
            if track is not None and len(track) >= steps:
                truths.append(track.values[:steps])
                curves.append(dataset.oracle[MEAN][song].values[:steps])
    targets = np.stack(truths).swapaxes(1, 2)  # (N, 2, T)
    tried = [np.stack([spread(c, factor) for c in curves]).swapaxes(1, 2) for factor in SPREADS]
    best = np.argmax([metrics.ccc(each, targets).mean(0) for each in tried], 0)  # (2,)
    return {d: float(SPREADS[k]) for d, k in zip(DIMENSIONS, best, strict=True)}


def oracle_answers(dataset: Dataset, steps: int = CLIP_STEPS) -> dict[str, Answer]:
    """What each oracle answers (T, 2); nothing where there are no true curves.

    The spread is chosen on clips of ``steps`` labels, and is around the mean of the part that is asked for.
    """
    if not dataset.oracle:
        return {}
    factors = np.array(list(best_spread(dataset, steps).values()))

    def true(annotator: str, question: Question) -> np.ndarray:
        return dataset.oracle[annotator][question.song].values[question.first :][: len(question.target)]

    return {
        AVERAGE_CURVE: lambda question: true(MEAN, question),
        AVERAGE_CURVE_SPREAD: lambda question: spread(true(MEAN, question), factors),
        OWN_CURVE: lambda question: true(question.annotator, question),
    }


def score_floors(dataset: Dataset, part: str = "test") -> dict[str, Any]:
    """All floors of a data set.

    Averaged labels: scores per song, then averaged over songs; ``prefix_...`` are scored on what follows the prefix, in songs that
    are longer. Prefix: per track, averaged over an annotator's songs, then over annotators. Cross-song: every other song by the
    annotator is the support song in turn; averaged over support songs, then as in prefix. Both ask for tracks that move, as of
    models. Where others do not, both are there a second time with these, for the RMSE: no floor has a CCC to lose.

    Returns
    -------
    dict
        ``{dataset name: {part: floors, "<part> prefix": ..., "<part> cross-song": ..., "counts": ..., "real": bool}}``;
        the two protocols only where there are annotators' own labels, and with ``FLAT_TOO`` where some are flat.

    Raises
    ------
    DsamlError
        If the part is unknown or empty.
    """
    if part not in PARTS:
        raise DsamlError(f"split '{part}' is not known; choose one of: {', '.join(PARTS)}")
    if not dataset.split.songs[part]:
        raise DsamlError(f"{dataset.root}: no {part} song has labels; see 'python -m dsaml check'")
    answers, steps, songs = floor_answers(dataset), dataset.prefix_steps, dataset.split.songs[part]
    mean, listed, flat = [dataset.mean[song] for song in songs], set(songs), flat_tracks(dataset, part)

    def after_prefix(tracks: list[Annotation]) -> list[FloorScores]:
        return _score(AFTER_PREFIX, answers, [about_rest(track, steps) for track in tracks if len(track) > steps])

    rest = after_prefix(mean)
    floors = {part: _average(_score(WHOLE_SONG, answers, map(about_song, mean))) | _average(rest)}
    counts = {part: {"songs": len(mean), "songs_longer_than_prefix": len(rest), "prefix_labels": steps}}
    for data, more in ((dataset, ""), (with_flat(dataset), FLAT_TOO))[: 2 if flat else 1]:
        tracks = [data.tracks[who] for who in data.split.annotators[part]]
        own = [[track for song, track in mine.items() if song in listed] for mine in tracks]
        people = {
            "prefix": [scores for tracks in own if (scores := after_prefix(tracks))],
            "cross-song": [_cross_song(answers, tracks) for tracks in own if len(tracks) > 1],
        }
        for protocol, each in people.items():
            if each:
                floors[f"{part} {protocol}{more}"] = _average([_average(scores) for scores in each])
                given = {"prefix_labels": steps} if protocol == "prefix" else {}
                left = {"flat_tracks_left_out": flat} if flat and not more else {}
                counts[f"{part} {protocol}{more}"] = {"annotators": len(each), "tracks": sum(map(len, each))} | given | left
    return {dataset.name: floors | {"counts": counts, "real": dataset.real}}


def _score(names: Iterable[str], answers: Mapping[str, Answer], questions: Iterable[Question]) -> list[FloorScores]:
    """Floors, by their short names, for each question."""
    return [{name: metrics.score(answers[NAMES[name][0]](q), q.target) for name in names} for q in questions]


def _average(each: list[FloorScores]) -> FloorScores:
    return {name: metrics.mean_scores([floors[name] for floors in each]) for name in (each[0] if each else ())}


def _cross_song(answers: Mapping[str, Answer], tracks: list[Annotation]) -> list[FloorScores]:
    """Floors for each track of one annotator, every other one being given in turn."""
    each = _score(("constant", "zero"), answers, map(about_song, tracks))
    for k, (track, floors) in enumerate(zip(tracks, each, strict=True)):
        asked = [about_song(track, other.values) for other in tracks[:k] + tracks[k + 1 :]]
        for name in ("support_mean", "support_last"):
            values = np.stack([answers[NAMES[name][0]](question)[0] for question in asked])  # (n, 2)
            floors[name] = {}
            for d, dimension in enumerate(DIMENSIONS):  # all n at once: there are many
                truth = np.broadcast_to(track.values[:, d], (len(values), len(track)))
                held = np.broadcast_to(values[:, d : d + 1], truth.shape)
                scores = {metric: getattr(metrics, metric)(held, truth).mean() for metric in METRICS}
                floors[name][dimension] = {metric: float(score) for metric, score in scores.items()}
    return each


def label(name: str, counts: Mapping[str, int]) -> str:
    """The long name of a predictor."""
    return NAMES[name][1].format(n=counts.get("prefix_labels", ""))


def terminal_tables(name: str, floors: Mapping[str, Any]) -> Iterator[Table]:
    """The floors of one data set, for the terminal: one table per kind of labels."""
    kind = "real" if floors["real"] else "SYNTHETIC"
    for key, counts in floors["counts"].items():
        size = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in counts.items())
        protocol = key.removesuffix(FLAT_TOO).partition(" ")[2] or "averaged"
        title = f"{name} ({kind}), {key.split()[0]}: {TITLES[protocol]}{FLAT_TOO if key.endswith(FLAT_TOO) else ''}"
        columns = [Column(f"{d}\n{m.upper()}", justify="right") for d in DIMENSIONS for m in SHOWN]
        out = Table("predictor", *columns, title=title, caption=size, title_justify="left")
        for predictor, scores in floors[key].items():
            cells = [f"{scores[d][m]:.3f}" for d in DIMENSIONS for m in SHOWN]
            out.add_row(label(predictor, counts), *cells)
        yield out


def holds_facts(path: Path, *keys: str) -> bool:
    """Whether a file is a facts file, which may be added to: of each data set an object with these keys."""
    try:
        facts = read_facts(path)
    except DsamlError:
        return False
    return all(isinstance(found, dict) and set(keys) <= set(found) for found in facts.values())


def merge_facts(document: Mapping[str, Any], path: Path) -> None:
    """Merge facts about one data set into a facts file (``data/floors.json``), rounded to five decimals.

    Raises
    ------
    DsamlError
        If the file exists and is no JSON object.
    """
    facts = read_facts(path) if path.exists() else {}
    rounded = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 5))
    write_json(path, dict(sorted((facts | rounded).items())))


def read_facts(path: Path) -> dict[str, Any]:
    """Read a facts file; errors as in :func:`dsaml.io.read_json`."""
    return read_json(path, "facts file", "check the file out again")
