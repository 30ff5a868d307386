"""Label tables: every problem is kept with its file and line, so that loaders and ``check`` agree on what is wrong."""

from __future__ import annotations

import csv
import io
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.errors import DsamlError

KINDS = {
    "table": "a table or a row of it cannot be read",
    "layout": "files, columns or ids are not as the data set has them",
    "length": "labels are missing or too many",
    "scale": "labels are off the scale",
    "raters": "the annotators' labels do not fit the averaged ones",
    "missing": "songs lack audio or labels",
    "audio": "audio that cannot be used",
    "split": "the split file does not fit the labels",
}
"""Short names of what can be wrong; ``train --accept NAME`` goes on in spite of it."""
_TIME = re.compile(r"sample_(\d+)ms")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where, what, and whether it matters.

    ``fatal`` problems make a whole table unreadable; other errors cost a row. A ``notice`` is a known property of the
    data.
    """

    path: Path
    message: str
    line: int | None = None
    severity: str = "error"  # or "notice"
    fatal: bool = False
    kind: str = "table"  # one of KINDS

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line}" if self.line else str(self.path)
        return f"{where}: {self.message}"


@dataclass(frozen=True, eq=False)
class Row:
    """One usable row of a wide table: values of shape (T,), without the empty cells at its end."""

    line: int
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Wide:
    """A table with one row per id and one column per time.

    Attributes
    ----------
    path : Path
    ids : bool
        False where the file has no id column; rows are then numbered "0", "1", ...
    times : ndarray, shape (T,)
        Seconds, from the column names ``sample_<milliseconds>ms``.
    rows : dict of id to Row
        Rows that can be used.
    problems : list of Problem
        Everything else.
    bad : dict of id to str
        Why the row of this id cannot be used.
    """

    path: Path
    ids: bool = True
    times: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows: dict[str, Row] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def read_text(path: Path) -> tuple[str, Problem | None]:
    """The text of a UTF-8 file, or an empty text and what is wrong."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode) or stat.S_ISCHR(path.stat().st_mode):  # reading it might never end
            return "", Problem(path, "cannot be read, it is a pipe or a device; put a plain file there", fatal=True)
        raw = path.read_bytes()
    except FileNotFoundError:
        return "", Problem(path, "the file is missing; get it again from the data set's archive", fatal=True)
    except OSError as error:
        return "", Problem(path, f"cannot be read ({error.strerror}); check its kind and its permissions", fatal=True)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "", Problem(path, "the encoding is UTF-16; save the table as UTF-8", fatal=True)
    if b"\0" in raw:
        return "", Problem(path, "contains zero bytes, so it is no text table or is damaged; get it again", fatal=True)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return "", Problem(path, "the encoding is not UTF-8 (Latin-1?); save the table as UTF-8", line, fatal=True)
    if not text.strip():
        return "", Problem(path, "the file is empty; get it again", fatal=True)
    return text, None


def _wrong_delimiter(header: str) -> str | None:
    names = {";": "semicolons", "\t": "tabs", "|": "bars"}
    return next((names[d] for d in names if d in header and "," not in header), None)


def _cell(value: str) -> float:
    return float(value) if value.strip() else np.nan


def _row(cells: list[str], columns: int) -> tuple[np.ndarray | None, str | None]:
    """Values of one row without trailing empty cells, or what is wrong with it."""
    count = len(cells)
    while count and not cells[count - 1].strip():
        count -= 1
    if count > columns:
        return None, f"has {count} labels but the header names {columns}; the row is shifted or the header is damaged"
    try:
        values = np.array(cells[:count], dtype=float)
    except ValueError:
        try:
            values = np.array([_cell(c) for c in cells[:count]])
        except ValueError as error:
            return None, f"a label is not a number ({error})"
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite):
        return None, "has no labels"
    values = values[: finite[-1] + 1]
    inside = np.flatnonzero(~np.isfinite(values))
    if len(inside):
        return None, f"label {inside[0] + 1} of {len(values)} is empty or not a finite number, inside the track"
    return values, None


