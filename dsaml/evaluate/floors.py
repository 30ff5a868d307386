"""Trivial predictors: they hear nothing of the music, so every model has to beat them. Labels only, no audio.

Two protocols for one listener's own labels, where a data set has them: *prefix* (the first labels of the same song are
given, as in the released code) and *cross-song* (one other song by the same annotator is given, as the paper says).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from dsaml.config import DIMENSIONS, METRICS
from dsaml.data.annotations import Annotation
from dsaml.data.base import PARTS, Dataset
from dsaml.errors import DsamlError, require_file
from dsaml.evaluate import metrics
from dsaml.evaluate.metrics import Scores
from dsaml.io import write_bytes_atomically

PREFIX_STEPS = {"deam": 60, "synthetic": 60, "stress": 60, "pmemo": 20, "folder": 20}
"""Labels at 2 Hz that the prefix protocol gives away: 30 s as in the released code; 10 s where songs are short."""

NAMES = {
    "constant": "constant (mean of all training labels)",
    "zero": "zero",
    "song_mean": "the song's own mean (oracle)",
    "prefix_mean": "after the first {n} labels: their mean",
    "prefix_last": "after the first {n} labels: the last of them",
    "prefix_constant": "after the first {n} labels: mean of all training labels",
    "support_mean": "mean of one other song by the same annotator",
    "support_last": "last label of one other song by the same annotator",
}
TITLES = {
    "averaged": "averaged labels",
    "prefix": "each annotator's own labels, prefix",
    "cross-song": "each annotator's own labels, cross-song",
}

SHOWN = ("rmse", "pcc", "ccc")

Floors = dict[str, Scores]
"""Scores of each predictor by its short name, see ``NAMES``."""


def training_mean(dataset: Dataset) -> np.ndarray:
    """Arousal and valence averaged over all labels of all training songs, shape (2,).

    Raises
    ------
    DsamlError
        If no training song has labels.
    """
    labels = [dataset.mean[song].values for song in dataset.split.songs["train"]]
    if not labels:
        raise DsamlError(f"{dataset.root}: no training song has labels, so there is no training mean; see 'check'")
    return np.concatenate(labels).mean(0)


def _score(value: np.ndarray, target: np.ndarray) -> Scores:
    return metrics.score(np.broadcast_to(value, target.shape), target)


def _after_prefix(track: Annotation, constant: np.ndarray, steps: int) -> Floors:
    given, rest = track.values[:steps], track.values[steps:]
    return {
        "prefix_mean": _score(given.mean(0), rest),
        "prefix_last": _score(given[-1], rest),
        "prefix_constant": _score(constant, rest),
    }


def _average(each: list[Floors]) -> Floors:
    return {name: metrics.mean_scores([floors[name] for floors in each]) for name in (each[0] if each else ())}


def averaged(dataset: Dataset, part: str = "test") -> tuple[Floors, dict[str, int]]:
    """Floors on the averaged labels of one part.

    Returns
    -------
    floors : dict of short name to scores
        Scores per song, then averaged over songs. ``prefix_...`` are scored on what follows the prefix, in songs that
        are longer than it.
    counts : dict
        Numbers of songs, of songs longer than the prefix, and of prefix labels.
    """
    constant, steps = training_mean(dataset), PREFIX_STEPS[dataset.name]
    songs = [dataset.mean[song] for song in dataset.split.songs[part]]
    whole = [
        {
            "constant": _score(constant, song.values),
            "zero": _score(np.zeros(2), song.values),
            "song_mean": _score(song.values.mean(0), song.values),
        }
        for song in songs
    ]
    rest = [_after_prefix(song, constant, steps) for song in songs if len(song) > steps]
    counts = {"songs": len(songs), "songs_longer_than_prefix": len(rest), "prefix_labels": steps}
    return _average(whole) | _average(rest), counts


def prefix(dataset: Dataset, part: str = "test") -> tuple[Floors, dict[str, int]]:
    """Floors of the prefix protocol: per track, averaged over an annotator's songs, then over annotators."""
    constant, steps = training_mean(dataset), PREFIX_STEPS[dataset.name]
    people = []
    for who in dataset.split.annotators[part]:
        tracks = [t for song, t in dataset.tracks[who].items() if song in set(dataset.split.songs[part])]
        people.append([_after_prefix(t, constant, steps) for t in tracks if len(t) > steps])
    people = [tracks for tracks in people if tracks]
    counts = {"annotators": len(people), "tracks": sum(map(len, people)), "prefix_labels": steps}
    return _average([_average(tracks) for tracks in people]), counts


