"""VGMIDI (Ferreira and Whitehead 2019, github.com/lucasnfe/vgmidi): piano music from games, rated by crowd workers.

The data set has no licence text, so nothing of it is copied here. About 30 annotators a piece, two pieces each; one value of
arousal and valence per "measure", which is four quarter notes whatever the bar is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import PARTS, Dataset
from dsaml.data.findings import Findings
from dsaml.data.midi import seconds_at
from dsaml.data.splits import SPLITS, digest, read_split, select_people
from dsaml.errors import DsamlError

SOURCE = "VGMIDI, Ferreira and Whitehead, ISMIR 2019, https://github.com/lucasnfe/vgmidi"
FILES = ("vgmidi_raw_1.json", "vgmidi_raw_2.json")
UNIT = 4  # quarter notes that one value stands for
FEWEST = 4  # labels from 15 s on; a piece with fewer is left out
PREFIX = 30  # labels at 2 Hz that the prefix protocol gives away: 15 s, since pieces are short
SLOWEST = 6.0  # s between two labels at most, where they are brought to 2 Hz
MIN_SONGS = {"train": 2, "validation": 2, "test": 2}  # one for support, one for query: nobody rated more
TEST, VALIDATION = 4, 8  # one piece in 4 is for test, one in 8 for validation
SECOND = "vgmidi-2"
SEEDS = {"vgmidi": 0, SECOND: 1}
"""Names of the same data under two splits, and the seeds of these."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece and everybody's labels of it.

    Attributes
    ----------
    id : str
        Number of the file that it stands in, and its name there: "2-piece17".
    midi : Path
    times : ndarray, shape (T,)
        Seconds: the middle of each unit of four quarter notes.
    tracks : mapping of person to ndarray, shape (T, 2)
        Arousal and valence in [-1, 1].
    """

    id: str
    midi: Path
    times: np.ndarray
    tracks: Mapping[str, np.ndarray]


def folder(root: Path) -> Path:
    """The folder of annotations and MIDI: ``labelled`` in a clone, or the root itself."""
    return root / "labelled" if (root / "labelled").is_dir() else root


def load(root: Path, *, found: Findings | None = None, name: str = "vgmidi") -> Dataset:
    """Load VGMIDI.

    A value belongs to the middle of its unit, and between the middles labels are interpolated linearly to 2 Hz, from 15 s on.
    That adds no movement within a unit (2 s in most pieces); a piece with more than 6 s between two labels is left out. The
    averaged label is the mean over all tracks of a piece, flat ones included.

    Parameters
    ----------
    root : Path
        A clone of the repository, or its folder ``labelled``: ``annotations/`` and ``midi/`` and, for everything but floors,
        ``audio/`` with a file for each piece, such as ``1-piece0.flac`` (``python -m dsaml render`` makes them).
    found : Findings, optional
        Gets everything that is wrong.
    name : {"vgmidi", "vgmidi-2"}
        Which of the two splits, see :func:`split_pieces`.

    Returns
    -------
    Dataset
        People whose two pieces are in different parts of the split have no tracks of their own in it.

    Raises
    ------
    DsamlError
        If a file of annotations cannot be read, or no piece can be used.
    """
    root = Path(root)
    found = found or Findings(root)
    pieces, names = read_pieces(root, found)
    mean: dict[str, Annotation] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    for piece in pieces:
        first = max(int(np.searchsorted(piece.times, LABEL_START, "right")) - 1, 0)
        if (gap := float(np.diff(piece.times[first:]).max())) > SLOWEST:
            found.exclude(f"song {piece.id}", f"has {gap:.1f} s between two labels, more than {SLOWEST:g} s")
            continue
        steps = int((piece.times[-1] - LABEL_START) / STEP_SECONDS + 1e-6) + 1
        grid = LABEL_START + STEP_SECONDS * np.arange(steps)
        own = {who: _interpolated(grid, piece.times, values) for who, values in piece.tracks.items()}
        mean[piece.id] = Annotation(piece.id, MEAN, grid, np.mean(list(own.values()), 0))
        for who, values in own.items():
            found.keep_track(tracks, Annotation(piece.id, who, grid, values))
    found.counts |= {"pieces in the annotations": sum(map(len, names)), "pieces that can be used": len(mean)}
    audio = folder(root) / "audio"
    songs = found.pair_audio(audio, audio.iterdir() if audio.is_dir() else (), mean, [i for ids in names for i in ids])
    if not mean:
        raise DsamlError(f"{root}: no piece of VGMIDI can be used; 'python -m dsaml check --dataset {name}' says why")
    listed = SPLITS / f"{name}.json"
    parts = read_split(listed)["songs"] if listed.is_file() else split_pieces(names, SEEDS[name])
    parts = {part: tuple(i for i in ids if i in mean) for part, ids in parts.items()}
    people = select_people(found, tracks, parts, lambda found, tracks: _people(found, tracks, parts), MIN_SONGS)
    exclusions = tuple(found.exclusions)
    return Dataset(name=name, real=True, root=root, songs=songs, mean=mean, exclusions=exclusions, prefix_steps=PREFIX, **people)


def load_second(root: Path, *, found: Findings | None = None) -> Dataset:
    """The same data under the second split."""
    return load(root, found=found, name=SECOND)


def split_pieces(names: Sequence[Sequence[str]], seed: int) -> dict[str, tuple[str, ...]]:
    """Parts of the pieces: blocks of neighbours, since people rated neighbouring pieces and are to keep both.

    In each file of annotations, the pieces stand in the order of their names as text, in a circle: that is the order in which they
    were handed out. A hash of the seed says where the test block begins; it holds a quarter of the pieces. The eighth that follows
    is for validation, the rest for training.
    """
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for number, ids in enumerate(names, 1):
        count = len(ids)
        start = int(digest("vgmidi:split", f"{seed}:{number}"), 16) % max(count, 1)
        turned = [*sorted(ids)[start:], *sorted(ids)[:start]]
        test, validation = round(count / TEST), round(count / VALIDATION)
        parts["test"] += turned[:test]
        parts["validation"] += turned[test : test + validation]
        parts["train"] += turned[test + validation :]
    return {part: tuple(sorted(ids)) for part, ids in parts.items()}


def _people(
    found: Findings, tracks: dict[str, dict[str, Annotation]], parts: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Who belongs to which part: both of their pieces do. The others leave ``tracks``."""
    of_song = {song: part for part, ids in parts.items() for song in ids}
    people: dict[str, list[str]] = {part: [] for part in PARTS}
    for who in list(tracks):
        where = {of_song[song] for song in tracks[who] if song in of_song}
        if len(where) > 1:
            found.exclude(f"annotator {who}", "has pieces in two parts of the split")
            del tracks[who]
        for part in where:
            people[part].append(who)
    return {part: tuple(ids) for part, ids in people.items()}


