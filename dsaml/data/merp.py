"""MERP (Koh et al., Sensors 2023, huggingface.co/datasets/amaai-lab/MERP): whole songs, many of them for each rater.

Written from its documentation and tested on small files in its format; not run on the data itself. 54 songs: 50 of the Free Music
Archive and, as anchors, four of DEAM (``deam_115``, 343, 745 and 1334). Valence and arousal at 10 Hz in [-1, 1]; a table has one
row for each rater and song, whose cells are lists. There are two tables, and a data set for each:

- ``merp``: ``annotations_raw.parquet``, the sliders as they were moved (6,176 rows, 447 raters). The one for personalization.
- ``merp-filtered``: ``annotations_filtered.parquet`` (3,482 rows, 277 raters), the paper's. Each rater's labels are rescaled to the
  whole of [-1, 1], which takes away the offset and the range that personalization would learn, and are smoothed.

That cells are lists, and the names of the other columns, are as another public program reads the files; the card of the data set
was not at hand in full. Not known here: the name of the rater's column (``COLUMNS`` has the likely ones; 'check' names what it
misses); whether somebody who took part twice has one id (the same id and song twice counts once, as the first row has it); and to
what moment the first value belongs. It is taken as the song's start. The authors' code cuts up to 2 s off the front of the
filtered tracks to fit them to their audio features, so those may run up to 2 s early, and that other program's notes say that
they cover only a part of their songs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import PARTS, Dataset
from dsaml.data.columns import find_columns
from dsaml.data.curves import mean_of
from dsaml.data.findings import Findings, by_number
from dsaml.data.label_tables import Unreadable
from dsaml.data.splits import SPLITS, parts_by_rank, people_of, read_split, select_people
from dsaml.errors import DsamlError

FILTERED = "merp-filtered"
FILES = {"merp": "annotations_raw.parquet", FILTERED: "annotations_filtered.parquet"}
COLUMNS = {
    "song": ("song_id", "songurl"),
    "rater": ("rater_id", "worker_id", "workerid", "participant_id", "annotator_id", "rater"),
    "arousal": ("arousal", "arousals"),
    "valence": ("valence", "valences"),
}
"""Names under which a column may stand; those of the authors' code are among them."""

RATE = 10  # Hz
PER_STEP = round(RATE * STEP_SECONDS)  # values of half a second
OFF_LENGTH = 20  # values (2 s) that a track may be shorter or longer than the median track of its song, about the authors' rule
MIN_SONGS = {"train": 2, "validation": 2, "test": 2}  # one for support, one for query


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table: a rater's values of one song, shape (T, 2) at 10 Hz, or what is wrong with it."""

    line: int
    song: str
    rater: str
    values: np.ndarray
    wrong: str | None


def load(root: Path, *, found: Findings | None = None, name: str = "merp") -> Dataset:
    """Load MERP.

    Half a second of the package is the mean of its five values: a label stands for the half second of audio that it opens, and all
    that was said in it counts, where every fifth value would let fast movement of the slider pass for slow. (The authors compare
    their labels with DEAM's in the same way.) Labels are used from 15 s on. The averaged label is the mean over the raters who are
    there at each step, flat tracks included.

    Parameters
    ----------
    root : Path
        Holds the tables and, for everything but floors, ``audio/<song_id>.wav``.
    found : Findings, optional
        Gets everything that is wrong.
    name : {"merp", "merp-filtered"}

    Returns
    -------
    Dataset
        Split by song and by rater. The songs' list is committed and the same for both tables; DEAM's four are for training, so a
        model that knows DEAM is not tested on them. A rater belongs to a part in which they have two songs, see
        :func:`dsaml.data.splits.people_of`.

    Raises
    ------
    DsamlError
        If the table cannot be read, or no track can be used.
    """
    root = Path(root)
    found = found or Findings(root)
    path = root / FILES[name]
    try:
        rows = list(_read(path))
    except Unreadable as error:
        raise DsamlError(str(found.error(path, str(error), kind="table"))) from error
    _note_wrong(found, path, rows)
    by_song: dict[str, dict[str, Annotation]] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    for row in _usable(found, rows):
        label = Annotation(row.song, row.rater, *_half_seconds(row.values))
        by_song.setdefault(row.song, {})[row.rater] = label
        found.keep_track(tracks, label)
    known = {row.song for row in rows if row.song}
    mean = {song: mean_of(song, by_song[song]) for song in sorted(by_song, key=by_number)}
    found.counts |= {"songs in the table": len(known), "raters in the table": len({row.rater for row in rows} - {""})}
    found.counts |= {"rows": len(rows), "tracks that can be used": sum(map(len, by_song.values()))}
    audio = root / "audio"
    songs = found.pair_audio(audio, audio.iterdir() if audio.is_dir() else (), mean, known)
    if not mean:
        raise DsamlError(f"{path}: no track can be used; 'python -m dsaml check --dataset {name} --root {root}' says why")
    parts = _song_parts(mean)
    people = select_people(found, tracks, parts, lambda found, tracks: people_of(tracks, parts, "merp", MIN_SONGS), MIN_SONGS)
    return Dataset(name=name, real=True, root=root, songs=songs, mean=mean, exclusions=tuple(found.exclusions), **people)


