"""Label tables: whatever is wrong in one is noted with its line, and what is left can be used."""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.findings import Findings

TIME_COLUMN = re.compile(r"sample_(\d+)ms")
WRONG_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Unreadable(Exception):
    """Why a table as a whole cannot be read, and the line where it is known."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.line = line


def read_text(path: Path) -> str:
    """The text of a UTF-8 file that is not empty, or :class:`Unreadable`."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISCHR(path.stat().st_mode):  # reading it might never end
            raise Unreadable("cannot be read, it is a pipe or a device; put a plain file there")
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise Unreadable("the file is missing; get it again from the data set's archive") from error
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror}); check its kind and its permissions") from error
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unreadable("the encoding is UTF-16; save the table as UTF-8")
    if b"\0" in raw:
        raise Unreadable("contains zero bytes, so it is no text table or is damaged; get it again")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable("the encoding is not UTF-8 (Latin-1?); save the table as UTF-8", line) from error
    if not text.strip():
        raise Unreadable("the file is empty; get it again")
    return text


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header of a CSV (or ``.parquet``) table, and the rows that hold anything, with their lines; or :class:`Unreadable`."""
    if path.suffix == ".parquet":
        frame = read_parquet(path)
        cells = [["" if cell is None else str(cell).strip() for cell in row] for row in frame.itertuples(index=False)]
        return list(frame.columns), [(number, row) for number, row in enumerate(cells, 1) if any(row)]
    lines = read_text(path).splitlines(keepends=True)
    if "," not in lines[0]:
        for delimiter, name in WRONG_DELIMITERS.items():
            if delimiter in lines[0]:
                raise Unreadable(f"is separated by {name}; it must be commas", 1)
    reader = csv.reader(lines, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise Unreadable(f"is no comma-separated table ({error})", reader.line_num) from error
    return rows[0][1], [(line, row) for line, row in rows[1:] if any(row)]


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet table whose columns are called by text, or :class:`Unreadable`."""
    try:
        return pd.read_parquet(path).rename(columns=str)
    except ImportError as error:
        raise Unreadable("reading Parquet needs the package pyarrow: pip install pyarrow") from error
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        raise Unreadable(f"cannot be read as Parquet ({type(error).__name__}); get it again") from error