def _interpolated(grid: np.ndarray, times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (T, 2) on a grid, by linear interpolation; before the first label it holds."""
    return np.stack([np.interp(grid, times, values[:, d]) for d in range(2)], 1)


def read(root: str | Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Labels from 15 s on as they were given, one per four quarter notes; flat tracks included.

    Returns
    -------
    labels : dict of piece to dict of person to ndarray, shape (T, 2)
        Neighbours, as people rated them, stand beside each other.
    seconds : dict of piece to float
        Between two labels, the median of the piece.

    Raises
    ------
    DsamlError
        If a file of annotations cannot be read, or no piece can be used.
    """
    root = Path(root)
    pieces = sorted(read_pieces(root, Findings(root))[0], key=lambda piece: piece.id)
    if not pieces:
        raise DsamlError(f"{root}: no piece of VGMIDI can be used; 'python -m dsaml check --dataset vgmidi' says why")
    used = {piece.id: piece.times >= LABEL_START for piece in pieces}
    seconds = {piece.id: float(np.median(np.diff(piece.times[used[piece.id]]))) for piece in pieces}
    return {p.id: {who: values[used[p.id]] for who, values in p.tracks.items()} for p in pieces}, seconds


def read_pieces(root: Path, found: Findings) -> tuple[list[Piece], list[list[str]]]:
    """Every piece that can be used, and the names of all pieces by file.

    A piece needs its metadata (a few have none), its MIDI, and 4 labels from 15 s on. A track counts if it has the length that most
    tracks of the piece have.

    Raises
    ------
    DsamlError
        If a file is missing or is not what VGMIDI publishes.
    """
    pieces, names = [], []
    for number, name in enumerate(FILES, 1):
        path = folder(root) / "annotations" / name
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            tracks = _tracks(number, document["annotations"])
            names.append(list(tracks))
            pieces += _pieces(found, path, tracks, {f"{number}-{p}": f for p, f in document["pieces"].items()})
        except OSError as error:
            found.error(path, f"cannot be read ({error.strerror})")
            raise DsamlError(f"{path}: cannot be read ({error.strerror}); get VGMIDI's annotations again") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.error(path, f"is not VGMIDI's ({type(error).__name__}: {error})", kind="table")
            raise DsamlError(f"{path}: is not VGMIDI's ({type(error).__name__}: {error}); get it again") from error
    return pieces, names


def _tracks(number: int, annotations: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Piece -> person -> labels (T, 2), of one file."""
    persons, tracks = _persons(annotations), {}
    for key, annotation in annotations.items():
        values = np.array([annotation["arousal"], annotation["valence"]], float).T
        tracks.setdefault(f"{number}-{_piece(key)}", {})[f"{number}-{persons[key]}"] = values
    return tracks


def _pieces(
    found: Findings, path: Path, tracks: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, Mapping[str, Any]]
) -> Iterator[Piece]:
    for piece, people in tracks.items():
        usual = Counter(map(len, people.values())).most_common(1)[0][0]
        if piece not in facts:
            found.exclude(f"song {piece}", "has no metadata, so nothing says which MIDI it is")
            continue
        midi = folder(found.root) / "midi" / facts[piece]["midi"]
        try:
            times = seconds_at(midi, UNIT * (np.arange(usual) + 0.5))
        except DsamlError as error:
            found.error(midi, str(error).removeprefix(f"{midi}: "), kind="missing")
            found.exclude(f"song {piece}", "has no MIDI that can be read, so no times")
            continue
        if (count := int((times >= LABEL_START).sum())) < FEWEST:
            found.exclude(f"song {piece}", f"has {count} labels from {LABEL_START:g} s on, fewer than {FEWEST}")
            continue
        reasons = {who: _why_not(values, usual) for who, values in people.items()}
        for who, wrong in reasons.items():
            if wrong:
                found.exclude(f"song {piece}, annotator {who}", wrong)
        if off := sum(reason == OFF for reason in reasons.values()):
            found.error(
                path, f"piece {piece}: {off} of {len(people)} tracks have a label that is {OFF_SCALE}", kind="scale"
            )
        if usable := {who: values for who, values in people.items() if not reasons[who]}:
            yield Piece(piece, midi, times, usable)


OFF_SCALE = "no number, or off the scale [-1, 1]"
OFF = f"has a label that is {OFF_SCALE}"


def _why_not(values: np.ndarray, usual: int) -> str | None:
    """What is wrong with a track; None if nothing is."""
    if len(values) != usual:
        return f"has {len(values)} labels, the others {usual}"
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > 1:
        return OFF
    return None


def _piece(key: str) -> str:
    """``piece12_3`` -> ``piece12``."""
    return key.rsplit("_", 1)[0]


def _persons(annotations: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Annotation key -> person: whoever gave the same demographics and free text for two pieces of a file.

    The suffix of a key alone is no person. It tells two people apart who wrote the very same; everybody else counts as somebody
    with one piece.
    """
    groups: dict[str, list[str]] = {}
    for key, annotation in annotations.items():
        told = {k: v for k, v in annotation.items() if k not in ("arousal", "valence", "isKnown")}
        groups.setdefault(json.dumps(told, sort_keys=True), []).append(key)
    out = {}
    for keys in groups.values():
        suffixes = [key.rsplit("_", 1)[1] for key in keys]
        same = [keys] if len(keys) == 2 else [[k for k in keys if k.endswith(f"_{s}")] for s in dict.fromkeys(suffixes)]
        for own in same:
            two = len(own) == 2 and len(set(map(_piece, own))) == 2
            out |= {key: min(own) if two else key for key in own}
    return out