def load_filtered(root: Path, *, found: Findings | None = None) -> Dataset:
    """The paper's table: rescaled per rater and smoothed."""
    return load(root, found=found, name=FILTERED)


def _song_parts(songs: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Parts of the songs at hand: those of the committed list as it says, others by its rule."""
    path, there = SPLITS / "merp.json", dict.fromkeys(songs)
    listed = read_split(path)["songs"] if path.is_file() else dict.fromkeys(PARTS, ())
    told = {song for ids in listed.values() for song in ids}
    new = parts_by_rank("merp:song", [song for song in there if song not in told])
    return {part: tuple(song for song in (*listed[part], *new[part]) if song in there) for part in PARTS}


def _half_seconds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) from 15 s on, every 0.5 s, and means (T, 2) of 10 Hz values (N, 2); a last half second that is not whole goes."""
    steps, first = len(values) // PER_STEP, round(LABEL_START / STEP_SECONDS)
    means = values[: steps * PER_STEP].reshape(steps, PER_STEP, 2).mean(1)  # (all steps, 2)
    return STEP_SECONDS * np.arange(first, steps), means[first:]


def _read(path: Path) -> Iterator[Row]:
    """Every row of a table, or :class:`Unreadable`."""
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise Unreadable("the file is missing; 'python -m dsaml fetch merp DIR' downloads it") from error
    except ImportError as error:
        raise Unreadable("reading Parquet needs the package pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise Unreadable(f"cannot be read as Parquet ({type(error).__name__}); get it again") from error
    columns = find_columns([str(column) for column in frame.columns], COLUMNS)
    cells = frame[[columns[role] for role in COLUMNS]].itertuples(index=False, name=None)
    for line, (song, rater, arousal, valence) in enumerate(cells, 1):
        song, rater = _text(song), _text(rater)
        values, wrong = _values(arousal, valence)
        if not song or not rater:
            wrong = f"the row has no {'song' if not song else 'rater'}"
        elif rater == MEAN:
            wrong = f"the name '{MEAN}' is reserved for the averaged label"
        yield Row(line, song, rater, values, wrong)


def _text(cell: Any) -> str:
    """An id as text; empty where there is none."""
    return "" if cell is None or cell != cell else str(cell).strip()


def _values(arousal: Any, valence: Any) -> tuple[np.ndarray, str | None]:
    """Both curves as one array (T, 2), and what is wrong with them."""
    nothing = np.empty((0, 2))
    try:
        both = [np.asarray(cell, float) for cell in (arousal, valence)]
    except (ValueError, TypeError):
        return nothing, "arousal or valence is no list of numbers"
    if any(curve.ndim != 1 for curve in both):
        return nothing, f"arousal or valence is no list of numbers at {RATE} Hz but a single value; one row holds one rater's song"
    if len(both[0]) != len(both[1]):
        return nothing, f"has {len(both[0])} values of arousal and {len(both[1])} of valence"
    if not np.isfinite(both).all():
        return nothing, "a value is empty or not a finite number"
    return np.stack(both, 1), None


def _note_wrong(found: Findings, path: Path, rows: list[Row]) -> None:
    """Errors of single rows, one line for each kind, and values off the scale."""
    by_kind: dict[str, list[Row]] = {}
    for row in rows:
        if row.wrong:
            kind = "has other numbers of values of arousal and valence" if row.wrong.startswith("has ") else row.wrong
            by_kind.setdefault(kind, []).append(row)
    for kind, same in by_kind.items():
        who = f"song {same[0].song or '?'}, rater {same[0].rater or '?'}"
        found.error(path, f"{len(same)} of {len(rows)} rows, first {who}: {kind}", same[0].line, "table")
    lines = np.repeat([row.line for row in rows], [row.values.size for row in rows])
    found.scale(path, lines, np.concatenate([np.empty(0), *(row.values.ravel() for row in rows)]), -1, 1)


def _usable(found: Findings, rows: list[Row]) -> Iterator[Row]:
    """Rows whose values can be used; the others become exclusions."""
    sound = [row for row in rows if row.wrong is None]
    lengths: dict[str, list[int]] = {}
    for row in sound:
        lengths.setdefault(row.song, []).append(len(row.values))
    usual = {song: float(np.median(counts)) for song, counts in lengths.items()}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        wrong, seconds = row.wrong, len(row.values) / RATE
        if wrong is None and (row.song, row.rater) in seen:
            wrong = "was rated by this person before; the first time counts"
        elif wrong is None and abs(len(row.values) - usual[row.song]) > OFF_LENGTH:
            wrong = f"lasts {seconds:g} s, the song's median track {usual[row.song] / RATE:g} s"
        elif wrong is None and seconds < LABEL_START + STEP_SECONDS:
            wrong = f"ends at {seconds:g} s; labels are used from {LABEL_START:g} s on"
        if wrong:
            found.exclude(f"song {row.song or '?'}, annotator {row.rater or '?'}", wrong)
        else:
            seen.add((row.song, row.rater))
            yield row
