"""One person's curve of one song as a CSV file: ``time_s, arousal, valence``."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsaml.audio.slices import slice_times
from dsaml.config import STEP_SECONDS, AudioConfig
from dsaml.errors import DsamlError, require_file
from dsaml.io import write_bytes_atomically

Paths = str | Path | Sequence[str | Path]
"""One path, or several."""
COLUMNS = ("time_s", "arousal", "valence")
SPREADS = ("arousal_sd", "valence_sd")
"""Columns of the standard deviation of one person's label around the predicted one."""
SCALE = {"arousal": "-1 calm, +1 excited", "valence": "-1 unpleasant, +1 pleasant"}
LEGEND = (
    f"arousal: {SCALE['arousal']}; valence: {SCALE['valence']}; 0 is the middle of the scale, not of a song, so a calm song "
    "may stay below it throughout; sd and ±: one standard deviation"
)
"""What everybody asks about the numbers."""
SHORTEST = 10  # steps; a curve below 5 s says too little about a person
LARGEST_GAP = 2.0  # s between two points of a curve
USUAL = 0.95  # share of the training songs that are nearer to another one than their usual distance


def write_curve(path: Path, curve: pd.DataFrame) -> None:
    """Write one listener's curve, a table as :func:`read_curve` gives it."""
    write_bytes_atomically(path, curve.to_csv(index=False, float_format="%.4f").encode())