def read_wide(path: Path, id_column: str, ids_required: bool = True) -> Wide:
    """Read a table of DEAM's kind: an id, then one label per half second; early ends leave cells empty.

    Parameters
    ----------
    path : Path
    id_column : str
        Name of the first column: ``song_id`` or ``WorkerId``.
    ids_required : bool
        If False, a table whose first column already is a label is accepted, with rows "0", "1", ...

    Returns
    -------
    Wide
        Never raises for what is in the file: see ``problems``.
    """
    text, problem = read_text(path)
    if problem:
        return Wide(path, problems=[problem])
    lines = text.splitlines()
    wrong = _wrong_delimiter(lines[0])
    if wrong:
        return Wide(path, problems=[Problem(path, f"is separated by {wrong}; it must be commas", 1, fatal=True)])
    header = [c.strip().strip('"') for c in lines[0].split(",")]
    while header and not header[-1]:
        header.pop()
    if not header:
        return Wide(
            path, problems=[Problem(path, f"is empty; it must name the columns, first '{id_column}'", 1, fatal=True)]
        )
    has_ids = not _TIME.fullmatch(header[0])
    if has_ids and header[0].lower() != id_column.lower():
        what = f"the first column is '{header[0]}'; it must be '{id_column}'"
        return Wide(path, problems=[Problem(path, what, 1, fatal=True)])
    if not has_ids and ids_required:
        return Wide(path, problems=[Problem(path, f"the column '{id_column}' is missing", 1, fatal=True)])
    names = header[1:] if has_ids else header
    odd = next((c for c in names if not _TIME.fullmatch(c)), None)
    if odd is not None or not names:
        what = f"column '{odd}' is no time" if names else "has no label columns"
        what += "; the names are sample_15000ms, sample_15500ms, ..."
        return Wide(path, problems=[Problem(path, what, 1, fatal=True)])
    times = np.array([int(c[7:-2]) for c in names]) / 1000
    jumps = np.flatnonzero(np.abs(np.diff(times) - STEP_SECONDS) > 1e-9)
    if len(jumps):
        a, b = names[jumps[0]], names[jumps[0] + 1]
        return Wide(path, problems=[Problem(path, f"times must rise by {STEP_SECONDS} s, but {b} follows {a}", 1, fatal=True)])
    if times[0] != LABEL_START:
        what = f"the first label is at {times[0]:g} s; it must be at {LABEL_START:g} s ({int(LABEL_START * 1000)} ms)"
        return Wide(path, problems=[Problem(path, what, 1, fatal=True)])
    table = Wide(path, has_ids, times)
    for number, line in enumerate(lines[1:], 2):
        if not line.strip(" ,"):
            continue
        cells = line.split(",")
        name = cells.pop(0).strip().strip('"').strip() if has_ids else str(number - 2)
        if has_ids and re.fullmatch(r"\d+\.0+", name):  # ids that went through a float column
            name = name.split(".")[0]
        if not name:
            table.problems.append(Problem(path, f"the row has no {id_column}", number))
            continue
        values, wrong = _row(cells, len(times))
        if name in table.rows or name in table.bad:
            wrong = f"{id_column} {name} appears twice; keep one of the rows"
            table.problems.append(Problem(path, wrong, number))  # the first one stays
        elif wrong:
            table.problems.append(Problem(path, f"{id_column} {name} {wrong}", number))
            table.bad[name] = wrong
        else:
            table.rows[name] = Row(number, values)
    if not table.rows and not table.problems:
        table.problems.append(Problem(path, "has a header but no rows; get it again", fatal=True))
    return table


@dataclass(frozen=True, eq=False)
class Long:
    """A table with one row per label: equally long columns (text or float) and the line of each row."""

    path: Path
    columns: Mapping[str, np.ndarray]
    lines: np.ndarray
    problems: list[Problem]


