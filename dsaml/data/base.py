"""What every loader returns, and the one way to call a loader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

from dsaml.audio.song import Song
from dsaml.config import CLIP_STEPS, FEWEST_STEPS, LABEL_START
from dsaml.data.annotations import Annotation
from dsaml.data.findings import Exclusion, Findings
from dsaml.errors import DsamlError

PARTS = ("train", "validation", "test")
Tracks = Mapping[str, Mapping[str, Annotation]]
"""Annotator id -> song id -> labels."""


@dataclass(frozen=True)
class Split:
    """Disjoint song ids and disjoint annotator ids, each under ``train``, ``validation`` and ``test``."""

    songs: Mapping[str, tuple[str, ...]]
    annotators: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Songs and their labels, as found on disk (labels are never altered)."""

    name: str  #: one of ``LOADERS``
    real: bool  #: False for the embedded corpora; it follows into every result file
    root: Path
    songs: Mapping[str, Song]  #: by song id
    mean: Mapping[str, Annotation]  #: the averaged label of each song (annotator id "all")
    #: each annotator's own labels, usable tracks that move; empty where the data set has none
    tracks: Tracks
    split: Split
    exclusions: tuple[Exclusion, ...] = ()  #: everything that was left out, with the reason
    #: noise-free true curve, known only for simulated listeners ("all" = the population's)
    oracle: Tracks = field(default_factory=dict)
    label_start: float = LABEL_START  #: s from a song's start to its first label
    #: labels that training and the protocols take of a song, from its first one on; a shorter song gives those that it has
    clip_steps: int = CLIP_STEPS
    #: labels that the prefix protocol gives away: 30 s as in the released code, less where songs are short
    prefix_steps: int = CLIP_STEPS
    #: tracks that never move: they have a level and no CCC. And the other tracks of people who
    #: without these have too few songs. :func:`with_flat` puts all of them among the others.
    flat: Tracks = field(default_factory=dict)
    #: part -> those people; nobody of them is in ``split``
    flat_people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


LOADERS = {
    "deam": "deam",
    "pmemo": "pmemo",
    "vgmidi": "vgmidi",
    "vgmidi-2": "vgmidi",
    "merp": "merp",
    "merp-filtered": "merp",
    "live-piano": "live_piano",
    "folder": "folder",
    "synthetic": "synthetic.corpus",
    "stress": "synthetic.corpus",
}
"""The module here whose ``load(found, name)`` reads each data set in ``found.root``; only the one that is asked for is imported.

It raises :class:`DsamlError` where a table cannot be read, or nothing of the data set can be used."""


def require_dataset(name: str, root: Path) -> None:
    """Let through what may be a data set.

    Raises
    ------
    DsamlError
        If the name is not one of ``LOADERS``, or the folder does not exist.
    """
    if name not in LOADERS:
        raise DsamlError(f"data set '{name}' is not known; choose one of: {', '.join(LOADERS)}")
    if not root.is_dir():
        raise DsamlError(f"{root}: not a folder; give the {name} data set's own folder with --root")


def load_dataset(name: str, root: str | Path, found: Findings | None = None) -> Dataset:
    """Load a data set by name, one of ``LOADERS``; ``found`` gets everything that is wrong with it.

    Raises
    ------
    DsamlError
        See :func:`require_dataset`; or if the loader finds it unusable.
    """
    root = Path(root)
    require_dataset(name, root)
    return import_module(f"dsaml.data.{LOADERS[name]}").load(found or Findings(root), name)


def songs_with_steps(dataset: Dataset) -> dict[str, tuple[Song, int]]:
    """Every song that has audio and labels, with its number of steps: of the mean label, or else of the longest track.

    Raises
    ------
    DsamlError
        If no song has both.
    """
    lengths: dict[str, int] = {}
    for tracks in dataset.tracks.values():
        for song, track in tracks.items():
            lengths[song] = max(lengths.get(song, 0), len(track))
    lengths |= {song: len(label) for song, label in dataset.mean.items()}
    songs = {i: (song, lengths[i]) for i, song in dataset.songs.items() if song.audio is not None and i in lengths}
    if not songs:
        raise DsamlError(f"{dataset.root}: no song has both audio and labels; 'check' lists what is missing")
    return songs


def with_flat(data: Dataset) -> Dataset:
    """The data set for what asks for levels: flat tracks among the others, and the people who have enough songs only with them."""
    if not data.flat:
        return data
    tracks = {who: {**data.tracks.get(who, {}), **data.flat.get(who, {})} for who in sorted({*data.tracks, *data.flat})}
    people = {part: tuple(sorted((*ids, *data.flat_people.get(part, ())))) for part, ids in data.split.annotators.items()}
    return replace(data, tracks=tracks, split=Split(data.split.songs, people), flat={}, flat_people={})


def flat_tracks(data: Dataset, part: str) -> int:
    """How many tracks of a part's songs never move: who scores by CCC leaves them out."""
    listed = set(data.split.songs[part])
    return sum(track.is_flat for own in data.flat.values() for song, track in own.items() if song in listed)


def without_short(data: Dataset, fewest: int = FEWEST_STEPS) -> tuple[Dataset, int, int]:
    """The data set without songs and tracks of fewer than ``fewest`` labels, and without people who have not two songs left.

    Returns
    -------
    data : Dataset
        The one that was given, where nothing is short.
    songs, tracks : int
        How many were short.
    """

    def long(own: Mapping[str, Annotation]) -> dict[str, Annotation]:
        return {song: track for song, track in own.items() if len(track) >= fewest}

    def able(people: Mapping[str, tuple[str, ...]], own: Tracks) -> dict[str, tuple[str, ...]]:
        return {part: tuple(w for w in ids if len(set(songs[part]) & own.get(w, {}).keys()) > 1) for part, ids in people.items()}

    def count(curves: Tracks) -> int:
        return sum(map(len, curves.values()))

    mean = long(data.mean)
    tracks, flat = ({who: long(own) for who, own in curves.items()} for curves in (data.tracks, data.flat))
    short, few = len(data.mean) - len(mean), count(data.tracks) - count(tracks)
    if not short and not few and count(flat) == count(data.flat):
        return data, 0, 0
    songs = {part: tuple(s for s in ids if s in mean) for part, ids in data.split.songs.items()}
    split = Split(songs, able(data.split.annotators, tracks))
    left = replace(data, mean=mean, tracks=tracks, flat=flat, flat_people=able(data.flat_people, flat), split=split)
    return left, short, few
