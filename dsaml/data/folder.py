"""Your own data: audio files anywhere in a folder and one long table of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation, at_two_hertz, why_not
from dsaml.data.base import Dataset
from dsaml.data.findings import Findings
from dsaml.data.label_tables import read_long, tracks_in
from dsaml.data.splits import MIN_SONGS, assemble, read_split, songs_together
from dsaml.errors import DsamlError
from dsaml.io import read_json

KEYS, COLUMNS = ("song_id", "annotator_id"), ("time_s", "arousal", "valence")
SLOWEST = 1.0  # s between two labels at most, unless the settings say otherwise: 1 Hz
LATEST = 86_400  # s; a day
PREFIX = 20  # labels that the prefix protocol gives away: 10 s
SETTINGS = 'it holds {"label_start": seconds, "largest_gap": seconds} or one of these, numbers from 0 on'
ALLOW = '; give labels more often, or allow it: {"largest_gap": seconds} in settings.json'


def load(found: Findings, name: str) -> Dataset:
    """Load a folder with ``annotations.csv`` (or ``.parquet``), audio files, and an optional ``splits.json``.

    Tracks become 2 Hz by linear interpolation, from 15 s on, or from the ``label_start`` that an optional ``settings.json`` names;
    between two labels lie 1 s at most, or its ``largest_gap``. Labels stay on the table's own scale.
    """
    start, gap = _settings(found)
    path, other = found.root / "annotations.parquet", found.root / "annotations.csv"
    if not path.is_file():
        path = other
    elif other.is_file():
        found.notice(other, "is not read, because annotations.parquet is there too")
    table = read_long(found, path, KEYS, COLUMNS)
    raw, bad = tracks_in(found, path, table, KEYS, COLUMNS)
    reserved = f"the name '{MEAN}' is reserved for the averaged label; rename it"
    wrong = {key: reserved if key[1] == MEAN else why_not(track.times, start, gap) for key, track in raw.items()}
    for (song, who), why in (bad | wrong).items():
        if why:
            found.exclude(f"song {song}, annotator {who}", why)
        if why and (song, who) in raw:
            more = ALLOW if "between two labels" in why else ""
            found.error(path, f"song_id {song}, annotator_id {who}: {why}{more}", raw[song, who].line)
    tracks = {key: track for key, track in raw.items() if not wrong[key]}
    there = {"songs": set(table["song_id"]), "annotators": {who for _, who in tracks}}
    found.counts |= {"songs in the table": len(there["songs"]), "annotators": len(there["annotators"])}
    split_file = found.root / "splits.json"
    data = assemble(
        found,
        name,
        (Annotation(*key, *at_two_hertz(track.times, track.values, start)) for key, track in tracks.items()),
        there["songs"],
        found.root,
        lambda songs, tracks: _read_split(found, split_file, there) or {"songs": songs_together(songs, tracks, name)},
        label_start=start,
        prefix_steps=PREFIX,
    )
    for part, kept in data.split.annotators.items():
        if not kept:
            why = f"the part {part} makes no task: no annotator has {MIN_SONGS[part]} of its {len(data.split.songs[part])} songs"
            found.notice(split_file if split_file.exists() else path, why)
    return data


def _settings(found: Findings) -> tuple[float, float]:
    """What ``settings.json`` says: seconds to the first label that is used (15), and between two labels at most (1)."""
    path, usual = found.root / "settings.json", {"label_start": LABEL_START, "largest_gap": SLOWEST}
    if not path.exists():
        return LABEL_START, SLOWEST
    try:
        settings = read_json(path, "settings file", SETTINGS)
        values = list(settings.values())
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if not values or not set(settings) <= set(usual) or not numbers or not all(0 <= value < LATEST for value in values):
            raise DsamlError(f"{path}: not a settings file; {SETTINGS}")
        start, gap = (usual | settings).values()
        if gap < STEP_SECONDS:
            raise DsamlError(f"{path}: a largest_gap of {gap:g} s; give {STEP_SECONDS:g} s or more")
    except DsamlError as error:
        found.error(path, str(error).removeprefix(f"{path}: "))
        raise
    return float(start), float(gap)


def _read_split(found: Findings, path: Path, there: Mapping[str, set[str]]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What ``splits.json`` says, if anything, checked against the songs and annotators that are there."""
    if not path.exists():
        return {}
    try:
        split = read_split(path)
    except DsamlError as error:
        found.error(path, str(error).removeprefix(f"{path}: "), kind="split")
        raise
    for kind, parts in split.items():
        listed = {name for names in parts.values() for name in names}
        if there[kind]:
            found.songs(path, listed - there[kind], f"listed under {kind}, but not in the label table", "split")
            left = "notice" if kind == "annotators" else "split"  # a split may leave people out
            found.songs(path, there[kind] - listed, f"in the label table, but listed nowhere under {kind}", left)
    return split


README = """# Your data set, for `--dataset folder`

Replace the two example songs and `annotations.csv` by your own.

- Audio: anywhere in this folder, as .mp3, .wav, .ogg or .flac. The file name without suffix is the `song_id`.
- `annotations.csv` (or `annotations.parquet`), comma-separated UTF-8, one row per label:
  `song_id, annotator_id, time_s, arousal, valence`.
  - `time_s`: seconds from the start of the song, rising within a track, at least one label per second.
    Labels are brought to 2 Hz by linear interpolation; what lies before 15 s is not used, as in the paper.
    `settings.json` with `{"label_start": 0, "largest_gap": 4}` (seconds) moves both limits.
  - `arousal`, `valence`: both on [-1, 1] or both on [0, 1].
  - `annotator_id`: any text but `all`, which is the averaged label.
- `splits.json` (optional):
  `{"songs": {"train": [...], "validation": [...], "test": [...]}, "annotators": {the same three}}`.
  It may leave annotators out. Without it 20 % of the songs are for test and 10 % for validation, such that people keep their
  songs together.

Then: `python -m dsaml check --dataset folder --root .`
"""


def write_template(root: Path) -> list[Path]:
    """Write a README, a label table and two generated songs that pass ``check``.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    DsamlError
        If the folder is not empty.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DsamlError(f"{root}: not an empty folder; give a new one, so that nothing is overwritten")
    (root / "audio").mkdir(parents=True)
    written = [root / "README.md", root / "annotations.csv"]
    written[0].write_text(README, encoding="utf-8")
    rate, seconds = 8000, 31
    rows = [",".join((*KEYS, *COLUMNS))]
    for n, song in enumerate(("example-1", "example-2")):
        clock = np.arange(rate * seconds) / rate
        sound = 0.2 * np.sin(2 * np.pi * 220 * (n + 1) * clock) * (0.5 + 0.5 * np.sin(2 * np.pi * clock / 10))
        written.append(root / "audio" / f"{song}.flac")
        sf.write(written[-1], sound, rate)
        for k, who in enumerate(("anna", "ben", "cleo")):
            for t in range(15, seconds):
                arousal, valence = 0.5 * np.sin(t / 3 + n + k), 0.4 * np.cos(t / 4 + k)
                rows.append(f"{song},{who},{t},{arousal:.3f},{valence:.3f}")
    written[1].write_text("\n".join(rows) + "\n", encoding="utf-8")
    return written
