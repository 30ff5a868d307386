"""PMEmo (Zhang et al. 2018) in its 2019 layout: averaged labels in [0, 1], no annotators' own labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsaml.config import STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset, Split
from dsaml.data.findings import Findings, by_number
from dsaml.data.label_tables import Track, read_long, tracks_in
from dsaml.data.splits import committed, drawn_parts

SHORTEST, LONGEST = 25.0, 65.0  # s; shorter songs are dropped, longer ones are the test set
FIRST = 15.5  # s; frameTime of the first label
CLIP = 20  # labels of a clip, as in the released code: every song that is long enough has them
COLUMNS = ("frameTime", "Arousal(mean)", "Valence(mean)")


def load(found: Findings, name: str) -> Dataset:
    """Load PMEmo: ``metadata.csv``, ``annotations/`` and, for everything but floors, ``chorus/`` with ``<musicId>.mp3``.

    A label with frameTime t closes its half second in PMEmo: the first is 15.5, and the last lies within the last half
    second of nearly every song. Here, as everywhere in the package, a label at t opens its half second, so times are
    frameTime - 0.5. The values stay on PMEmo's own scale, [0, 1].

    The split is the paper's: songs shorter than 25 s dropped, longer than 65 s test, the rest train and validation.
    """
    metadata, labels = found.root / "metadata.csv", found.root / "annotations" / "dynamic_annotations.csv"
    facts = read_long(found, metadata, ["musicId"], ["duration"])
    table = read_long(found, labels, ["musicId"], COLUMNS)
    duration: dict[str, float] = {}
    for line, song, seconds in facts.itertuples(name=None):
        if song in duration:
            found.error(metadata, f"musicId {song} appears twice; keep one of the rows", line)
        elif not seconds > 0:
            found.error(metadata, f"musicId {song} has the duration {seconds:g} s", line)
        duration[song] = seconds
    by_key, bad = tracks_in(found, labels, table, ["musicId"], COLUMNS, low=0)
    tracks = {song: track for (song,), track in by_key.items()}
    _check_times(found, labels, tracks, duration)
    long_enough = {song for song, seconds in duration.items() if seconds >= SHORTEST}
    if labels not in found.fatal and duration:
        without = duration.keys() - tracks.keys() - {song for (song,) in bad}
        found.songs(labels, without - long_enough, "in metadata.csv, no labels; shorter than 25 s anyway", "notice")
        found.songs(labels, without & long_enough, "in metadata.csv, but no labels")
        found.songs(metadata, tracks.keys() - duration.keys(), "labels but not in metadata.csv")
    found.counts |= {"songs in metadata.csv": len(duration), "songs with averaged labels": len(tracks)}
    found.counts["songs shorter than 25 s (dropped)"] = len(duration) - len(long_enough)
    spread = labels.with_name("dynamic_annotations_std.csv")
    if not spread.is_file():
        found.notice(spread, "missing; it holds the standard deviations over annotators, which nothing here needs")
    mean = {}
    for song in sorted({*duration, *tracks}, key=by_number):
        track = tracks.get(song)
        if song in duration and duration[song] < SHORTEST:
            found.exclude(f"song {song}", f"shorter than {SHORTEST:g} s, dropped as in the paper")
        elif not np.isfinite(duration.get(song, np.nan)):
            found.exclude(f"song {song}", "no duration in metadata.csv, so no part of the split")
        elif track is None:
            found.exclude(f"song {song}", bad.get((song,), "no labels"))
        elif _jumps(track).size or track.times[0] < STEP_SECONDS:
            found.exclude(f"song {song}", f"its times do not rise by {STEP_SECONDS} s, from {STEP_SECONDS} s on")
        else:
            mean[song] = Annotation(song, MEAN, track.times - STEP_SECONDS, track.values)
    songs = found.pair_audio(found.root / "chorus", mean, duration)
    found.require(metadata, labels)
    parts = committed(name, mean, lambda new: drawn_parts("pmemo:song", new, lambda song: duration[song] > LONGEST))
    split, exclusions = Split(parts, dict.fromkeys(parts, ())), tuple(found.exclusions)
    return Dataset(name, True, found.root, songs, mean, {}, split, exclusions, clip_steps=CLIP, prefix_steps=CLIP)


def _jumps(track: Track) -> np.ndarray:
    """Numbers of the labels after which time does not go on by half a second."""
    return np.flatnonzero(np.abs(np.diff(track.times) - STEP_SECONDS) > 1e-6)


def _check_times(found: Findings, path: Path, tracks: Mapping[str, Track], duration: Mapping[str, float]) -> None:
    """Errors where labels start elsewhere than at 15.5 s, jump, or end after the song."""
    for song, track in tracks.items():
        jumps, end = _jumps(track), float(track.times[-1])
        if abs(track.times[0] - FIRST) > 1e-6:
            found.error(path, f"musicId {song} starts at {track.times[0]:g} s, not at {FIRST} s", track.line)
        elif len(jumps):
            message = f"musicId {song} jumps from {track.times[jumps[0]]:g} to {track.times[jumps[0] + 1]:g} s"
            found.error(path, f"{message}; times must rise by {STEP_SECONDS} s", track.line + int(jumps[0]) + 1)
        if song in duration and end > duration[song] + STEP_SECONDS:
            message = f"musicId {song} has labels until {end:g} s but metadata.csv says {duration[song]:g} s"
            found.error(path, message, track.line)
