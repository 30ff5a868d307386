"""Who is for training, validation and test: committed lists, and the stable rule that wrote them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.data.annotations import Annotation, mean_of
from dsaml.data.base import PARTS, Dataset, Split, Tracks
from dsaml.data.findings import Findings, by_number
from dsaml.errors import DsamlError
from dsaml.io import read_json

SALT = "dsaml-1"
VALIDATION_SONGS = 10  # % of the songs that are not test songs
MIN_SONGS = dict.fromkeys(PARTS, 2)
"""Fewest songs, within the part, of an annotator who is kept: one for support, one for query."""
SPLITS = Path(__file__).resolve().parents[2] / "data" / "splits"


def digest(kind: str, name: str) -> str:
    """Decides about a song or an annotator by the id alone, so nothing about the person needs to be known or written."""
    return hashlib.sha256(f"{SALT}:{kind}:{name}".encode()).hexdigest()


def draw(kind: str, name: str) -> int:
    """A number in 0..99: SHA-256 of ``dsaml-1:<kind>:<name>``, modulo 100; ``kind`` is such as "deam:song"."""
    return int(digest(kind, name), 16) % 100


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

    ``tracks`` are song ids by annotator id; ``dataset`` goes into the hashes.
    """
    songs = list(songs)
    order = _by_common_raters(sorted(songs, key=lambda song: digest(f"{dataset}:song", song)), tracks)
    return _first_for_test(songs, order, 2 if len(order) >= 6 else 1)


def people_of(
    tracks: Mapping[str, Collection[str]], songs: Mapping[str, tuple[str, ...]], dataset: str
) -> dict[str, tuple[str, ...]]:
    """Part of each annotator, given those of the songs: one in which they have enough of them.

    Where that is several, the hashes of the ids draw 20 % for test and 10 % for validation, as far as these have enough there. Who
    has enough nowhere is listed where most of their songs are, so that :func:`select_people` can say why they are left out.
    """
    of_song = {song: part for part, ids in songs.items() for song in ids}
    counts = {who: Counter(of_song[song] for song in mine if song in of_song) for who, mine in tracks.items()}
    able = {who: [part for part in PARTS if count[part] >= MIN_SONGS[part]] for who, count in counts.items()}
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


def committed(
    name: str, songs: Iterable[str], rule: Callable[[list[str]], Mapping[str, Iterable[str]]]
) -> dict[str, tuple[str, ...]]:
    """Parts of the songs at hand, from ``data/splits/<name>.json``; the ``rule`` decides about songs that it does not list."""
    songs, path = list(songs), SPLITS / f"{name}.json"
    listed = read_split(path)["songs"] if path.is_file() else dict.fromkeys(PARTS, ())
    told = {song for ids in listed.values() for song in ids}
    new = [song for song in songs if song not in told]
    added, there = rule(new), set(songs)
    return {part: (*(s for s in listed[part] if s in there), *(s for s in added[part] if s in new)) for part in PARTS}