def read_curve(path: Path, largest_gap: float = LARGEST_GAP) -> pd.DataFrame:
    """Read one listener's curve of one song.

    Parameters
    ----------
    path : path
        CSV; its columns are found by their names.
    largest_gap : float
        Seconds between two points. What lies between them is a straight line, which nobody drew.

    Raises
    ------
    DsamlError
        If the file is missing, lacks a column, has a line with more or fewer fields than names, holds something else than
        numbers, a negative time, times that do not increase, or a larger gap; or if the curve is shorter than 5 s, or off the
        scale [-1, 1].
    """
    require_file(path, "file", f"give a CSV with the columns {','.join(COLUMNS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DsamlError(f"{path}: not a CSV file ({error}); save it as comma-separated text") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    if missing := [name for name in COLUMNS if header.count(name) != 1]:
        what = f"no column {missing[0]}" if missing[0] not in header else f"two columns {missing[0]}"
        raise DsamlError(f"{path}: {what}; the columns have to be {','.join(COLUMNS)}")
    rows: list[list[float]] = []
    for number, row in lines[1:]:
        where = f"{path}: line {number}"
        if len(row) != len(header):
            raise DsamlError(f"{where} has {len(row)} fields, the first line has {len(header)} names; correct it")
        try:
            values = [float(row[header.index(name)]) for name in COLUMNS]
        except ValueError:
            values = [math.nan]
        if not np.isfinite(values).all():
            raise DsamlError(f"{where} holds something that is no number; correct it or delete the line")
        if values[0] < 0:
            raise DsamlError(f"{where}: the time {values[0]:g} s is before the song; times count from its start")
        if rows and values[0] <= rows[-1][0]:
            raise DsamlError(f"{where}: the time is not after the one before it; sort the lines by time_s")
        if rows and values[0] - rows[-1][0] > largest_gap:
            raise DsamlError(
                f"{where}: {values[0] - rows[-1][0]:g} s after the line before it, which is more than {largest_gap:g} s; "
                "annotate the whole time, or allow a larger gap (--largest-gap)"
            )
        rows.append(values)
    if not rows:
        raise DsamlError(f"{path}: holds no points; give at least {SHORTEST * STEP_SECONDS:.0f} s of them")
    if np.abs(rows)[:, 1:].max() > 1:
        raise DsamlError(f"{path}: values reach beyond [-1, 1]; rescale them (from 1-9: (value - 5) / 4)")
    if (covered := rows[-1][0] - rows[0][0]) < (SHORTEST - 1) * STEP_SECONDS - 1e-6:
        raise DsamlError(f"{path}: covers {covered:.1f} s; annotate at least {SHORTEST * STEP_SECONDS:.0f} s")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def labels_of(
    path: Path, audio: AudioConfig, largest_gap: float = LARGEST_GAP, most: int | None = None
) -> tuple[AudioConfig, np.ndarray]:
    """A curve as labels: audio settings that begin where it does, and its values at 2 Hz, (steps, 2), the first ``most`` at most.

    Errors as in :func:`read_curve`.
    """
    curve = read_curve(path, largest_gap)
    first, last = curve.time_s.iloc[0], curve.time_s.iloc[-1]
    audio = dataclasses.replace(audio, label_start=float(first))
    steps = int((last - first) / audio.step_seconds) + 1
    times = slice_times(min(steps, most or steps), audio)
    return audio, np.stack([np.interp(times, curve.time_s, curve[name]) for name in COLUMNS[1:]], 1)


def paired(songs: Paths, curves: Paths) -> tuple[list[Path], list[Path]]:
    """Songs and their curves as lists of paths; a single path of each will do. A DsamlError if there are not as many of both."""
    given = [[Path(one)] if isinstance(one, str | Path) else [Path(path) for path in one] for one in (songs, curves)]
    if len(given[0]) != len(given[1]) or not given[0]:
        counts = f"{len(given[0])} songs and {len(given[1])} curves"
        raise DsamlError(f"{counts}; give one --curve for each --song, in their order")
    return given[0], given[1]


def audio_from(audio: AudioConfig, start: float) -> AudioConfig:
    """Audio settings that begin at a second of the song; a DsamlError if it is negative or no number."""
    if not 0 <= start < math.inf:
        raise DsamlError(f"--start is {start}: give the first predicted second, 0 or more")
    return dataclasses.replace(audio, label_start=start)


def as_curve(values: np.ndarray, audio: AudioConfig, sd: np.ndarray | None = None, **about: Any) -> pd.DataFrame:
    """Predicted values (T, 2) over time, with their standard deviations (T, 2) where the model knows them.

    Returns
    -------
    DataFrame
        Index ``time_s`` (s from the song's start); columns ``arousal, valence``, and ``arousal_sd, valence_sd`` with ``sd``.
        What else is known of it stands in ``attrs``.
    """
    times = pd.Index(slice_times(len(values), audio), name=COLUMNS[0])
    names = [*COLUMNS[1:], *(SPREADS if sd is not None else ())]
    curve = pd.DataFrame(values if sd is None else np.concatenate((values, sd), 1), times, names)
    curve.attrs = about
    return curve


def require_numbers(values: np.ndarray, model: str, song: str | Path) -> None:
    """Raise a DsamlError unless all that a model gives for a song are finite numbers."""
    if not np.isfinite(values).all():
        raise DsamlError(f"{model}: gives values for {song} that are no numbers; use another model")


def quadrant(arousal: float, valence: float) -> str:
    """A point of the plane in words."""
    return f"{'pleasant' if valence >= 0 else 'unpleasant'} and {'excited' if arousal >= 0 else 'calm'}"


def in_words(curve: pd.DataFrame) -> str:
    """The quadrant of a curve's mean, with the numbers, and how unsure the model is of a single one."""
    means = curve.mean()
    numbers = [
        f"{name} {means[name]:+.2f}" + (f" ± {means[spread]:.2f}" if spread in means else "")
        for name, spread in zip(COLUMNS[1:], SPREADS, strict=True)
    ]
    return f"{quadrant(means.arousal, means.valence)} ({', '.join(numbers)})"


def warning(curve: pd.DataFrame) -> str | None:
    """What is to be said where a song is unlike the training songs; None where it is not, or nobody knows."""
    distance, limit = curve.attrs.get("distance"), curve.attrs.get("usual_distance")
    if distance is None or distance <= limit:
        return None
    return (
        f"{curve.attrs['song']}: unlike anything in the training data (distance {distance:.2f} from the nearest training song; "
        f"{USUAL:.0%} of those are within {limit:.2f} of another one), so the numbers say little"
    )
