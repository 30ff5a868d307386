"""What the book's player shows and plays: three songs, five listeners each, the model before and after personalization.

Chosen by rules, not by ear: the songs on which listeners differ most, as much as in the middle, and least; of each song's
listeners those at five places of the order by what personalization gains, from the most to the least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.recording import encode, excerpt
from dsaml.evaluate.metrics import score
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.run import Experiment

LISTENERS = (1.0, 0.75, 0.5, 0.25, 0.0)  # places in the order of gains; 1 is the largest
PEAKS = 600  # of the drawn waveform
BEFORE = f"{MAML_ANNOTATOR}, before"


def _curve(values: Any) -> list[list[float]]:
    return np.round(np.asarray(values, float), 3).tolist()


def _ccc(predicted: Any, truth: Any) -> float:
    return float(np.mean([cell["ccc"] for cell in score(np.asarray(predicted), np.asarray(truth)).values()]))


def peaks(waveform: np.ndarray, count: int = PEAKS) -> list[float]:
    """Largest absolute value of ``count`` equal parts of a waveform (samples,)."""
    return [round(float(np.abs(part).max()), 3) for part in np.array_split(waveform, count)]


def songs_by_disagreement(predictions: list[dict[str, Any]]) -> list[str]:
    """Query songs, those first on which listeners differ most (SD over listeners)."""
    curves: dict[str, list[np.ndarray]] = {}
    for row in predictions:
        for song, found in row["songs"].items():
            curves.setdefault(song, []).append(found["truth"])
    spread = {song: float(np.std(values, axis=0).mean()) for song, values in curves.items()}
    return sorted(spread, key=lambda song: -spread[song])


def listeners_of(song: str, predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Listeners at the places of ``LISTENERS``, with their curves (60, 2): their own, and the model's for them."""
    rows = []
    for row in predictions:
        if song in row["songs"]:
            found = row["songs"][song]
            before, after = (_ccc(found[name], found["truth"]) for name in (BEFORE, MAML_ANNOTATOR))
            rows.append(
                {
                    "id": row["annotator"],
                    "support": row["support"],
                    "ccc_before": round(before, 3),
                    "ccc_after": round(after, 3),
                    "own": _curve(found["truth"]),
                    "after": _curve(found[MAML_ANNOTATOR]),
                }
            )
    rows.sort(key=lambda item: item["ccc_after"] - item["ccc_before"])
    return [rows[round(place * (len(rows) - 1))] for place in LISTENERS]


def write(experiment: Experiment, predictions: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the songs' clips into ``folder`` and give what the page's script reads.

    Parameters
    ----------
    predictions : list of dict
        From :func:`dsaml.experiment.exhibits.personal_predictions`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = songs_by_disagreement(predictions)
    audio = experiment.profile.audio
    seconds, songs = experiment.store.steps * audio.step_seconds, []
    for title, song in zip(
        ("listeners differ most", "in the middle", "listeners differ least"),
        (order[0], order[len(order) // 2], order[-1]),
        strict=True,
    ):
        waveform, rate = excerpt(experiment.dataset.songs[song].audio, audio.label_start, seconds)
        encode(folder / f"{song}.mp3", waveform, rate)
        one = next(row["songs"][song] for row in predictions if song in row["songs"])
        songs.append(
            {
                "id": song,
                "title": f"song {song}: {title}",
                "audio": f"{song}.mp3",
                "peaks": peaks(waveform),
                "average": _curve(one["mean label"]),
                "before": _curve(one[BEFORE]),
                "listeners": listeners_of(song, predictions),
            }
        )
    return {"seconds": seconds, "step": audio.step_seconds, "start": audio.label_start, "songs": songs}
