"""One listener's (or the averaged) curve of arousal and valence over one song, and how labels of any times get 2 Hz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dsaml.config import CLIP_STEPS, STEP_SECONDS
from dsaml.errors import DsamlError

MEAN = "all"
"""The annotator id of the averaged label, as the released code names it."""

FLAT = 0.01
"""Labels that deviate less from their mean, on average, carry no curve."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """Arousal and valence at strictly increasing times.

    Raises
    ------
    DsamlError
        If lengths differ, a time is negative, times do not increase, or a time or a value is not finite.
    """

    song_id: str
    annotator_id: str  #: whose perception; "all" for the averaged label
    times: np.ndarray  #: (T,), s from the start of the song; a label at ``t`` belongs to the audio slice ``[t, t + 0.5)``
    values: np.ndarray  #: (T, 2), arousal and valence on the data set's own scale: [-1, 1] for DEAM, [0, 1] for PMEmo

    def __post_init__(self) -> None:
        who = f"song {self.song_id}, annotator {self.annotator_id}"
        if self.values.shape != (len(self.times), 2):
            raise DsamlError(f"{who}: {len(self.times)} times but values of shape {self.values.shape}; want (T, 2)")
        if len(self.times) == 0:
            raise DsamlError(f"{who}: no labels")
        if not (np.all(np.isfinite(self.times)) and self.times[0] >= 0):
            raise DsamlError(f"{who}: a time is negative or not a finite number; times count from the song's start")
        if not np.all(np.diff(self.times) > 0):
            raise DsamlError(f"{who}: times are not strictly increasing")
        if not np.all(np.isfinite(self.values)):
            raise DsamlError(f"{who}: a label is not a finite number")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def is_flat(self) -> bool:
        """Whether the mean absolute deviation of the first 60 labels is below ``FLAT`` in either dimension."""
        head = self.values[:CLIP_STEPS]
        return bool(np.any(np.abs(head - head.mean(0)).mean(0) < FLAT))


def why_not(times: np.ndarray, start: float, longest_gap: float) -> str | None:
    """Why labels at ``times`` (T,) cannot be brought to 2 Hz from ``start`` seconds on; None if they can.

    There has to be a label half a second after ``start`` at the latest, one later, and no gap of more than ``longest_gap`` seconds.
    """
    if len(times) < 2 or times[-1] < start + STEP_SECONDS:
        return f"ends at {times[-1]:g} s; labels are used from {start:g} s on"
    used = times[np.searchsorted(times, start, "right") - 1 if times[0] <= start else 0 :]
    if used[0] > start + STEP_SECONDS:
        return f"starts at {used[0]:g} s; labels are used from {start:g} s on and must cover it"
    gap = float(np.diff(used).max())
    return f"has {gap:.1f} s between two labels, more than {longest_gap:g} s" if gap > longest_gap + 1e-6 else None


def at_two_hertz(times: np.ndarray, values: np.ndarray, start: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels (T, 2) at ``times`` (T,), interpolated linearly: every 0.5 s from ``start`` on, up to the last of them.

    A track that starts up to half a second late holds its first label.
    """
    steps = int((times[-1] - start) / STEP_SECONDS + 1e-6) + 1
    grid = start + STEP_SECONDS * np.arange(steps)
    return grid, np.stack([np.interp(grid, times, values[:, d]) for d in range(2)], 1)


def mean_of(tracks: Sequence[Annotation]) -> Annotation:
    """Averaged label of a song: at each step the mean over the annotators who are still there; all begin at the same time."""
    longest = max(tracks, key=len)
    values = np.full((len(tracks), len(longest), 2), np.nan)
    for i, track in enumerate(tracks):
        values[i, : len(track)] = track.values
    return Annotation(longest.song_id, MEAN, longest.times, np.nanmean(values, 0))
