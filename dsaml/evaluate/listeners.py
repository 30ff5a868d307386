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


def describe(songs: Curves, seconds: Mapping[str, float]) -> dict[str, Any]:
    """Variance components, traits that come back, what evidence is worth, what more songs would bring.

    Intervals are given where each person stands in one pair of songs, as with crowd workers: they leave out blocks of neighbouring
    songs with their people. Where everybody rates everything, songs alone say nothing about other people, and there are none.

    Parameters
    ----------
    songs : mapping of song id to mapping of annotator id to ndarray, shape (T, 2)
    seconds : mapping of song id to float
        Between two labels.

    Returns
    -------
    dict
        Of plain numbers and text, for a result file; the text as :func:`dsaml.evaluate.structure.summary`.

    Raises
    ------
    DsamlError
        If nothing can be taken apart, see :func:`dsaml.evaluate.structure.decompose`.
    """
    found, pairs = decompose(songs), song_pairs(songs)
    nested = len({who for who, *_ in pairs}) == len(pairs)
    rows = np.concatenate([found.shares(), own_share(found)[None]])  # (6, 2)
    reach = None
    if nested:
        block = block_of(songs)
        left = [decompose({s: p for s, p in songs.items() if block[s] != b}) for b in sorted(set(block.values()))]
        reach = jackknife(np.array([np.concatenate([f.shares(), own_share(f)[None]]) for f in left]))
    variance: dict[str, Any] = {}
    for r, name in enumerate((*COMPONENTS, "own share of level")):
        variance[name] = {}
        for k, d in enumerate(DIMENSIONS):
            cell = {"share": float(rows[r, k])}
            if reach is not None:
                cell |= {"low": float(rows[r, k] - reach[r, k]), "high": float(rows[r, k] + reach[r, k])}
            variance[name][d] = cell
    return {
        "songs": len(songs),
        "tracks": found.tracks,
        "pairs": len(pairs),
        **summary(found),
        "variance": variance,
        "traits": comebacks(pair_traits(songs, seconds), nested),
        "evidence": evidence(songs, nested),
        "more_songs": {d: _more_songs(float(rows[-1, k])) for k, d in enumerate(DIMENSIONS)},
    }


def own_share(found: Structure) -> np.ndarray:
    """Of the variance between listeners' levels in a song, the share that is the same in every song: (2,)."""
    return found.annotator / (found.annotator + found.annotator_song)


def _more_songs(share: float) -> dict[str, dict[str, float]]:
    """:func:`dsaml.evaluate.evidence.level_error_left` by number of songs; an estimate below 0 counts as 0."""
    out = {}
    for songs in SONGS:
        subtraction, shrinkage = level_error_left(min(max(share, 0.0), 1.0), songs)
        out[str(songs)] = {"subtraction": subtraction, "shrinkage": shrinkage}
    return out


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
