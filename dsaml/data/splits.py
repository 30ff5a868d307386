"""Who is for training, validation and test: committed lists, and the stable rule that wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dsaml.data.annotations import Annotation
from dsaml.data.base import PARTS, Exclusion
from dsaml.errors import DsamlError, require_file

SALT = "dsaml-1"
VALIDATION_SONGS = 10  # % of the songs that are not test songs
VALIDATION_ANNOTATORS = 15  # % of the training annotators
SPLITS = Path(__file__).resolve().parents[2] / "data" / "splits"


def draw(kind: str, name: str) -> int:
    """A number in 0..99 that depends on the name alone: SHA-256 of ``dsaml-1:<kind>:<name>``, modulo 100.

    Parameters
    ----------
    kind : str
        The data set and what is drawn, such as "deam:song" or "deam:annotator".
    name : str
        The song's or annotator's id. Only its hash decides, so nothing about the person needs to be known or written.
    """
    return int(hashlib.sha256(f"{SALT}:{kind}:{name}".encode()).hexdigest(), 16) % 100


def song_parts(dataset: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Part of each song by the rule: test where ``is_test``, else validation for 10 % of the draws, else train."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for song in songs:
        validation = draw(f"{dataset}:song", song) < VALIDATION_SONGS
        parts["test" if is_test(song) else "validation" if validation else "train"].append(song)
    return {part: tuple(ids) for part, ids in parts.items()}


def read_split(path: Path, kind: str = "songs") -> dict[str, tuple[str, ...]]:
    """Ids of a split file by part, ``kind`` "songs" or "annotators"; its shape is in the error below.

    Raises
    ------
    DsamlError
        If it is no such file, or an id is in two parts.
    """
    require_file(path, "split file", "write one, or leave it out")
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))[kind]
        parts = {part: tuple(str(i) for i in ids.get(part, ())) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        shape = f'{{"{kind}": {{"train": [ids], "validation": [ids], "test": [ids]}}}}'
        raise DsamlError(f"{path}: not a split file ({type(error).__name__}); it holds {shape}") from error
    everyone = [i for ids in parts.values() for i in ids]
    if len(set(everyone)) < len(everyone):
        twice = next(i for i in everyone if everyone.count(i) > 1)
        raise DsamlError(f"{path}: '{twice}' is listed twice under {kind}; each id belongs to one part")
    return parts


def committed(dataset: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Parts of the songs at hand, from ``data/splits/<dataset>.json``; by its rule where that says nothing."""
    songs = list(songs)
    path = SPLITS / f"{dataset}.json"
    if not path.is_file():
        return song_parts(dataset, songs, is_test)
    parts = read_split(path)
    listed = {song for ids in parts.values() for song in ids}
    new = song_parts(dataset, [song for song in songs if song not in listed], is_test)
    there = set(songs)
    return {part: tuple(i for i in (*ids, *new[part]) if i in there) for part, ids in parts.items()}


def select_annotators(
    tracks: Mapping[str, Mapping[str, Annotation]],
    songs: Mapping[str, tuple[str, ...]],
    annotators: Mapping[str, tuple[str, ...]] | None,
    min_songs: Mapping[str, int],
) -> tuple[dict[str, dict[str, Annotation]], dict[str, tuple[str, ...]], list[Exclusion]]:
    """Keep annotators with enough songs in their part; nobody is both for training and for test.

    Parameters
    ----------
    tracks : mapping of annotator id to mapping of song id to Annotation
    songs : mapping of part to song ids
    annotators : mapping of part to annotator ids, or None
        None: test annotators are those with enough test songs; the id's hash sends 15 % of the others to validation.
    min_songs : mapping of part to int

    Returns
    -------
    tracks, annotators by part, exclusions
        Test annotators keep their tracks on test songs, the others theirs on training and validation songs.
    """
    of_song = {song: part for part, ids in songs.items() for song in ids}
    of_annotator = {who: part for part, ids in (annotators or {}).items() for who in ids}
    kept: dict[str, dict[str, Annotation]] = {}
    parts: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    exclusions = []
    for who in sorted(tracks):
        count = dict.fromkeys(parts, 0)
        for song in tracks[who]:
            if song in of_song:
                count[of_song[song]] += 1
        validation = draw("deam:annotator", who) < VALIDATION_ANNOTATORS
        part = of_annotator.get(who, "validation" if validation else "train")
        if annotators is None and count["test"] >= min_songs["test"]:
            part = "test"
            if count["train"] + count["validation"]:
                lost = count["train"] + count["validation"]
                reason = f"is a test annotator; {lost} tracks on training songs not used"
                exclusions.append(Exclusion(f"annotator {who}", reason))
        if annotators is not None and who not in of_annotator:
            exclusions.append(Exclusion(f"annotator {who}", "is in no part of the split"))
        elif count[part] < min_songs[part]:
            where = part if count[part] or not count["test"] else "test"
            reason = f"{count[where]} usable {where} songs, fewer than {min_songs[where]}"
            exclusions.append(Exclusion(f"annotator {who}", reason))
        else:
            usable = ("test",) if part == "test" else ("train", "validation")
            kept[who] = {s: t for s, t in tracks[who].items() if of_song.get(s) in usable}
            parts[part].append(who)
    return kept, {part: tuple(ids) for part, ids in parts.items()}, exclusions
