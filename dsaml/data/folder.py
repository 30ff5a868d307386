"""Your own data: audio files anywhere in a folder and one long table of labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile as sf

from dsaml.config import CLIP_STEPS, LABEL_START, STEP_SECONDS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import PARTS, Dataset, Exclusion, Song, Split
from dsaml.data.deam import AUDIO_SUFFIXES, FLAT, is_flat, number
from dsaml.data.label_tables import Long, Track, read_long, require, tracks_in
from dsaml.data.splits import SALT, read_split, select_annotators
from dsaml.errors import DsamlError

KEYS = ("song_id", "annotator_id")
SLOWEST = 1.0  # s between two labels at most: 1 Hz
MIN_SONGS = {"train": 2, "validation": 2, "test": 2}  # one for support, one for query


def labels_file(root: Path) -> Path:
    """``annotations.parquet`` if it is there, else ``annotations.csv``."""
    parquet = root / "annotations.parquet"
    return parquet if parquet.is_file() else root / "annotations.csv"


def read_labels(root: Path) -> Long:
    """The label table with its columns song_id, annotator_id, time_s, arousal, valence."""
    return read_long(labels_file(root), KEYS, ["time_s", "arousal", "valence"])


def audio_files(root: Path) -> dict[str, list[Path]]:
    """All audio files below the folder by their name without suffix, which is the song_id."""
    found: dict[str, list[Path]] = {}
    for file in sorted(root.rglob("*")):
        if file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".") and file.is_file():
            found.setdefault(file.stem, []).append(file)
    return found


def why_not(track: Track) -> str | None:
    """Why a track cannot be brought to 2 Hz from 15 s on; None if it can."""
    if len(track.times) < 2 or track.times[-1] < LABEL_START + STEP_SECONDS:
        return f"ends at {track.times[-1]:g} s; labels are used from {LABEL_START:g} s on"
    used = track.times[np.searchsorted(track.times, LABEL_START, "right") - 1 if track.times[0] <= LABEL_START else 0 :]
    if used[0] > LABEL_START + STEP_SECONDS:
        return f"starts at {used[0]:g} s; labels are used from {LABEL_START:g} s on and must cover it"
    gap = np.diff(used).max()
    if gap > SLOWEST + 1e-6:
        return f"has a gap of {gap:g} s; at least one label per second ({1 / SLOWEST:g} Hz) is needed"
    return None


def resample(track: Track) -> tuple[np.ndarray, np.ndarray]:
    """A track at 15.0, 15.5, ... s by linear interpolation, up to its last label.

    Returns
    -------
    times : ndarray, shape (T,)
        Seconds.
    values : ndarray, shape (T, 2)
        A track that starts up to half a second late holds its first label.
    """
    steps = int((track.times[-1] - LABEL_START) / STEP_SECONDS + 1e-6) + 1
    times = LABEL_START + STEP_SECONDS * np.arange(steps)
    return times, np.stack([np.interp(times, track.times, track.values[:, d]) for d in range(2)], 1)


def _rank_parts(kind: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """20 % test, 10 % validation, the rest train, in the order of the names' hashes; no part of 3 names is empty."""
    names = list(names)
    order = sorted(names, key=lambda n: hashlib.sha256(f"{SALT}:{kind}:{n}".encode()).hexdigest())
    test = max(round(0.2 * len(order)), int(len(order) > 1))
    validation = max(round(0.1 * len(order)), int(len(order) > 2))
    chosen = {"test": set(order[:test]), "validation": set(order[test : test + validation])}
    chosen["train"] = set(order[test + validation :])
    return {part: tuple(n for n in names if n in chosen[part]) for part in PARTS}


def _split(root: Path, songs: Iterable[str], annotators: Iterable[str]) -> Split:
    path = root / "splits.json"
    by_song = read_split(path) if path.is_file() else _rank_parts("folder:song", songs)
    if path.is_file() and "annotators" in json.loads(path.read_text(encoding="utf-8")):
        return Split(by_song, read_split(path, "annotators"))
    return Split(by_song, _rank_parts("folder:annotator", annotators))