def find_columns(header: Sequence[str], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The name in the file, whatever its capitals, of every role: the first of its possible names that the file has.

    Raises
    ------
    Unreadable
        Names every role without a column, and all columns of the file.
    """
    by_name = {name.lower(): name for name in reversed(header)}
    found = {role: next((by_name[n] for n in names if n in by_name), None) for role, names in roles.items()}
    if missing := [f"the {role} ({', '.join(roles[role])})" for role, name in found.items() if name is None]:
        lacking, there = " and none for ".join(missing), ", ".join(header)
        raise Unreadable(f"no column for {lacking}; the columns are: {there}; in a copy, rename the one that means it")
    return {role: name for role, name in found.items() if name is not None}


@dataclass(frozen=True, eq=False)
class Track:
    """Labels of one id as they stand in a table: times in s (T,), values (T,) or (T, 2), the line of the first."""

    times: np.ndarray
    values: np.ndarray
    line: int


# Wide: one row per id, one column per time ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Wide:
    """A table with one row per id and one column per time; empty where it cannot be read."""

    path: Path
    id_column: str
    has_ids: bool = True  #: False where the file has no id column; rows are then numbered "0", "1", ...
    rows: dict[str, Track] = field(default_factory=dict)  #: by id, those that can be used, without the empty cells at their end
    bad: dict[str, str] = field(default_factory=dict)  #: why the others cannot


def read_wide(found: Findings, path: Path, id_column: str, ids_required: bool = True) -> Wide:
    """Read a table of DEAM's kind: an id, then one label in [-1, 1] per half second; early ends leave cells empty.

    ``found`` gets every problem; never raises for what is in the file. If no ``ids_required``, a table whose first column already
    is a label is accepted, with rows "0", "1", ...
    """
    try:
        header, body = read_rows(path)
        has_ids, times = _wide_header(header, id_column, ids_required)
        if not body:
            raise Unreadable("has a header but no rows; get it again")
    except Unreadable as error:
        found.unreadable(path, str(error), error.line)
        return Wide(path, id_column)
    table = Wide(path, id_column, has_ids)
    for line, cells in body:
        name = cells[0] if has_ids else str(line - 2)
        if has_ids and re.fullmatch(r"\d+\.0+", name):  # ids that went through a float column
            name = name.split(".")[0]
        values, wrong = _wide_values(cells[1:] if has_ids else cells, len(times))
        if not name:
            found.error(path, f"the row has no {id_column}", line, "table")
        elif name in table.rows or name in table.bad:  # the first one stays
            found.error(path, f"{id_column} {name} appears twice; keep one of the rows", line, "table")
        elif wrong:
            found.error(path, f"{id_column} {name} {wrong}", line, "table")
            table.bad[name] = wrong
        else:
            table.rows[name] = Track(times[: len(values)], values, line)
    if rows := table.rows.values():
        lines = np.repeat([row.line for row in rows], [len(row.values) for row in rows])
        found.scale(path, lines, np.concatenate([row.values for row in rows]), -1, 1)
    return table


def _wide_header(header: list[str], id_column: str, ids_required: bool) -> tuple[bool, np.ndarray]:
    """Whether a wide table has ids, and the times of its columns in seconds."""
    while header and not header[-1]:
        header = header[:-1]
    if not header:
        raise Unreadable(f"is empty; it must name the columns, first '{id_column}'", 1)
    has_ids = not TIME_COLUMN.fullmatch(header[0])
    if has_ids and header[0].lower() != id_column.lower():
        raise Unreadable(f"the first column is '{header[0]}'; it must be '{id_column}'", 1)
    if not has_ids and ids_required:
        raise Unreadable(f"the column '{id_column}' is missing", 1)
    names = header[1:] if has_ids else header
    odd = next((c for c in names if not TIME_COLUMN.fullmatch(c)), None)
    if odd is not None or not names:
        what = f"column '{odd}' is no time" if names else "has no label columns"
        raise Unreadable(f"{what}; the names are sample_15000ms, sample_15500ms, ...", 1)
    times = np.array([int(c[7:-2]) for c in names]) / 1000
    jumps = np.flatnonzero(np.abs(np.diff(times) - STEP_SECONDS) > 1e-9)
    if len(jumps):
        raise Unreadable(f"times must rise by {STEP_SECONDS} s, but {names[jumps[0] + 1]} follows {names[jumps[0]]}", 1)
    if times[0] != LABEL_START:
        must = f"it must be at {LABEL_START:g} s ({int(LABEL_START * 1000)} ms)"
        raise Unreadable(f"the first label is at {times[0]:g} s; {must}", 1)
    return has_ids, times


def _wide_values(cells: list[str], columns: int) -> tuple[np.ndarray, str | None]:
    """Values of one row without trailing empty cells, and what is wrong with them."""
    count, nothing = max((i for i, cell in enumerate(cells, 1) if cell), default=0), np.empty(0)
    if count > columns:
        return nothing, f"has {count} labels but the header names {columns}; the row is shifted or the header is damaged"
    try:
        values = np.array([float(cell) if cell else np.nan for cell in cells[:count]])
    except ValueError as error:
        return nothing, f"a label is not a number ({error})"
    finite = np.isfinite(values)
    if not finite.any():
        return nothing, "has no labels"
    values = values[: np.flatnonzero(finite)[-1] + 1]
    inside = np.flatnonzero(~np.isfinite(values))
    if len(inside):
        return nothing, f"label {inside[0] + 1} of {len(values)} is empty or not a finite number, inside the track"
    return values, None


# Long: one row per label ----------------------------------------------------------------------------------------------


def read_long(found: Findings, path: Path, text: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame:
    """The named columns of a CSV (or ``.parquet``) table, indexed by line; a number that cannot be read is NaN and a problem.

    ``found`` gets every problem; never raises for what is in the file, which then has no rows.
    """
    try:
        header, body = read_rows(path)
        for column in (*text, *numbers):
            if column not in header:
                raise Unreadable(f"column '{column}' is missing; found: {', '.join(header[:8])}", 1)
        if not body:
            raise Unreadable("has a header but no rows", 1)
    except Unreadable as error:
        found.unreadable(path, str(error), error.line)
        header, body = [*text, *numbers], []
    for line, row in body:
        if len(row) != len(header):
            found.error(path, f"has {len(row)} cells but the header has {len(header)}", line, "table")
    body = [(line, row) for line, row in body if len(row) == len(header)]
    columns = {name: [row[header.index(name)] for _, row in body] for name in text}
    for name in numbers:
        at, values = header.index(name), np.full(len(body), np.nan)
        for i, (line, row) in enumerate(body):
            try:
                values[i] = float(row[at])
            except ValueError:
                found.error(path, f"{name} is '{row[at]}', not a number", line, "table")
        columns[name] = values
    return pd.DataFrame(columns, index=[line for line, _ in body])


def tracks_in(
    found: Findings, path: Path, table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str], low: float = -1
) -> tuple[dict[tuple[str, ...], Track], dict[tuple[str, ...], str]]:
    """Cut a table of :func:`read_long` into tracks.

    Parameters
    ----------
    found : Findings
        Gets every track that cannot be used, rows without a key, and labels off the scale [``low``, 1].
    keys : sequence of str
        The text columns that name a track.
    columns : sequence of str
        Those of time, arousal and valence.

    Returns
    -------
    tracks : dict of key to Track
        Complete tracks with strictly increasing times.
    bad : dict of key to str
        Why the other tracks cannot be used.
    """
    whole = (table[[*keys]] != "").all(axis=1)
    for line, row in table[~whole].iterrows():
        found.error(path, f"the row has no {next(key for key in keys if not row[key])}", int(line), "table")
    told = {p.line for p in found.problems if p.path == path}
    tracks, bad = {}, {}
    for key, rows in table[whole].groupby([*keys], sort=False):
        times, lines = rows[columns[0]].to_numpy(), rows.index
        holes = np.flatnonzero(~np.isfinite(rows[[*columns]].to_numpy()).all(1))
        back = np.flatnonzero(np.diff(times) <= 0)
        if len(holes):
            line, wrong = lines[holes[0]], "a time or label is empty or not a finite number, inside the track"
        elif len(back):
            line = lines[back[0] + 1]
            verb = "appears twice" if times[back[0]] == times[back[0] + 1] else f"follows {times[back[0]]:g} s"
            wrong = f"time {times[back[0] + 1]:g} s {verb}; times must rise"
        else:
            tracks[key] = Track(times, np.stack([rows[name].to_numpy() for name in columns[1:]], 1), int(lines[0]))
            continue
        bad[key] = wrong
        if line not in told:
            who = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
            found.error(path, f"{who}: {wrong}", int(line), "table")
    in_order = table.sort_index()
    for column in columns[1:]:
        found.scale(path, in_order.index, in_order[column].to_numpy(), low, 1)
    return tracks, bad
