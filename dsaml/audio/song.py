"""One recording of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = (".mp3", ".wav", ".ogg", ".flac")  # of the files that are decoded


@dataclass(frozen=True)
class Song:
    """One recording.

    Attributes
    ----------
    id : str
        The data set's own id.
    audio : Path or None
        The audio file; ``None`` where the data set has labels but no audio at hand.
    clip : bool
        True for a clip with labels on 15-45 s (60 steps), False for a full-length song.
    """

    id: str
    audio: Path | None
    clip: bool = True
