"""What one sample tells about these listeners: everything that the chapter of that name shows of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dsaml.config import DIMENSIONS
from dsaml.evaluate.evidence import block_of, evidence, jackknife, level_error_left
from dsaml.evaluate.structure import COMPONENTS, Curves, Structure, decompose, summary
from dsaml.evaluate.traits import comebacks, pair_traits, song_pairs

SONGS = (1, 3, 10)  # known songs of a listener, in the table of what they bring
OWN_SHARE = "own share of level"


def describe(songs: Curves, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Variance components, traits that come back, what evidence is worth, what more songs would bring.

    Intervals are given where each person stands in one pair of songs, as with crowd workers: they leave out blocks of neighbouring
    songs with their people. Where everybody rates everything, songs alone say nothing about other people, and there are none.

    ``seconds`` pass between two labels, by song. The result is plain numbers and text (:func:`dsaml.evaluate.structure.summary`),
    for a result file.

    Raises
    ------
    DsamlError
        If nothing can be taken apart, see :func:`dsaml.evaluate.structure.decompose`.
    """
    found, pairs = decompose(songs), song_pairs(songs)
    nested = len({who for who, *_ in pairs}) == len(pairs)
    ends = {"share": _rows(found)}
    if nested:
        block = block_of(songs)
        left = [decompose({s: p for s, p in songs.items() if block[s] != b}) for b in sorted(set(block.values()))]
        reach = jackknife(np.array([_rows(one) for one in left]))
        ends |= {"low": ends["share"] - reach, "high": ends["share"] + reach}
    variance = {
        name: {d: {end: float(rows[r, k]) for end, rows in ends.items()} for k, d in enumerate(DIMENSIONS)}
        for r, name in enumerate((*COMPONENTS, OWN_SHARE))
    }
    return {
        "songs": len(songs),
        "tracks": found.tracks,
        "pairs": len(pairs),
        **summary(found),
        "variance": variance,
        "traits": comebacks(pair_traits(songs, seconds), nested),
        "evidence": evidence(songs, nested),
        "more_songs": {d: _more_songs(cell["share"]) for d, cell in variance[OWN_SHARE].items()},
    }


def _rows(found: Structure) -> np.ndarray:
    """Shares of the components, and of the levels' variance between listeners in a song that is the same in every song: (6, 2)."""
    return np.stack([*found.shares(), found.annotator / (found.annotator + found.annotator_song)])


def _more_songs(share: float) -> dict[str, dict[str, float]]:
    """:func:`dsaml.evaluate.evidence.level_error_left` by number of songs; an estimate below 0 counts as 0."""
    left = {str(songs): level_error_left(min(max(share, 0.0), 1.0), songs) for songs in SONGS}
    return {songs: dict(zip(("subtraction", "shrinkage"), errors, strict=True)) for songs, errors in left.items()}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What :func:`describe` found, for the terminal."""
    for name, value in found.items():
        if isinstance(value, (str, int)):
            yield f"{name.replace('_', ' '):40}{value}"
    for trait, kinds in found["traits"].items():
        for kind, cells in kinds.items():
            told = ", ".join("none" if c["r"] is None else f"{c['r']:+.2f}" for c in cells.values())
            yield f"{f'{trait} comes back, {kind}':40}{told}"
    for d, rows in found["more_songs"].items():
        told = ", ".join(f"{songs}: {100 * row['shrinkage']:.0f} %" for songs, row in rows.items())
        yield f"{f'level error left by number of songs, {d}':40}{told}"
