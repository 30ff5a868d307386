"""Who is for training, validation and test: committed lists, and the stable rule that wrote them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.data.annotations import Annotation
from dsaml.data.base import PARTS, Split
from dsaml.data.findings import Findings
from dsaml.errors import DsamlError
from dsaml.io import read_json

SALT = "dsaml-1"
VALIDATION_SONGS = 10  # % of the songs that are not test songs
VALIDATION_ANNOTATORS = 15  # % of the training annotators
SPLITS = Path(__file__).resolve().parents[2] / "data" / "splits"


def digest(kind: str, name: str) -> str:
    """Decides about a song or an annotator by the id alone, so nothing about the person needs to be known or written."""
    return hashlib.sha256(f"{SALT}:{kind}:{name}".encode()).hexdigest()


def draw(kind: str, name: str) -> int:
    """A number in 0..99: SHA-256 of ``dsaml-1:<kind>:<name>``, modulo 100; ``kind`` is such as "deam:song"."""
    return int(digest(kind, name), 16) % 100


def song_parts(dataset: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Part of each song by the rule: test where ``is_test``, else validation for 10 % of the draws, else train."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for song in songs:
        validation = draw(f"{dataset}:song", song) < VALIDATION_SONGS
        parts["test" if is_test(song) else "validation" if validation else "train"].append(song)
    return {part: tuple(ids) for part, ids in parts.items()}


def parts_by_rank(kind: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """20 % test, 10 % validation, the rest train, in the order of the names' hashes; no part of 3 names is empty."""
    names = list(names)
    return _first_for_test(names, sorted(names, key=lambda name: digest(kind, name)), 1)


def _first_for_test(names: list[str], order: list[str], least: int) -> dict[str, tuple[str, ...]]:
    """The first 20 % of ``order`` for test, the next 10 % for validation, ``least`` each, as far as there are enough."""
    test = max(round(0.2 * len(order)), least) if len(order) > 1 else 0
    validation = max(round(0.1 * len(order)), least) if len(order) > 2 else 0
    part_of = dict.fromkeys(order, "train") | dict.fromkeys(order[: test + validation], "validation")
    part_of |= dict.fromkeys(order[:test], "test")
    return {part: tuple(name for name in names if part_of[name] == part) for part in PARTS}


def songs_together(songs: Iterable[str], tracks: Mapping[str, Collection[str]], dataset: str) -> dict[str, tuple[str, ...]]:
    """Part of each song where nothing is known of a data set: 20 % test, 10 % validation, the rest train.

    Songs are taken in an order in which the next one is that of whose raters most rated a song before it, by the hash of its id
    among equals: people who rated few songs have them side by side then. The first ones are for test, the next for validation; each
    part gets two songs where there are six, and no part of three is empty.

    Parameters
    ----------
    songs : iterable of str
    tracks : mapping of annotator id to collection of song ids
    dataset : str
        Goes into the hashes.
    """
    songs = list(songs)
    order = _by_common_raters(sorted(songs, key=lambda song: digest(f"{dataset}:song", song)), tracks)
    return _first_for_test(songs, order, 2 if len(order) >= 6 else 1)


def people_of(
    tracks: Mapping[str, Collection[str]],
    songs: Mapping[str, tuple[str, ...]],
    dataset: str,
    min_songs: Mapping[str, int],
) -> dict[str, tuple[str, ...]]:
    """Part of each annotator, given those of the songs: one in which they have enough of them.

    Where that is several, the hashes of the ids draw 20 % for test and 10 % for validation, as far as these have enough there. Who
    has enough nowhere is listed where most of their songs are, so that :func:`select_annotators` can say why they are left out.
    """
    of_song = {song: part for part, ids in songs.items() for song in ids}
    counts = {who: Counter(of_song[song] for song in mine if song in of_song) for who, mine in tracks.items()}
    able = {who: [part for part in PARTS if count[part] >= min_songs[part]] for who, count in counts.items()}
    drawn = parts_by_rank(f"{dataset}:annotator", [who for who, parts in able.items() if len(parts) > 1])
    wish = {who: part for part, ids in drawn.items() for who in ids}
    people: dict[str, list[str]] = {part: [] for part in PARTS}
    for who, parts in able.items():
        choices = parts or [part for part, _ in counts[who].most_common(1)] or ["train"]
        people[wish[who] if wish.get(who) in choices else choices[0]].append(who)
    return {part: tuple(ids) for part, ids in people.items()}


def _by_common_raters(songs: list[str], tracks: Mapping[str, Collection[str]]) -> list[str]:
    """Songs in the order that :func:`songs_together` describes; ``songs`` come in that of their hashes."""
    place = {song: row for row, song in enumerate(songs)}
    there = np.zeros((len(songs), len(tracks)), bool)
    for column, mine in enumerate(tracks.values()):
        there[[place[song] for song in mine if song in place], column] = True
    raters, known = np.maximum(there.sum(1), 1), np.zeros(len(tracks), bool)
    common, left, out = np.zeros(len(songs)), np.ones(len(songs), bool), []
    while left.any():
        row = int(np.argmax(np.where(left, common / raters, -1)))
        new = there[row] & ~known
        common += there[:, new].sum(1)
        known, left[row] = known | new, False
        out.append(songs[row])
    return out


