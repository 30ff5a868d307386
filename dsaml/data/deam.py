"""DEAM (Aljanaki, Yang and Soleymani 2017) in its archives' own layout; the embedded corpus is written in it too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dsaml.config import CLIP_STEPS, DIMENSIONS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import DATASETS, PARTS, Dataset, Exclusion, Song, Split
from dsaml.data.label_tables import Wide, read_wide, require
from dsaml.data.splits import committed, select_annotators

AUDIO_SUFFIXES = (".mp3", ".wav", ".ogg", ".flac")
DYNAMIC = "dynamic (per second annotations)"
LAST_CLIP = 2000  # ids above it are the 58 full songs, the paper's test set
FLAT = 0.01  # a track whose mean |x - mean| over its first 60 labels is below it carries no curve
MIN_SONGS = {"train": 16, "validation": 2, "test": 16}
"""Fewest songs, within the part, of an annotator who is kept: 1 support + 15 query, or 1 + 1 for validation."""


def audio_folder(root: Path) -> Path:
    """``DEAM_audio/MEMD_audio``, or ``MEMD_audio`` where the archive was unpacked without its own folder."""
    plain = root / "MEMD_audio"
    return plain if plain.is_dir() else root / "DEAM_audio" / "MEMD_audio"


def labels_folder(root: Path) -> Path:
    """``DEAM_Annotations/annotations``, or ``annotations`` where the archive was unpacked without its own folder."""
    plain = root / "annotations"
    return plain if plain.is_dir() else root / "DEAM_Annotations" / "annotations"


def mean_file(root: Path, dimension: str) -> Path:
    """The averaged labels of all songs, ``dimension`` "arousal" or "valence"."""
    return labels_folder(root) / "annotations averaged per song" / DYNAMIC / f"{dimension}.csv"


def rater_folder(root: Path, dimension: str) -> Path:
    """The folder with one file per song of every annotator's labels."""
    return labels_folder(root) / "annotations per each rater" / DYNAMIC / dimension


def audio_files(folder: Path) -> dict[str, Path]:
    """Audio files of a folder by their name without suffix."""
    if not folder.is_dir():
        return {}
    files = (f for f in sorted(folder.iterdir()) if f.suffix.lower() in AUDIO_SUFFIXES and not f.name.startswith("."))
    return {f.stem: f for f in files if f.is_file()}


def number(song_id: str) -> tuple[int, str]:
    """Sorting key that puts "9" before "10"."""
    return (int(song_id), "") if song_id.isdecimal() else (10**9, song_id)


def is_flat(values: np.ndarray) -> bool:
    """Whether a track (T, 2) does not move: mean absolute deviation of its first 60 steps below 0.01 in either dimension."""
    head = values[:CLIP_STEPS]
    return bool(np.any(np.abs(head - head.mean(0)).mean(0) < FLAT))


def _pair(tables: Mapping[str, Wide], song_id: str, who: str, key: str) -> tuple[Annotation | None, str | None]:
    """The annotation of one row of both tables, cut to the shorter, and what was wrong or cut."""
    arousal, valence = (tables[d].rows.get(key) for d in DIMENSIONS)
    if arousal is None or valence is None:
        for d in DIMENSIONS:
            if key in tables[d].bad:
                return None, f"the {d} labels {tables[d].bad[key]}".replace("labels label", "label")
        return None, f"no {'arousal' if arousal is None else 'valence'} labels"
    sizes = len(arousal.values), len(valence.values)
    steps = min(sizes)
    values = np.stack([arousal.values[:steps], valence.values[:steps]], 1)
    note = f"{sizes[0]} arousal but {sizes[1]} valence labels; cut to {steps}" if sizes[0] != sizes[1] else None
    return Annotation(song_id, who, tables["arousal"].times[:steps], values), note


def read_raters(folders: Mapping[str, Path], song_id: str) -> tuple[dict[str, Annotation], list[Exclusion]]:
    """All annotators' labels of one song from ``<folder>/<song_id>.csv`` of both dimensions.

    Returns
    -------
    tracks : dict of annotator id to Annotation
        Empty for a song whose files name no annotators.
    exclusions : list of Exclusion
    """
    paths = [folders[d] / f"{song_id}.csv" for d in DIMENSIONS]
    if not any(p.is_file() for p in paths):
        return {}, []
    tables = {d: read_wide(p, "WorkerId", ids_required=False) for d, p in zip(DIMENSIONS, paths, strict=True)}
    fatal = next((p for table in tables.values() for p in table.problems if p.fatal), None)
    if fatal:
        return {}, [Exclusion(f"song {song_id}, all annotators", str(fatal))]
    if not all(table.ids for table in tables.values()):
        return {}, [Exclusion(f"song {song_id}, all annotators", "no annotator ids; only the averaged label is used")]
    tracks, exclusions = {}, []
    for who in dict.fromkeys(k for table in tables.values() for k in (*table.rows, *table.bad)):
        track, note = _pair(tables, song_id, who, who)
        if track:
            tracks[who] = track
        if note:
            exclusions.append(Exclusion(f"song {song_id}, annotator {who}", note))
    return tracks, exclusions


