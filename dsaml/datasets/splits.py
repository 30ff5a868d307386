"""Who is for training, validation and test: committed lists, and the stable rule that wrote them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from dsaml.datasets.base import PARTS
from dsaml.errors import DsamlError

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


def read_split(path: Path) -> dict[str, tuple[str, ...]]:
    """Song ids of a split file: ``{"songs": {"train": [...], "validation": [...], "test": [...]}}``.

    Raises
    ------
    DsamlError
        If it is no such file, or an id is in two parts.
    """
    try:
        songs = json.loads(path.read_text(encoding="utf-8"))["songs"]
        parts = {part: tuple(str(i) for i in songs.get(part, ())) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        shape = '{"songs": {"train": [ids], "validation": [ids], "test": [ids]}}'
        raise DsamlError(f"{path}: not a split file ({type(error).__name__}); it holds {shape}") from error
    everyone = [i for ids in parts.values() for i in ids]
    if len(set(everyone)) < len(everyone):
        twice = next(i for i in everyone if everyone.count(i) > 1)
        raise DsamlError(f"{path}: song {twice} is listed twice; every song belongs to one part")
    return parts


def committed(dataset: str, songs: Iterable[str], is_test: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Parts of the songs at hand, from ``data/splits/<dataset>.json``; by the same rule outside a checkout."""
    songs = list(songs)
    path = SPLITS / f"{dataset}.json"
    if not path.is_file():
        return song_parts(dataset, songs, is_test)
    there = set(songs)
    return {part: tuple(i for i in ids if i in there) for part, ids in read_split(path).items()}
