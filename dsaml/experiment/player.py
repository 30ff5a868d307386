"""What the book's player shows and plays: six songs, their listeners, the model before and after personalization for five of them.

Chosen by rules, not by ear: songs at even distances in the order of how much listeners differ; of each song's listeners those at
five places of the order by what personalization gains, from the most to the least.
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

SONGS = 6
LISTENERS = (1.0, 0.75, 0.5, 0.25, 0.0)  # places in the order of gains; 1 is the largest
PEAKS = 600  # of the drawn waveform


def peaks(waveform: np.ndarray, count: int = PEAKS) -> list[float]:
    """Largest absolute value of ``count`` equal parts of a waveform (samples,)."""
    return [round(float(np.abs(part).max()), 3) for part in np.array_split(waveform, count)]


def disagreement(cases: list[Case]) -> dict[str, float]:
    """How much listeners differ (SD over them, mean over time and dimensions) on each query song, most first."""
    curves: dict[str, list[np.ndarray]] = {}
    for case in cases:
        curves.setdefault(case.song, []).append(case.curves[TRUTH])
    spread = {song: float(np.std(of_song, axis=0).mean()) for song, of_song in curves.items()}
    return dict(sorted(spread.items(), key=lambda item: -item[1]))


def shown_of(song: str, cases: list[Case]) -> list[dict[str, Any]]:
    """Listeners at the places of ``LISTENERS``, and the personalized model's curve (60, 2) for them."""
    rows = []
    for case in cases:
        if case.song == song:
            _, before, after = case.gain()
            gain = {"ccc_before": round(before, 3), "ccc_after": round(after, 3)}
            curve = {"after": rounded(case.curves[MAML_ANNOTATOR], 3)}
            rows.append({"id": case.annotator, "support": case.support} | gain | curve)
    rows.sort(key=lambda item: item["ccc_after"] - item["ccc_before"])
    return [rows[round(place * (len(rows) - 1))] for place in LISTENERS]


def write(experiment: Experiment, cases: list[Case], folder: Path) -> dict[str, Any]:
    """Write the songs' clips into ``folder`` and give what the page's script reads."""
    folder.mkdir(parents=True, exist_ok=True)
    spread, audio = disagreement(cases), experiment.profile.audio
    places = np.unique(np.linspace(0, len(spread) - 1, SONGS).round().astype(int))
    seconds, songs = experiment.store.steps * audio.step_seconds, []
    for song in np.array(list(spread))[places].tolist():
        waveform, rate = excerpt(experiment.dataset.songs[song].audio, audio.label_start, seconds)
        encode(folder / f"{song}.mp3", waveform, rate)
        of_song = {case.annotator: case.curves for case in cases if case.song == song}
        curves = next(iter(of_song.values()))
        songs.append(
            {
                "id": song,
                "title": f"song {song}: listeners differ by {spread[song]:.2f}",
                "audio": f"{song}.mp3",
                "peaks": peaks(waveform),
                "average": rounded(curves[MEAN_LABEL], 3),
                "before": rounded(curves[BEFORE], 3),
                "listeners": {who: rounded(of_one[TRUTH], 3) for who, of_one in of_song.items()},
                "shown": shown_of(song, cases),
            }
        )
    return {"seconds": seconds, "step": audio.step_seconds, "start": audio.label_start, "songs": songs}