def drawn_parts(kind: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Test songs where ``is_test``; of the others the draws send 10 % to validation."""
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for song in songs:
        parts["test" if is_test(song) else "validation" if draw(kind, song) < VALIDATION_SONGS else "train"].append(song)
    return {part: tuple(ids) for part, ids in parts.items()}


def select_people(
    found: Findings,
    tracks: Tracks,
    songs: Mapping[str, tuple[str, ...]],
    rule: Callable[[Tracks], Mapping[str, Iterable[str]]],
    min_songs: Mapping[str, int] = MIN_SONGS,
) -> dict[str, Any]:
    """Fields of :class:`dsaml.data.base.Dataset` that are about people: who is kept with which tracks, and what flat tracks add.

    Annotators are kept who have enough songs in their part; nobody is both for training and for test. Test annotators keep their
    tracks on test songs, the others theirs on training and validation songs.

    ``tracks`` are those that move; ``found`` holds the flat ones, and gets everybody who is left out. ``songs`` and ``min_songs``
    go by part; ``rule`` says from tracks who belongs to which part. Whom the moving tracks keep stays in their part.
    """
    every = {who: {**tracks.get(who, {}), **found.flat.get(who, {})} for who in sorted({*tracks, *found.flat})}
    moving, part_of = _select(found, tracks, songs, rule(tracks), min_songs)
    with_flat, part_with_flat = _select(Findings(found.root), every, songs, rule(every), min_songs)  # what was found is told once
    of_song = {song: part for part, ids in songs.items() for song in ids}
    flat = {who: _usable(found.flat[who], of_song, part_of[who]) for who in sorted(found.flat) if who in part_of}
    people, more = _by_part(part_of), _by_part({who: part for who, part in part_with_flat.items() if who not in part_of})
    flat |= {who: with_flat[who] for ids in more.values() for who in ids}
    flat = {who: own for who, own in flat.items() if own}
    return {"tracks": moving, "split": Split(dict(songs), people), "flat": flat, "flat_people": more}


def _select(
    found: Findings,
    tracks: Tracks,
    songs: Mapping[str, tuple[str, ...]],
    people: Mapping[str, Iterable[str]],
    min_songs: Mapping[str, int],
) -> tuple[dict[str, dict[str, Annotation]], dict[str, str]]:
    """Tracks and part of each annotator who is kept."""
    of_song = {song: part for part, ids in songs.items() for song in ids}
    listed = {who: part for part, ids in people.items() for who in ids}
    kept, part_of = {}, {}
    for who in sorted(tracks):
        count, part = Counter(of_song[song] for song in tracks[who] if song in of_song), listed.get(who)
        if part is None:
            found.exclude(f"annotator {who}", "is in no part of the split")
        elif count[part] < min_songs[part]:
            where = part if count[part] or not count["test"] else "test"
            others = f"; {more} more in other parts of the split" if (more := count.total() - count[where]) else ""
            found.exclude(f"annotator {who}", f"{count[where]} usable {where} songs, fewer than {min_songs[where]}{others}")
        else:
            kept[who], part_of[who] = _usable(tracks[who], of_song, part), part
            if unused := count.total() - len(kept[who]):
                others = "training" if part == "test" else "test"
                found.exclude(f"annotator {who}", f"is a {part} annotator; {unused} tracks on {others} songs not used")
    return kept, part_of


def _by_part(part_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {part: tuple(who for who, its in part_of.items() if its == part) for part in PARTS}


def _usable(own: Mapping[str, Annotation], of_song: Mapping[str, str], part: str) -> dict[str, Annotation]:
    """Of an annotator's tracks those that somebody of this part keeps."""
    usable = ("test",) if part == "test" else ("train", "validation")
    return {s: t for s, t in own.items() if of_song.get(s) in usable}


def assemble(
    found: Findings,
    name: str,
    labels: Iterable[Annotation],
    known: Collection[str],
    audio: Path,
    split: Callable[[Collection[str], Tracks], Mapping[str, Mapping[str, Iterable[str]]]],
    **fields: Any,
) -> Dataset:
    """The data set that annotators' labels make.

    The averaged label of a song is the mean over the annotators who are there at each step, flat tracks included.

    Parameters
    ----------
    labels : iterable of Annotation
        Every usable track at 2 Hz.
    known : collection of str
        Ids of all songs, usable or not.
    audio : Path
        The folder that their files lie in, at any depth.
    split : callable
        From songs, and tracks that move, to the "songs" of each part, and perhaps the "annotators": by default :func:`people_of`.
    **fields
        More fields of the data set.

    Raises
    ------
    DsamlError
        If a table cannot be read, or there are no labels.
    """
    by_song: dict[str, list[Annotation]] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    for label in labels:
        by_song.setdefault(label.song_id, []).append(label)
        found.keep_track(tracks, label)
    mean = {song: mean_of(by_song[song]) for song in sorted(by_song, key=by_number)}
    found.counts["tracks that can be used"] = sum(map(len, by_song.values()))
    songs = found.pair_audio(audio, mean, known)
    found.require(*found.fatal)
    if not mean:
        command = f"python -m dsaml check --dataset {name} --root {found.root}"
        raise DsamlError(f"{found.root}: no track can be used; '{command}' says why")
    listed = split(mean, tracks)
    parts = {part: tuple(song for song in ids if song in mean) for part, ids in listed["songs"].items()}
    salt = name.removesuffix("-filtered")  # the same people
    kept = select_people(found, tracks, parts, lambda tracks: listed.get("annotators") or people_of(tracks, parts, salt))
    exclusions = tuple(found.exclusions)
    return Dataset(name=name, real=True, root=found.root, songs=songs, mean=mean, exclusions=exclusions, **kept, **fields)
