"""One person's curve of one song as a CSV file: ``time_s, arousal, valence``."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pandas as pd

from dsaml.config import STEP_SECONDS
from dsaml.errors import DsamlError, require_file
from dsaml.io import write_bytes_atomically

COLUMNS = ("time_s", "arousal", "valence")
SHORTEST = 10  # steps; a curve below 5 s says too little about a person
LARGEST_GAP = 2.0  # s between two points of a curve


def write_curve(path: Path, curve: pd.DataFrame) -> None:
    """Write a curve as CSV with the columns ``time_s, arousal, valence``."""
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
        numbers, a negative time, times that do not increase, or a larger gap.
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
    return pd.DataFrame(rows, columns=list(COLUMNS))