def _mean(song: str, tracks: Mapping[str, Annotation]) -> Annotation:
    """Mean over the annotators who are there at each step."""
    longest = max(tracks.values(), key=len)
    values = np.full((len(tracks), len(longest), 2), np.nan)
    for i, track in enumerate(tracks.values()):
        values[i, : len(track)] = track.values
    return Annotation(song, MEAN, longest.times, np.nanmean(values, 0))


def load(root: Path) -> Dataset:
    """Load a folder with ``annotations.csv`` (or ``.parquet``), audio files, and an optional ``splits.json``.

    Tracks of any rate from 1 Hz on become 2 Hz by linear interpolation, from 15 s on. The averaged label is the mean
    over all usable tracks of a song, flat ones included.

    Parameters
    ----------
    root : Path

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
    table = read_labels(root)
    require(table)
    raw, bad, _ = tracks_in(table, KEYS, "time_s", "arousal", "valence")
    exclusions = [Exclusion(f"song {song}, annotator {who}", wrong) for (song, who), wrong in bad.items()]
    by_song: dict[str, dict[str, Annotation]] = {}
    tracks: dict[str, dict[str, Annotation]] = {}
    for (song, who), track in raw.items():
        subject = f"song {song}, annotator {who}"
        wrong = (
            f"annotator_id '{MEAN}' is reserved for the averaged label; rename it" if who == MEAN else why_not(track)
        )
        if wrong:
            exclusions.append(Exclusion(subject, wrong))
            continue
        annotation = Annotation(song, who, *resample(track))
        by_song.setdefault(song, {})[who] = annotation
        if is_flat(annotation.values):
            exclusions.append(Exclusion(subject, f"flat track (mean deviation below {FLAT})"))
        else:
            tracks.setdefault(who, {})[song] = annotation
    if not by_song:
        raise DsamlError(f"{table.path}: no track can be used; run 'python -m dsaml check --dataset folder' to see why")
    mean = {song: _mean(song, by_song[song]) for song in sorted(by_song, key=number)}
    audio = audio_files(root)
    songs = {}
    for song in mean:
        files = audio.get(song, [])
        if len(files) != 1:
            reason = (
                "no audio; its labels are kept" if not files else f"{len(files)} audio files of this name; none is used"
            )
            exclusions.append(Exclusion(f"song {song}", reason))
        songs[song] = Song(song, files[0] if len(files) == 1 else None, len(mean[song]) == CLIP_STEPS)
    exclusions += [Exclusion(f"song {name}", "audio but no labels") for name in audio if name not in mean]
    split = _split(root, mean, tracks)
    parts = {part: tuple(i for i in ids if i in mean) for part, ids in split.songs.items()}
    kept, annotators, left_out = select_annotators(tracks, parts, split.annotators, MIN_SONGS)
    return Dataset("folder", True, root, songs, mean, kept, Split(parts, annotators), tuple(exclusions + left_out))


README = """# Your data set, for `--dataset folder`

Replace the two example songs and `annotations.csv` by your own.

- Audio: anywhere in this folder, as .mp3, .wav, .ogg or .flac. The file name without suffix is the `song_id`.
- `annotations.csv` (or `annotations.parquet`), comma-separated UTF-8, one row per label:
  `song_id, annotator_id, time_s, arousal, valence`.
  - `time_s`: seconds from the start of the song, rising within a track, at least one label per second.
    Labels are brought to 2 Hz by linear interpolation; what lies before 15 s is not used, as in the paper.
  - `arousal`, `valence`: both on [-1, 1] or both on [0, 1].
  - `annotator_id`: any text but `all`, which is the averaged label.
- `splits.json` (optional):
  `{"songs": {"train": [...], "validation": [...], "test": [...]}, "annotators": {the same three}}`.
  Without it, the hashes of the ids decide: 20 % test, 10 % validation.

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
