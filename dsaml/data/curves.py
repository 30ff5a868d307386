"""Tracks of any times on the package's grid of 2 Hz, and the averaged label of a song."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dsaml.config import STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.label_tables import Track


def why_not(track: Track, start: float, longest_gap: float) -> str | None:
    """Why a track cannot be brought to 2 Hz from ``start`` seconds on; None if it can.

    It has to have a label half a second after ``start`` at the latest, one later, and no gap of more than ``longest_gap`` seconds.
    """
    times = track.times
    if len(times) < 2 or times[-1] < start + STEP_SECONDS:
        return f"ends at {times[-1]:g} s; labels are used from {start:g} s on"
    used = times[np.searchsorted(times, start, "right") - 1 if times[0] <= start else 0 :]
    if used[0] > start + STEP_SECONDS:
        return f"starts at {used[0]:g} s; labels are used from {start:g} s on and must cover it"
    gap = float(np.diff(used).max())
    return f"has {gap:.1f} s between two labels, more than {longest_gap:g} s" if gap > longest_gap + 1e-6 else None


def at_two_hertz(track: Track, start: float) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) from ``start`` on, every 0.5 s, up to the last label, and values (T, 2) there, by linear interpolation.

    A track that starts up to half a second late holds its first label.
    """
    steps = int((track.times[-1] - start) / STEP_SECONDS + 1e-6) + 1
    times = start + STEP_SECONDS * np.arange(steps)
    return times, np.stack([np.interp(times, track.times, track.values[:, d]) for d in range(2)], 1)


def mean_of(song: str, tracks: Mapping[str, Annotation]) -> Annotation:
    """Averaged label of a song: at each step the mean over the annotators who are still there; all begin at the same time."""
    longest = max(tracks.values(), key=len)
    values = np.full((len(tracks), len(longest), 2), np.nan)
    for i, track in enumerate(tracks.values()):
        values[i, : len(track)] = track.values
    return Annotation(song, MEAN, longest.times, np.nanmean(values, 0))
