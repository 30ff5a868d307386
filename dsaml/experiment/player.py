"""What the book's player shows and plays: three songs, five listeners each, the model before and after personalization.

Chosen by rules, not by ear: the songs on which listeners differ most, as much as in the middle, and least; of each song's
listeners those at five places of the order by what personalization gains, from the most to the least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.recording import encode, excerpt
from dsaml.experiment.cases import MEAN_LABEL, TRUTH, Case
from dsaml.experiment.recipes import MAML_ANNOTATOR
from dsaml.experiment.results import rounded
from dsaml.experiment.rows import BEFORE
from dsaml.experiment.run import Experiment

LISTENERS = (1.0, 0.75, 0.5, 0.25, 0.0)  # places in the order of gains; 1 is the largest
PEAKS = 600  # of the drawn waveform


def peaks(waveform: np.ndarray, count: int = PEAKS) -> list[float]:
    """Largest absolute value of ``count`` equal parts of a waveform (samples,)."""
    return [round(float(np.abs(part).max()), 3) for part in np.array_split(waveform, count)]


def songs_by_disagreement(cases: list[Case]) -> list[str]:
    """Query songs, those first on which listeners differ most (SD over listeners)."""
    curves: dict[str, list[np.ndarray]] = {}
    for case in cases:
        curves.setdefault(case.song, []).append(case.curves[TRUTH])
    return sorted(curves, key=lambda song: -np.std(curves[song], axis=0).mean())


def listeners_of(song: str, cases: list[Case]) -> list[dict[str, Any]]:
    """Listeners at the places of ``LISTENERS``, with their curves (60, 2): their own, and the model's for them."""
    rows = []
    for case in cases:
        if case.song == song:
            _, before, after = case.gain()
            curves = {"own": rounded(case.curves[TRUTH], 3), "after": rounded(case.curves[MAML_ANNOTATOR], 3)}
            gain = {"ccc_before": round(before, 3), "ccc_after": round(after, 3)}
            rows.append({"id": case.annotator, "support": case.support} | gain | curves)
    rows.sort(key=lambda item: item["ccc_after"] - item["ccc_before"])
    return [rows[round(place * (len(rows) - 1))] for place in LISTENERS]


def write(experiment: Experiment, cases: list[Case], folder: Path) -> dict[str, Any]:
    """Write the songs' clips into ``folder`` and give what the page's script reads."""
    folder.mkdir(parents=True, exist_ok=True)
    order, audio = songs_by_disagreement(cases), experiment.profile.audio
    chosen = {
        "listeners differ most": order[0],
        "in the middle": order[len(order) // 2],
        "listeners differ least": order[-1],
    }
    seconds, songs = experiment.store.steps * audio.step_seconds, []
    for title, song in chosen.items():
        waveform, rate = excerpt(experiment.dataset.songs[song].audio, audio.label_start, seconds)
        encode(folder / f"{song}.mp3", waveform, rate)
        curves = next(case.curves for case in cases if case.song == song)
        songs.append(
            {
                "id": song,
                "title": f"song {song}: {title}",
                "audio": f"{song}.mp3",
                "peaks": peaks(waveform),
                "average": rounded(curves[MEAN_LABEL], 3),
                "before": rounded(curves[BEFORE], 3),
                "listeners": listeners_of(song, cases),
            }
        )
    return {"seconds": seconds, "step": audio.step_seconds, "start": audio.label_start, "songs": songs}
