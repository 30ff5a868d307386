"""One listener's (or the averaged) curve of arousal and valence over one song."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsaml.config import CLIP_STEPS
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