def read_long(path: Path, text: Sequence[str], numbers: Sequence[str]) -> Long:
    """Read the named columns of a CSV (or ``.parquet``) table; a number that cannot be read becomes NaN and a problem.

    Returns
    -------
    Long
        Never raises for what is in the file: see ``problems``.
    """
    if path.suffix == ".parquet":
        header, body, problem = _parquet(path)
    else:
        content, problem = read_text(path)
        header, body = [], []
        if not problem:
            first = content.split("\n", 1)[0]
            wrong = _wrong_delimiter(first)
            try:
                reader = csv.reader(io.StringIO(content), strict=True)
                rows = [(reader.line_num, row) for row in reader]
                header, body = [c.strip() for c in rows[0][1]], rows[1:]
            except csv.Error as error:
                problem = Problem(path, f"is no comma-separated table ({error})", reader.line_num, fatal=True)
            if wrong:
                problem = Problem(path, f"is separated by {wrong}; it must be commas", 1, fatal=True)
    if not problem:
        lacking = [c for c in (*text, *numbers) if c not in header]
        if lacking:
            found = ", ".join(header[:8])
            problem = Problem(path, f"column '{lacking[0]}' is missing; found: {found}", 1, fatal=True)
        elif not body:
            problem = Problem(path, "has a header but no rows", 1, fatal=True)
    if problem:
        return Long(path, {}, np.empty(0, int), [problem])
    problems, kept, lines = [], [], []
    for line, row in body:
        if not any(c.strip() for c in row):
            continue
        if len(row) != len(header):
            problems.append(Problem(path, f"has {len(row)} cells but the header has {len(header)}", line))
            continue
        kept.append(row)
        lines.append(line)
    columns = {c: np.array([row[header.index(c)].strip() for row in kept], dtype=object) for c in text}
    for name in numbers:
        at, values = header.index(name), np.full(len(kept), np.nan)
        for i, row in enumerate(kept):
            try:
                values[i] = float(row[at])
            except ValueError:
                problems.append(Problem(path, f"{name} is '{row[at]}', not a number", lines[i]))
        columns[name] = values
    return Long(path, columns, np.array(lines, int), problems)


def _parquet(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], Problem | None]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError:
        message = "reading Parquet needs the package pyarrow; install it, or save the table as annotations.csv"
        return [], [], Problem(path, message, fatal=True)
    except Exception as error:  # pyarrow raises many kinds for a damaged file
        return [], [], Problem(path, f"cannot be read as Parquet ({type(error).__name__}); write it again", fatal=True)
    body = [(n, ["" if v is None else str(v) for v in row]) for n, row in enumerate(frame.itertuples(index=False), 1)]
    return [str(c) for c in frame.columns], body, None


@dataclass(frozen=True, eq=False)
class Track:
    """Labels of one song by one person as they stand in a long table: times in s (T,), values (T, 2), first line."""

    times: np.ndarray
    values: np.ndarray
    line: int


def tracks_in(
    table: Long, keys: Sequence[str], time: str, arousal: str, valence: str
) -> tuple[dict[tuple[str, ...], Track], dict[tuple[str, ...], str], list[Problem]]:
    """Cut a long table into tracks.

    Parameters
    ----------
    table : Long
        Without a fatal problem.
    keys : sequence of str
        The text columns that name a track; ``time``, ``arousal`` and ``valence`` are number columns.

    Returns
    -------
    tracks : dict of key to Track
        Complete tracks with strictly increasing times.
    bad : dict of key to str
        Why the other tracks cannot be used.
    problems : list of Problem
        The same with lines, and rows without a key.
    """
    positions: dict[tuple[str, ...], list[int]] = {}
    problems: list[Problem] = []
    for i, key in enumerate(zip(*(table.columns[k] for k in keys), strict=True)):
        if all(key):
            positions.setdefault(key, []).append(i)
        else:
            problems.append(Problem(table.path, f"the row has no {keys[key.index('')]}", int(table.lines[i])))
    told = {p.line for p in table.problems}
    tracks, bad = {}, {}
    for key, rows in positions.items():
        at = np.array(rows)
        times, lines = table.columns[time][at], table.lines[at]
        values = np.stack([table.columns[arousal][at], table.columns[valence][at]], 1)
        who = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
        holes = np.flatnonzero(~np.isfinite(np.column_stack([times, values])).all(1))
        back = np.flatnonzero(np.diff(times) <= 0)
        if len(holes):
            line, wrong = lines[holes[0]], "a time or label is empty or not a finite number, inside the track"
        elif len(back):
            line = lines[back[0] + 1]
            verb = "appears twice" if times[back[0]] == times[back[0] + 1] else f"follows {times[back[0]]:g} s"
            wrong = f"time {times[back[0] + 1]:g} s {verb}; times must rise"
        else:
            tracks[key] = Track(times, values, int(lines[0]))
            continue
        bad[key] = wrong
        if line not in told:
            problems.append(Problem(table.path, f"{who}: {wrong}", int(line)))
    return tracks, bad, problems


def require(table: Wide | Long) -> None:
    """Raise the first fatal problem of a table.

    Raises
    ------
    DsamlError
        If the table as a whole cannot be read.
    """
    for problem in table.problems:
        if problem.fatal:
            raise DsamlError(str(problem))
