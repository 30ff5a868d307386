"""One recording of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = (".mp3", ".wav", ".ogg", ".flac")  # of the files that are decoded


@dataclass(frozen=True)
class Song:
    """One recording."""

    id: str  #: the data set's own
    audio: Path | None  #: its file; None where the data set has labels but no audio at hand
    clip: bool = True  #: a clip with labels on 15-45 s (60 steps), or a full-length song