def read_mean(root: Path) -> tuple[dict[str, Annotation], list[Exclusion]]:
    """The averaged labels of every song.

    Raises
    ------
    DsamlError
        If a table as a whole cannot be read. A song whose row cannot be used is an exclusion.
    """
    tables = {d: read_wide(mean_file(root, d), "song_id") for d in DIMENSIONS}
    for table in tables.values():
        require(table)
    mean, exclusions = {}, []
    for song in sorted({k for t in tables.values() for k in (*t.rows, *t.bad)}, key=number):
        if not song.isdecimal():
            exclusions.append(Exclusion(f"song {song}", "its id is no whole number"))
            continue
        track, note = _pair(tables, song, MEAN, song)
        if track:
            mean[song] = track
        if note:
            exclusions.append(Exclusion(f"song {song}", note))
    return mean, exclusions


def is_test(song_id: str) -> bool:
    """The paper's test set: the full songs, ids above 2000."""
    return song_id.isdecimal() and int(song_id) > LAST_CLIP


def load(
    root: Path,
    *,
    split: Split | None = None,
    name: str = "deam",
    real: bool = True,
    oracle: Path | None = None,
    min_songs: Mapping[str, int] | None = None,
) -> Dataset:
    """Load DEAM, or anything else written in its layout.

    Parameters
    ----------
    root : Path
        Holds ``DEAM_Annotations/`` and, for everything but floors, ``DEAM_audio/`` (the archives' own folders).
    split : Split, optional
        Default: ids above 2000 are test, the rest by ``data/splits/deam.json``; annotators by their id's hash.
    name : str
    real : bool
        A root with a ``corpus.json`` is an embedded corpus, which is never called real whatever is passed here.
    oracle : Path, optional
        A folder with ``{arousal,valence}/<song>.csv`` of noise-free curves.
    min_songs : mapping, optional
        Fewest songs per annotator for each part, see ``MIN_SONGS``; the released code asks 16 in training and test.

    Returns
    -------
    Dataset
        Labels in [-1, 1], times in seconds from the start of the song. ``mean`` keeps songs that have no audio.

    Raises
    ------
    DsamlError
        If an averaged table is missing or is no table.
    """
    root, marker = Path(root), Path(root) / "corpus.json"
    if marker.is_file():
        real = False
        name, its_split = _corpus(marker)
        split = split or its_split
    mean, exclusions = read_mean(root)
    songs_by_part = split.songs if split else committed("deam", mean, is_test)
    audio = audio_files(audio_folder(root))
    songs = {i: Song(i, audio.get(i), len(mean[i]) == CLIP_STEPS) for i in mean}
    exclusions += [Exclusion(f"song {i}", "no audio; its labels are kept") for i in songs if not songs[i].audio]
    exclusions += [Exclusion(f"song {i}", "audio but no labels") for i in sorted(audio, key=number) if i not in mean]
    tracks: dict[str, dict[str, Annotation]] = {}
    folders = {d: rater_folder(root, d) for d in DIMENSIONS}
    for song in mean:
        found, left_out = read_raters(folders, song)
        exclusions += left_out
        for who, track in found.items():
            if is_flat(track.values):
                reason = f"flat track (mean deviation below {FLAT})"
                exclusions.append(Exclusion(f"song {song}, annotator {who}", reason))
            else:
                tracks.setdefault(who, {})[song] = track
    limits = MIN_SONGS | dict(min_songs or {})
    kept, annotators, left_out = select_annotators(tracks, songs_by_part, split.annotators if split else None, limits)
    true: dict[str, dict[str, Annotation]] = {}
    if oracle:
        for song in mean:
            for who, track in read_raters({d: oracle / d for d in DIMENSIONS}, song)[0].items():
                true.setdefault(who, {})[song] = track
    return Dataset(
        name=name,
        real=real,
        root=root,
        songs=songs,
        mean=mean,
        tracks=kept,
        split=Split({part: tuple(i for i in ids if i in mean) for part, ids in songs_by_part.items()}, annotators),
        exclusions=tuple(exclusions + left_out),
        oracle=true,
    )


def _corpus(marker: Path) -> tuple[str, Split | None]:
    """The name and the split that an embedded corpus carries in its ``corpus.json``; None if it carries no split."""
    try:
        description = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return DATASETS["two-signs"], None
    return population_of(description), split_of(description)


def population_of(description: object) -> str:
    """The data set's name in the content of a ``corpus.json``: by its population, the default's where it names none."""
    config = description.get("config") if isinstance(description, dict) else None
    population = config.get("population") if isinstance(config, dict) else None
    return DATASETS.get(population, DATASETS["two-signs"]) if isinstance(population, str) else DATASETS["two-signs"]


def split_of(description: object) -> Split | None:
    """The split in the content of a ``corpus.json``; None if it is not all there."""
    parts = [description.get(kind) if isinstance(description, dict) else None for kind in ("songs", "annotators")]
    for ids in parts:
        whole = isinstance(ids, dict) and all(isinstance(ids.get(part), list) for part in PARTS)
        if not whole or not all(isinstance(name, str) for part in PARTS for name in ids[part]):
            return None
    return Split(*({part: tuple(ids[part]) for part in PARTS} for ids in parts))
