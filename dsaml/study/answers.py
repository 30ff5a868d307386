"""Answer sheets of the subjective study: one line per participant, song, dimension and method; and SIMULATED ones for rehearsal.

The paper's study: 22 participants, each adjusted the curve of one 45 s song and then ranked four curves for each of ten songs
(1 = fits my perception best), separately for arousal and valence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsaml.config import DIMENSIONS
from dsaml.errors import DsamlError, require_file
from dsaml.experiment.results import read_result
from dsaml.io import write_bytes_atomically

COLUMNS = ("participant_id", "song_id", "dimension", "method", "rank")
ORDER = ("position", "shown")
"""Columns of the order, where it is known: of the song among the participant's (1, 2, …), and the curve's letter on the screen."""


def write_template(path: str | Path) -> Path:
    """Write an empty answer sheet with one filled example song."""
    rows = [("P01", "song-1", d, m, r) for d in DIMENSIONS for r, m in enumerate("ABCD", 1)]
    write_bytes_atomically(Path(path), pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False).encode())
    return Path(path)


def read_rankings(path: str | Path) -> pd.DataFrame:
    """Read answers: one line per participant, song, dimension and method.

    Parameters
    ----------
    path : path
        CSV with the columns ``participant_id, song_id, dimension, method, rank``; those of :data:`ORDER` may follow.

    Raises
    ------
    DsamlError
        With every problem and its line: columns, unknown dimension, rank that is no whole number, missing or repeated method,
        ranks that are no permutation of 1..k (ties are not allowed), a position that is no whole number.
    """
    path = Path(path)
    require_file(path, "file", "'python -m dsaml study template' writes an example")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DsamlError(f"{path}: not a CSV file ({str(error).splitlines()[0]}); save it as comma-separated text") from error
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise DsamlError(f"{path}: no column {', '.join(missing)}; the columns have to be {','.join(COLUMNS)}")
    if table.empty:
        raise DsamlError(f"{path}: holds no answers; fill in at least one participant")
    line = table.index + 2
    unknown = table.dimension[~table.dimension.isin(DIMENSIONS)]
    problems = [f"line {line[i]}: dimension '{d}' is neither arousal nor valence" for i, d in unknown.items()]
    for name in ("rank", "position"):
        if name in table:
            given, table[name] = table[name], pd.to_numeric(table[name], errors="coerce")
            odd = given[table[name].isna() | (table[name] % 1 != 0)]
            problems += [f"line {line[i]}: {name} '{value}' is no whole number" for i, value in odd.items()]
    methods = sorted(table.method.unique())
    if len(methods) < 2:
        problems.append(f"only the method '{methods[0]}' appears; a ranking needs two or more")
    for (who, song, dimension), group in table.groupby(["participant_id", "song_id", "dimension"], sort=True):
        where = f"line {line[group.index[0]]}: participant {who}, song {song}, {dimension}"
        if sorted(group.method) != methods:
            problems.append(f"{where}: ranks {', '.join(sorted(group.method))} but the methods are {', '.join(methods)}")
        elif not group["rank"].isna().any() and sorted(group["rank"]) != list(range(1, len(methods) + 1)):
            problems.append(f"{where}: ranks {sorted(group['rank'].tolist())} are not 1 to {len(methods)}, each once")
    if problems:
        raise DsamlError(f"{path}: {'; '.join(problems[:20])}{'; …' if len(problems) > 20 else ''}; correct these lines")
    return table.astype({name: int for name in ("rank", "position") if name in table})


def write_rankings(path: str | Path, rankings: pd.DataFrame) -> None:
    """Write answers in the format of :func:`read_rankings`."""
    write_bytes_atomically(Path(path), rankings.to_csv(index=False).encode())


def simulate(curves: Mapping[str, Any], noise: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """SIMULATED answers: each participant ranks curves by their distance to the own true curve, with noise.

    Parameters
    ----------
    curves : mapping
        ``study_curves.json``: per participant and song the true curve and the curves of each method, (T, 2) each.
    noise : float
        SD of the error with which a participant judges the RMSE of a curve, on the labels' scale.

    Returns
    -------
    DataFrame
        As :func:`read_rankings` returns it.
    """
    rng, rows = np.random.default_rng(seed), []
    for person in curves["participants"]:
        for song in person["songs"]:
            true, methods = np.asarray(song["truth"]), list(song["methods"])
            shown = np.stack([song["methods"][m] for m in methods])  # (methods, T, 2)
            error = np.sqrt(((shown - true) ** 2).mean(1)) + rng.normal(0, noise, (len(methods), 2))
            for d, dimension in enumerate(DIMENSIONS):
                for rank, index in enumerate(np.argsort(error[:, d], kind="stable"), 1):
                    rows.append((person["id"], song["song_id"], dimension, methods[index], rank))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_curves(path: str | Path) -> dict[str, Any]:
    """Read ``study_curves.json``; a DsamlError if it is missing or holds something else."""
    curves = read_result(path)
    try:
        songs = [(person["id"], song) for person in curves["participants"] for song in person["songs"]]
        for who, song in songs:
            every = [np.asarray(curve, float) for curve in (song["truth"], *song["methods"].values())]
            shape = (*every[0].shape[:1], 2)
            if len(every) < 2 or not every[0].size or any(c.shape != shape or not np.isfinite(c).all() for c in every):
                raise ValueError(f"the curves of participant {who}, song {song['song_id']} are not finite numbers (steps, 2)")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error
        raise DsamlError(f"{path}: not a file of study curves ({said}); compute it again") from error
    if not songs:
        raise DsamlError(f"{path}: holds no participant with songs; compute it again")
    return curves
