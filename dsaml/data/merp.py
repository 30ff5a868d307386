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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset
from dsaml.data.findings import Findings
from dsaml.data.label_tables import Unreadable, find_columns, read_parquet
from dsaml.data.splits import assemble, committed, parts_by_rank

FILES = {"merp": "annotations_raw.parquet", "merp-filtered": "annotations_filtered.parquet"}
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


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table: a rater's values of one song, shape (T, 2) at 10 Hz, or what is wrong with it."""

    line: int
    song: str
    rater: str
    values: np.ndarray
    wrong: str | None


def load(found: Findings, name: str) -> Dataset:
    """Load MERP: one of its tables and, for everything but floors, ``audio/<song_id>.wav``.

    Half a second of the package is the mean of its five values: a label stands for the half second of audio that it opens, and all
    that was said in it counts, where every fifth value would let fast movement of the slider pass for slow. (The authors compare
    their labels with DEAM's in the same way.) Labels are used from 15 s on.

    The split is by song and by rater. The songs' list is committed and the same for both tables; DEAM's four are for training, so
    a model that knows DEAM is not tested on them.
    """
    path, rows = found.root / FILES[name], []
    try:
        rows = list(_read(path))
    except Unreadable as error:
        found.unreadable(path, str(error))
    found.require(path)
    _note_wrong(found, path, rows)
    known = {row.song for row in rows if row.song}
    found.counts |= {"songs in the table": len(known), "raters in the table": len({row.rater for row in rows} - {""})}
    found.counts["rows"] = len(rows)
    labels = (Annotation(row.song, row.rater, *_half_seconds(row.values)) for row in _usable(found, rows))
    rule = partial(parts_by_rank, "merp:song")
    return assemble(found, name, labels, known, found.root / "audio", lambda songs, _: {"songs": committed("merp", songs, rule)})


def _half_seconds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) from 15 s on, every 0.5 s, and means (T, 2) of 10 Hz values (N, 2); a last half second that is not whole goes."""
    steps, first = len(values) // PER_STEP, round(LABEL_START / STEP_SECONDS)
    means = values[: steps * PER_STEP].reshape(steps, PER_STEP, 2).mean(1)  # (all steps, 2)
    return STEP_SECONDS * np.arange(first, steps), means[first:]


def _read(path: Path) -> Iterator[Row]:
    """Every row of a table, or :class:`Unreadable`."""
    if not path.is_file():
        raise Unreadable("the file is missing; 'python -m dsaml fetch merp DIR' downloads it")
    frame = read_parquet(path)
    cells = frame[[*find_columns(frame.columns, COLUMNS).values()]].itertuples(index=False, name=None)
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
