"""The numbers a researcher wants before believing a data set."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from dsaml.config import DIMENSIONS
from dsaml.data.base import Dataset


def _pair(values: np.ndarray) -> dict[str, float]:
    return {d: round(float(v), 3) for d, v in zip(DIMENSIONS, values, strict=True)}


def _agreement(dataset: Dataset) -> tuple[dict[str, float], dict[str, float]]:
    """SD over annotators per step, and mean correlation of a track with the mean of the song's other tracks."""
    by_song: dict[str, list[np.ndarray]] = {}
    for tracks in dataset.tracks.values():
        for song, track in tracks.items():
            by_song.setdefault(song, []).append(track.values)
    spread, correlation = [], []
    for values in by_song.values():
        if len(values) < 2:
            continue
        stack = np.stack([v[: min(map(len, values))] for v in values])  # (annotators, T, 2)
        spread.append(stack.std(0).mean(0))
        others = (stack.sum(0) - stack) / (len(stack) - 1)
        correlation.append(_correlation(stack, others).mean(0))
    return (_pair(np.mean(spread, 0)), _pair(np.mean(correlation, 0))) if spread else ({}, {})


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Over time: two (annotators, T, 2) -> (annotators, 2); 0 where one of them does not move."""
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    sizes = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), sizes, out=np.zeros_like(sizes), where=sizes > 1e-12)


def summarize(dataset: Dataset | None) -> dict[str, Any]:
    """Songs, annotators, songs per annotator, label spread, agreement: of what the loader keeps.

    Parameters
    ----------
    dataset : Dataset or None
        None where nothing could be loaded.
    """
    if dataset is None:
        return {"usable songs": 0}
    out: dict[str, Any] = {"real data": dataset.real, "usable songs": len(dataset.mean)}
    out["songs by part"] = {part: len(ids) for part, ids in dataset.split.songs.items()}
    out["songs with audio"] = sum(song.audio is not None for song in dataset.songs.values())
    out["annotators by part"] = {part: len(ids) for part, ids in dataset.split.annotators.items()}
    sizes = sorted(len(tracks) for tracks in dataset.tracks.values())
    if sizes:
        middle = float(np.median(sizes))
        out["songs per annotator"] = {"fewest": sizes[0], "median": middle, "most": sizes[-1]}
    if dataset.mean:
        labels = [a.values for a in dataset.mean.values()]
        out["labels per song"] = {"fewest": min(map(len, labels)), "most": max(map(len, labels))}
        pooled = np.concatenate(labels)
        out["label mean"] = _pair(pooled.mean(0))
        out["label SD, pooled"] = _pair(pooled.std(0))
        for part, ids in dataset.split.songs.items():
            inside = [dataset.mean[i].values.std(0) for i in ids]
            if inside:
                out[f"label SD within a song, {part}"] = _pair(np.mean(inside, 0))
    spread, correlation = _agreement(dataset)
    if spread:
        out["disagreement (SD over annotators)"] = spread
        out["agreement (r with the others' mean)"] = correlation
    reasons = Counter(reason(e.reason) for e in dataset.exclusions)
    out["left out, by reason"] = dict(reasons.most_common())
    return out


def reason(text: str) -> str:
    """The kind of an exclusion, without its numbers, so that equal kinds are counted together."""
    words = ["#" if any(c.isdigit() for c in word) else word for word in text.split()]
    return " ".join(words).split(" - ")[0].replace(",", ";")