def read_split(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """Ids of a split file by kind, "songs" and perhaps "annotators", and part; its shape is in the error below.

    Raises
    ------
    DsamlError
        If it is no such file, or an id is in two parts.
    """
    shape = '{"songs": {"train": [ids], "validation": [ids], "test": [ids]}, "annotators": {the same three}}'
    content = read_json(path, "split file", f"it holds {shape}")
    try:
        kinds = {kind: content[kind] for kind in ("songs", "annotators") if kind == "songs" or kind in content}
        split = {kind: {part: tuple(str(i) for i in ids.get(part, ())) for part in PARTS} for kind, ids in kinds.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DsamlError(f"{path}: not a split file ({type(error).__name__}); it holds {shape}") from error
    for kind, parts in split.items():
        counts = Counter(i for ids in parts.values() for i in ids)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise DsamlError(f"{path}: '{twice[0]}' is listed twice under {kind}; each id belongs to one part")
    return split


def committed(dataset: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Parts of the songs at hand, from ``data/splits/<dataset>.json``; by its rule where that says nothing."""
    songs, path = list(songs), SPLITS / f"{dataset}.json"
    listed = read_split(path)["songs"] if path.is_file() else dict.fromkeys(PARTS, ())
    told = {song for ids in listed.values() for song in ids}
    new, there = song_parts(dataset, [song for song in songs if song not in told], is_test), set(songs)
    return {part: tuple(i for i in (*ids, *new[part]) if i in there) for part, ids in listed.items()}


def select_annotators(
    found: Findings,
    tracks: Mapping[str, Mapping[str, Annotation]],
    songs: Mapping[str, tuple[str, ...]],
    annotators: Mapping[str, tuple[str, ...]] | None,
    min_songs: Mapping[str, int],
) -> tuple[dict[str, dict[str, Annotation]], dict[str, tuple[str, ...]]]:
    """Keep annotators with enough songs in their part; nobody is both for training and for test.

    Parameters
    ----------
    found : Findings
        Gets the others.
    tracks : mapping of annotator id to mapping of song id to Annotation
    songs : mapping of part to song ids
    annotators : mapping of part to annotator ids, or None
        None: test annotators are those with enough test songs; the id's hash sends 15 % of the others to validation.
    min_songs : mapping of part to int

    Returns
    -------
    tracks, annotators by part
        Test annotators keep their tracks on test songs, the others theirs on training and validation songs.
    """
    of_song = {song: part for part, ids in songs.items() for song in ids}
    of_annotator = {who: part for part, ids in (annotators or {}).items() for who in ids}
    kept: dict[str, dict[str, Annotation]] = {}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for who in sorted(tracks):
        count = Counter(of_song[song] for song in tracks[who] if song in of_song)
        validation = draw("deam:annotator", who) < VALIDATION_ANNOTATORS
        part = of_annotator.get(who, "validation" if validation else "train")
        if annotators is None and count["test"] >= min_songs["test"]:
            part = "test"
            if lost := count["train"] + count["validation"]:
                found.exclude(f"annotator {who}", f"is a test annotator; {lost} tracks on training songs not used")
        if annotators is not None and who not in of_annotator:
            found.exclude(f"annotator {who}", "is in no part of the split")
        elif count[part] < min_songs[part]:
            where = part if count[part] or not count["test"] else "test"
            reason = f"{count[where]} usable {where} songs, fewer than {min_songs[where]}"
            found.exclude(f"annotator {who}", reason)
        else:
            kept[who] = _usable(tracks[who], of_song, part)
            parts[part].append(who)
    return kept, {part: tuple(ids) for part, ids in parts.items()}


def select_people(
    found: Findings,
    tracks: dict[str, dict[str, Annotation]],
    songs: Mapping[str, tuple[str, ...]],
    people: Callable[[Findings, dict[str, dict[str, Annotation]]], Mapping[str, tuple[str, ...]] | None],
    min_songs: Mapping[str, int],
) -> dict[str, Any]:
    """Fields of :class:`dsaml.data.base.Dataset` that are about people: who is kept with which tracks, and what flat tracks add.

    Parameters
    ----------
    found : Findings
        Holds the flat tracks.
    tracks : mapping of annotator id to mapping of song id to Annotation
        Those that move.
    songs, min_songs
        As of :func:`select_annotators`.
    people : callable
        From findings and tracks to who belongs to which part; None where nobody says.

    Returns
    -------
    dict
        ``tracks``, ``split``, ``flat``, ``flat_people``. Whom the moving tracks keep stays in their part.
    """
    every = {who: {**tracks.get(who, {}), **found.flat.get(who, {})} for who in sorted({*tracks, *found.flat})}
    moving, annotators = select_annotators(found, tracks, songs, people(found, tracks), min_songs)
    aside = Findings(found.root)  # what was found is told once
    with_flat, parts = select_annotators(aside, every, songs, people(aside, every), min_songs)
    of_song = {song: part for part, ids in songs.items() for song in ids}
    part_of = {who: part for part, ids in annotators.items() for who in ids}
    more = {part: tuple(who for who in ids if who not in part_of) for part, ids in parts.items()}
    flat = {who: _usable(found.flat[who], of_song, part_of[who]) for who in sorted(found.flat) if who in part_of}
    flat |= {who: with_flat[who] for ids in more.values() for who in ids}
    flat = {who: own for who, own in flat.items() if own}
    return {"tracks": moving, "split": Split(dict(songs), annotators), "flat": flat, "flat_people": more}


def _usable(own: Mapping[str, Annotation], of_song: Mapping[str, str], part: str) -> dict[str, Annotation]:
    """Of an annotator's tracks those that somebody of this part keeps."""
    usable = ("test",) if part == "test" else ("train", "validation")
    return {s: t for s, t in own.items() if of_song.get(s) in usable}
