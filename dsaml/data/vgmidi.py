"""VGMIDI (Ferreira and Whitehead 2019, github.com/lucasnfe/vgmidi): piano music from games, rated by crowd workers.

The data set has no licence text, so nothing of it is copied here. About 30 annotators a piece, two pieces each; one value of
arousal and valence per "measure", which is four quarter notes whatever the bar is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.config import LABEL_START
from dsaml.data.annotations import Annotation, at_two_hertz, why_not
from dsaml.data.base import PARTS, Dataset, Tracks
from dsaml.data.findings import Findings
from dsaml.data.midi import read_score
from dsaml.data.splits import assemble, committed, digest
from dsaml.errors import DsamlError

SOURCE = "VGMIDI, Ferreira and Whitehead, ISMIR 2019, https://github.com/lucasnfe/vgmidi"
FILES = ("vgmidi_raw_1.json", "vgmidi_raw_2.json")
UNIT = 4  # quarter notes that one value stands for
FEWEST = 4  # labels from 15 s on; a piece with fewer is left out
PREFIX = 30  # labels at 2 Hz that the prefix protocol gives away: 15 s, since pieces are short
SLOWEST = 6.0  # s between two labels at most, where they are brought to 2 Hz
TEST, VALIDATION = 4, 8  # one piece in 4 is for test, one in 8 for validation
SEEDS = {"vgmidi": 0, "vgmidi-2": 1}
"""Names of the same data under two splits, and the seeds of these."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One piece and everybody's labels of it."""

    id: str  #: number of the file that it stands in, and its name there: "2-piece17"
    midi: Path
    times: np.ndarray  #: (T,), s: the middle of each unit of four quarter notes
    tracks: Mapping[str, np.ndarray]  #: by person: (T, 2), arousal and valence in [-1, 1]


def folder(root: Path) -> Path:
    """The folder of annotations and MIDI: ``labelled`` in a clone, or the root itself."""
    return root / "labelled" if (root / "labelled").is_dir() else root


def load(found: Findings, name: str) -> Dataset:
    """Load VGMIDI from a clone of the repository, or its folder ``labelled``.

    It holds ``annotations/`` and ``midi/`` and, for everything but floors, ``audio/`` with a file for each piece, such as
    ``1-piece0.flac`` (``python -m dsaml render`` makes them). A value belongs to the middle of its unit, and between the middles
    labels are interpolated linearly to 2 Hz, from 15 s on. That adds no movement within a unit (2 s in most pieces); a piece with
    more than 6 s between two labels is left out, and so is a person whose two pieces are in different parts of the split.
    """
    pieces, names = read_pieces(found)
    known = [piece for ids in names for piece in ids]
    found.counts["pieces in the annotations"] = len(known)

    def labels() -> Iterator[Annotation]:
        for piece in pieces:
            if wrong := why_not(piece.times, LABEL_START, SLOWEST):
                found.exclude(f"song {piece.id}", wrong)
                continue
            for who, values in piece.tracks.items():
                yield Annotation(piece.id, who, *at_two_hertz(piece.times, values, LABEL_START))

    def split(songs: Collection[str], tracks: Tracks) -> dict[str, dict[str, tuple[str, ...]]]:
        return {"songs": committed(name, songs, lambda new: split_pieces(names, SEEDS[name]))}

    return assemble(found, name, labels(), known, folder(found.root) / "audio", split, prefix_steps=PREFIX)


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


def read(root: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
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
    pieces = sorted(read_pieces(Findings(root))[0], key=lambda piece: piece.id)
    if not pieces:
        raise DsamlError(f"{root}: no piece of VGMIDI can be used; 'python -m dsaml check --dataset vgmidi' says why")
    used = {piece.id: piece.times >= LABEL_START for piece in pieces}
    seconds = {piece.id: float(np.median(np.diff(piece.times[used[piece.id]]))) for piece in pieces}
    return {p.id: {who: values[used[p.id]] for who, values in p.tracks.items()} for p in pieces}, seconds


def read_pieces(found: Findings) -> tuple[list[Piece], list[list[str]]]:
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
        path = folder(found.root) / "annotations" / name
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            annotations, tracks = document["annotations"], {}
            persons = _persons(annotations)
            for key, labels in annotations.items():
                values = np.array([labels["arousal"], labels["valence"]], float).T  # (T, 2)
                tracks.setdefault(f"{number}-{_piece(key)}", {})[f"{number}-{persons[key]}"] = values
            names.append(list(tracks))
            pieces += _pieces(found, path, tracks, {f"{number}-{piece}": facts for piece, facts in document["pieces"].items()})
        except OSError as error:
            found.unreadable(path, f"cannot be read ({error.strerror}); get VGMIDI's annotations again")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            found.unreadable(path, f"is not VGMIDI's ({type(error).__name__}: {error}); get it again")
        found.require(path)
    return pieces, names


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
            score = read_score(midi)
        except DsamlError as error:
            found.error(midi, str(error).removeprefix(f"{midi}: "), kind="missing")
            found.exclude(f"song {piece}", "has no MIDI that can be read, so no times")
            continue
        times = score.seconds(UNIT * (np.arange(usual) + 0.5) * score.division)
        if (count := int((times >= LABEL_START).sum())) < FEWEST:
            found.exclude(f"song {piece}", f"has {count} labels from {LABEL_START:g} s on, fewer than {FEWEST}")
            continue
        off_scale = "a label that is no number, or off the scale [-1, 1]"
        usable, off = {}, 0
        for who, values in people.items():
            fits = bool(np.isfinite(values).all() and np.abs(values).max(initial=0) <= 1)
            if len(values) == usual and fits:
                usable[who] = values
            else:
                off += len(values) == usual
                why = f"has {off_scale}" if len(values) == usual else f"has {len(values)} labels, the others {usual}"
                found.exclude(f"song {piece}, annotator {who}", why)
        if off:
            found.error(path, f"piece {piece}: {off} of {len(people)} tracks have {off_scale}", kind="scale")
        if usable:
            yield Piece(piece, midi, times, usable)


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
