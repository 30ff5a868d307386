"""Your own data: audio files anywhere in a folder and one long table of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.config import LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset
from dsaml.data.curves import at_two_hertz, mean_of, why_not
from dsaml.data.findings import Findings, by_number
from dsaml.data.label_tables import read_long, require, tracks_in
from dsaml.data.splits import people_of, read_split, select_people, songs_together
from dsaml.errors import DsamlError
from dsaml.io import read_json

KEYS = ("song_id", "annotator_id")
SLOWEST = 1.0  # s between two labels at most, unless the settings say otherwise: 1 Hz
LATEST = 86_400  # s; a day
PREFIX = 20  # labels that the prefix protocol gives away: 10 s
SETTINGS = 'it holds {"label_start": seconds, "largest_gap": seconds} or one of these, numbers from 0 on'
ALLOW = '; give labels more often, or allow it: {"largest_gap": seconds} in settings.json'
MIN_SONGS = {"train": 2, "validation": 2, "test": 2}  # one for support, one for query


def load(root: Path, *, found: Findings | None = None) -> Dataset:
    """Load a folder with ``annotations.csv`` (or ``.parquet``), audio files, and an optional ``splits.json``.

    Tracks become 2 Hz by linear interpolation, from 15 s on, or from the ``label_start`` that an optional ``settings.json`` names;
    between two labels lie 1 s at most, or its ``largest_gap``. The averaged label is the mean over all usable tracks of a song,
    flat ones included.

    Parameters
    ----------
    found : Findings, optional
        Gets everything that is wrong.

    Returns
    -------
    Dataset
        Labels on the table's own scale.

    Raises
    ------
    DsamlError
        If the table or the split file cannot be used.
    """
    root = Path(root)
    found = found or Findings(root)
    start, gap = _settings(found)
    path, other = root / "annotations.parquet", root / "annotations.csv"
    if not path.is_file():
        path = other
    elif other.is_file():
        found.notice(other, "is not read, because annotations.parquet is there too")
    table = read_long(found, path, KEYS, ["time_s", "arousal", "valence"])
    raw, bad = tracks_in(found, table, KEYS, "time_s", "arousal", "valence")
    for column in ("arousal", "valence"):
        found.scale(path, table.lines, table.columns[column], -1, 1)
    for (song, who), wrong in bad.items():
        found.exclude(f"song {song}, annotator {who}", wrong)
    by_song: dict[str, dict[str, Annotation]] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    for (song, who), track in raw.items():
        reserved = f"the name '{MEAN}' is reserved for the averaged label; rename it"
        wrong = reserved if who == MEAN else why_not(track, start, gap)
        if wrong:
            more = ALLOW if "between two labels" in wrong else ""
            found.error(path, f"song_id {song}, annotator_id {who}: {wrong}{more}", track.line)
            found.exclude(f"song {song}, annotator {who}", wrong)
        else:
            by_song.setdefault(song, {})[who] = Annotation(song, who, *at_two_hertz(track, start))
            found.keep_track(tracks, by_song[song][who])
    mean = {song: mean_of(song, by_song[song]) for song in sorted(by_song, key=by_number)}
    known, people = set(table.columns["song_id"]), {who for own in by_song.values() for who in own}
    found.counts |= {"songs in the table": len(known), "tracks that can be used": sum(map(len, by_song.values()))}
    found.counts["annotators"] = len(people)
    songs = found.pair_audio(root, root.rglob("*"), mean, known)
    split_file = root / "splits.json"
    split = _read_split(found, split_file, {"songs": known, "annotators": people})
    require(table)
    if not mean:
        raise DsamlError(f"{path}: no track can be used; run 'python -m dsaml check --dataset folder' to see why")
    parts = split.get("songs") or songs_together(mean, tracks, "folder")
    parts = {part: tuple(i for i in ids if i in mean) for part, ids in parts.items()}
    listed = split.get("annotators")
    people = select_people(
        found, tracks, parts, lambda found, tracks: listed or people_of(tracks, parts, "folder", MIN_SONGS), MIN_SONGS
    )
    for part, kept in people["split"].annotators.items():
        if tracks and not kept:
            why = f"the part {part} makes no task: no annotator has {MIN_SONGS[part]} of its {len(parts[part])} songs"
            found.notice(split_file if split_file.exists() else path, why)
    return Dataset(
        name="folder", real=True, root=root, songs=songs, mean=mean, exclusions=tuple(found.exclusions), label_start=start,
        prefix_steps=PREFIX, **people,
    )  # fmt: skip


def _settings(found: Findings) -> tuple[float, float]:
    """What ``settings.json`` says: seconds to the first label that is used (15), and between two labels at most (1).

    Raises
    ------
    DsamlError
        If the file is damaged, or holds anything else.
    """
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
    rows = [",".join((*KEYS, "time_s", "arousal", "valence"))]
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
