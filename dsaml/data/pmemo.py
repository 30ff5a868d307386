"""PMEmo (Zhang et al. 2018) in its 2019 layout: averaged labels in [0, 1], no annotators' own labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsaml.config import CLIP_STEPS, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset, Exclusion, Song, Split
from dsaml.data.deam import audio_files, number
from dsaml.data.label_tables import Long, read_long, require, tracks_in
from dsaml.data.splits import committed

SHORTEST, LONGEST = 25.0, 65.0  # s; shorter songs are dropped, longer ones are the test set
AROUSAL, VALENCE = "Arousal(mean)", "Valence(mean)"


def read_metadata(root: Path) -> Long:
    """``metadata.csv``: columns musicId and duration in seconds."""
    return read_long(root / "metadata.csv", ["musicId"], ["duration"])


def read_labels(root: Path) -> Long:
    """``annotations/dynamic_annotations.csv``: musicId, frameTime in seconds, and both averaged labels."""
    return read_long(root / "annotations" / "dynamic_annotations.csv", ["musicId"], ["frameTime", AROUSAL, VALENCE])


def audio_folder(root: Path) -> Path:
    """``chorus/``, which holds ``<musicId>.mp3``."""
    return root / "chorus"


def load(root: Path) -> Dataset:
    """Load PMEmo.

    A label with frameTime t closes its half second in PMEmo: the first is 15.5, and the last lies within the last half
    second of nearly every song. Here, as everywhere in the package, a label at t opens its half second, so times are
    frameTime - 0.5. The values stay on PMEmo's own scale, [0, 1].

    Parameters
    ----------
    root : Path
        Holds ``metadata.csv``, ``annotations/`` and, for everything but floors, ``chorus/``.

    Returns
    -------
    Dataset
        Split as in the paper: shorter than 25 s dropped, longer than 65 s test, the rest train and validation.

    Raises
    ------
    DsamlError
        If a table is missing or is no table.
    """
    root = Path(root)
    metadata, labels = read_metadata(root), read_labels(root)
    require(metadata)
    require(labels)
    duration = dict(zip(metadata.columns["musicId"], metadata.columns["duration"], strict=True))
    tracks, bad, _ = tracks_in(labels, ["musicId"], "frameTime", AROUSAL, VALENCE)
    audio = audio_files(audio_folder(root))
    mean, exclusions = {}, []
    for song in sorted({*duration, *(k for (k,) in tracks), *audio}, key=number):
        track = tracks.get((song,))
        if song in duration and duration[song] < SHORTEST:
            exclusions.append(Exclusion(f"song {song}", f"shorter than {SHORTEST:g} s, dropped as in the paper"))
        elif not np.isfinite(duration.get(song, np.nan)):
            exclusions.append(Exclusion(f"song {song}", "no duration in metadata.csv, so no part of the split"))
        elif track is None:
            exclusions.append(Exclusion(f"song {song}", bad.get((song,), "no labels")))
        elif np.any(np.abs(np.diff(track.times) - STEP_SECONDS) > 1e-6):
            exclusions.append(Exclusion(f"song {song}", f"its times do not rise by {STEP_SECONDS} s"))
        else:
            mean[song] = Annotation(song, MEAN, track.times - STEP_SECONDS, track.values)
            if song not in audio:
                exclusions.append(Exclusion(f"song {song}", "no audio; its labels are kept"))
    songs = {i: Song(i, audio.get(i), len(mean[i]) == CLIP_STEPS) for i in mean}
    parts = committed("pmemo", mean, lambda i: duration[i] > LONGEST)
    annotators: dict[str, tuple[str, ...]] = dict.fromkeys(parts, ())
    return Dataset("pmemo", True, root, songs, mean, {}, Split(parts, annotators), tuple(exclusions))