def cross_song(dataset: Dataset, part: str = "test") -> tuple[Floors, dict[str, int]]:
    """Floors of the cross-song protocol: every other song by the annotator is the support song in turn.

    Scores are averaged over support songs, then over query songs, then over annotators.
    """
    constant = training_mean(dataset)
    people, queries = [], 0
    for who in dataset.split.annotators[part]:
        songs = set(dataset.split.songs[part])
        tracks = [t.values for song, t in dataset.tracks[who].items() if song in songs]
        if len(tracks) < 2:
            continue
        means, lasts = np.stack([t.mean(0) for t in tracks]), np.stack([t[-1] for t in tracks])
        each = []
        for q, target in enumerate(tracks):
            others = np.arange(len(tracks)) != q
            each.append(
                {
                    "constant": _score(constant, target),
                    "zero": _score(np.zeros(2), target),
                    "support_mean": _held(means[others], target),
                    "support_last": _held(lasts[others], target),
                }
            )
        people.append(_average(each))
        queries += len(each)
    return _average(people), {"annotators": len(people), "tracks": queries}


def _held(values: np.ndarray, target: np.ndarray) -> Scores:
    """Mean scores of several held values (n, 2) on one target (T, 2)."""
    scores = {}
    for k, dimension in enumerate(DIMENSIONS):
        truth = np.broadcast_to(target[:, k], (len(values), len(target)))
        held = np.broadcast_to(values[:, k : k + 1], truth.shape)
        scores[dimension] = {name: float(getattr(metrics, name)(held, truth).mean()) for name in METRICS}
    return scores


def compute(dataset: Dataset, part: str = "test") -> dict[str, Any]:
    """All floors of a data set.

    Parameters
    ----------
    dataset : Dataset
    part : {"train", "validation", "test"}

    Returns
    -------
    dict
        ``{dataset name: {part: floors, "<part> prefix": ..., "<part> cross-song": ..., "counts": ..., "real": bool}}``;
        the two protocols only where there are annotators' own labels.

    Raises
    ------
    DsamlError
        If the part is unknown or empty.
    """
    if part not in PARTS:
        raise DsamlError(f"split '{part}' is not known; choose one of: {', '.join(PARTS)}")
    if not dataset.split.songs[part]:
        raise DsamlError(f"{dataset.root}: no {part} song has labels; see 'python -m dsaml check'")
    document: dict[str, Any] = {}
    document[part], counts = averaged(dataset, part)
    all_counts = {part: counts}
    for protocol, function in (("prefix", prefix), ("cross-song", cross_song)):
        floors, counts = function(dataset, part) if dataset.split.annotators[part] else ({}, {})
        if floors:
            document[f"{part} {protocol}"], all_counts[f"{part} {protocol}"] = floors, counts
    return {dataset.name: document | {"counts": all_counts, "real": dataset.real}}


def label(name: str, counts: Mapping[str, int]) -> str:
    """The long name of a predictor."""
    return NAMES[name].format(n=counts.get("prefix_labels", ""))


def tables(name: str, floors: Mapping[str, Any]) -> Iterator[Table]:
    """The floors of one data set, for the terminal: one table per kind of labels."""
    kind = "real" if floors["real"] else "SYNTHETIC"
    for key, counts in floors["counts"].items():
        size = ", ".join(f"{v} {k.replace('_', ' ')}" for k, v in counts.items())
        protocol = TITLES[key.partition(" ")[2] or "averaged"]
        out = Table(title=f"{name} ({kind}), {key.split()[0]}: {protocol}", caption=size, title_justify="left")
        out.add_column("predictor")
        for dimension in DIMENSIONS:
            for metric in SHOWN:
                out.add_column(f"{dimension}\n{metric.upper()}", justify="right")
        for predictor, scores in floors[key].items():
            cells = [f"{scores[d][m]:.3f}" for d in DIMENSIONS for m in SHOWN]
            out.add_row(label(predictor, counts), *cells)
        yield out


def holds_floors(path: Path) -> bool:
    """Whether a file is a facts file of :func:`save`, which may be added to."""
    try:
        facts = read_facts(path)
    except DsamlError:
        return False
    return all(isinstance(floors, dict) and {"counts", "real"} <= set(floors) for floors in facts.values())


def save(document: Mapping[str, Any], path: Path) -> None:
    """Merge the floors of one data set into a facts file (``data/floors.json``), rounded to five decimals.

    Raises
    ------
    DsamlError
        If the file exists and is no JSON object.
    """
    facts = read_facts(path) if path.exists() else {}
    rounded = json.loads(json.dumps(document), parse_float=lambda text: round(float(text), 5))
    merged = dict(sorted((facts | rounded).items()))
    write_bytes_atomically(path, (json.dumps(merged, indent=1) + "\n").encode())


def read_facts(path: Path) -> dict[str, Any]:
    """Read a facts file.

    Raises
    ------
    DsamlError
        If it is missing or no JSON object.
    """
    require_file(path, "facts file", "check the file out again")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DsamlError(f"{path}: cannot be read ({type(error).__name__}); check the file out again") from error
    if not isinstance(facts, dict):
        raise DsamlError(f"{path}: must hold a JSON object; check the file out again")
    return facts
