"""What the checks of all layouts share: collecting problems, scales, audio files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dsaml.audio.recording import HIGHEST_RATE, LOWEST_RATE, Stream
from dsaml.config import STEP_SECONDS
from dsaml.data.deam import AUDIO_SUFFIXES, number
from dsaml.data.label_tables import Problem
from dsaml.io import write_bytes_atomically

SHOWN = 5  # ids named in one line about many songs
OTHER_AUDIO = (".m4a", ".aac", ".wma", ".opus", ".aif", ".aiff", ".mp4", ".webm")
SCALES = ((-1, 1), (0, 1), (1, 5), (1, 7), (1, 9), (-5, 5), (0, 10), (-10, 10), (0, 100), (-100, 100), (0, 255))
BLOCK = 1 << 16  # frames read at once


class Findings:
    """Problems and counts of one data set, as they are found."""

    def __init__(self, root: Path, labels_only: bool = False):
        self.root = root
        self.labels_only = labels_only
        self.problems: list[Problem] = []
        self.counts: dict[str, object] = {}
        self.audio: dict[Path, float] = {}  # file -> seconds that its labels need

    def error(self, path: Path, message: str, line: int | None = None, kind: str = "layout") -> None:
        """Something that matters; ``kind`` is its short name."""
        self.problems.append(Problem(path, message, line, kind=kind))

    def notice(self, path: Path, message: str, line: int | None = None) -> None:
        """A known property of the data."""
        self.problems.append(Problem(path, message, line, "notice"))

    def songs(self, path: Path, ids: Iterable[str], message: str, kind: str = "missing") -> None:
        """One line about several songs, an error of some kind or a "notice"; none if there are none."""
        ids = sorted(ids, key=number)
        if ids:
            more = f", ... ({len(ids)} in all)" if len(ids) > SHOWN else ""
            text = f"{'song' if len(ids) == 1 else 'songs'} {', '.join(ids[:SHOWN])}{more}: {message}"
            if kind == "notice":
                self.notice(path, text)
            else:
                self.error(path, text, kind=kind)

    def scale(self, path: Path, lines: np.ndarray, values: np.ndarray, low: float, high: float) -> None:
        """An error if values leave the scale; names the scale that they seem to have.

        ``lines`` and ``values`` are equally long; NaN is ignored.
        """
        finite = np.isfinite(values)
        outside = np.flatnonzero(finite & ((values < low - 1e-9) | (values > high + 1e-9)))
        if len(outside):
            first, inside = outside[0], values[finite]
            seems = scale_name(inside.min(), inside.max())
            self.error(
                path,
                f"{values[first]:g} is off the scale [{low:g}, {high:g}] ({len(outside)} of {len(inside)} values are; "
                f"all run from {inside.min():g} to {inside.max():g}, which looks like {seems})",
                int(lines[first]),
                "scale",
            )

    def audio_names(self, folder: Path, files: Iterable[Path]) -> dict[str, Path]:
        """Audio files by song id; complains about files of one name and formats that are not read."""
        found: dict[str, list[Path]] = {}
        for file in sorted(files):
            if file.name.startswith(".") or not file.is_file():
                continue
            if file.suffix.lower() in AUDIO_SUFFIXES:
                found.setdefault(file.stem, []).append(file)
            elif file.suffix.lower() in OTHER_AUDIO:
                self.error(file, f"{file.suffix} is not read; convert it to one of {', '.join(AUDIO_SUFFIXES)}", kind="audio")
        for name, same in found.items():
            if len(same) > 1:
                others = ", ".join(str(f.relative_to(folder)) for f in same[1:])
                self.error(same[0], f"song {name} has {len(same)} audio files (also {others}); keep one", kind="audio")
        self.counts["audio files"] = sum(map(len, found.values()))
        return {name: same[0] for name, same in found.items()}

    def pair_audio(self, folder: Path, audio: Iterable[str], needed: Iterable[str], known: Iterable[str]) -> None:
        """Songs without audio, and audio of no known song; says nothing where only labels are asked for."""
        audio = set(audio)
        if not self.labels_only:
            self.songs(folder, set(needed) - audio, "labels but no audio (fine for floors: --labels-only)")
            self.songs(folder, audio - set(known) if known else (), "audio but no labels")

    def check_audio(self, progress: Callable[[int, int], None], memory: Path | None = None) -> None:
        """Decode every file to its end and compare its length with its labels.

        ``memory`` is a JSON file of what was found before, by content and needed length; it is read and written.
        """
        known, seconds = _recall(memory), 0.0

        def judge(item: tuple[Path, float]) -> tuple[str, float, str | None]:
            path, needed = item
            try:
                with path.open("rb") as stream:
                    key = f"{hashlib.file_digest(stream, 'sha256').hexdigest()} {needed}"
            except OSError:
                key = ""
            return (key, *(known[key] if key in known else audio_problem(path, needed)))

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            results = zip(self.audio, pool.map(judge, self.audio.items()), strict=True)
            for done, (path, (key, duration, wrong)) in enumerate(results, 1):
                seconds += duration
                known |= {key: (duration, wrong)} if key else {}
                if wrong:
                    self.error(path, wrong, kind="audio")
                progress(done, len(self.audio))
        self.counts["audio, hours that decode"] = round(seconds / 3600, 3)
        if memory:
            write_bytes_atomically(memory, json.dumps(known).encode())


def _recall(memory: Path | None) -> dict[str, tuple[float, str | None]]:
    """What a file of :meth:`Findings.check_audio` remembers; nothing where it is missing or damaged."""
    try:
        known = json.loads(memory.read_text(encoding="utf-8")) if memory and memory.is_file() else {}
        return {str(key): (float(seconds), wrong and str(wrong)) for key, (seconds, wrong) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def scale_name(low: float, high: float) -> str:
    """The usual rating scale that a range of values fits into best."""
    fitting = [(b - a, f"[{a}, {b}]") for a, b in SCALES if a - 1e-9 <= low and high <= b + 1e-9]
    return min(fitting)[1] if fitting else "no usual scale"


def audio_problem(path: Path, needed: float) -> tuple[float, str | None]:
    """Decode a file to its end.

    Parameters
    ----------
    path : Path
    needed : float
        Seconds that its labels cover, from the start of the song; one label (0.5 s) may be missing.

    Returns
    -------
    seconds : float
        What could be decoded.
    problem : str or None
    """
    try:
        size = path.stat().st_size
        if not size:
            return 0.0, "the audio file is empty (0 bytes); get it again"
        with open(path, "rb") as raw:
            head = raw.read(12)
        promised = int.from_bytes(head[4:8], "little") + 8
        if head[:4] == b"RIFF" and size < promised < 2**32 - 9:
            return 0.0, f"truncated: its header promises {promised} bytes, the file has {size}; get it again"
        with Stream(path) as sound:
            rate, expected, frames, silent, finite = sound.samplerate, sound.frames, 0, True, True
            if not LOWEST_RATE <= rate <= HIGHEST_RATE:
                limits = f"{LOWEST_RATE // 1000} to {HIGHEST_RATE // 1000} kHz"
                return 0.0, f"its sample rate is {rate} Hz; convert it to one of {limits}"
            while len(block := sound.read(BLOCK, dtype="float32")):
                frames += len(block)
                silent &= not block.any()
                finite &= bool(np.isfinite(block).all())
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        kind = f"; {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        return 0.0, f"cannot be decoded: no {path.suffix[1:]} audio, or damaged{kind}; get it again"
    seconds = frames / rate
    if frames < expected - rate * STEP_SECONDS:
        what = f"truncated: its header promises {expected / rate:.1f} s, only {seconds:.1f} s decode; get it again"
    elif not finite:
        what = "the audio contains values that are no finite numbers; get it again"
    elif seconds < needed - STEP_SECONDS:
        what = f"the audio is {seconds:.1f} s long but its labels need {needed:.1f} s; it is cut or another song's"
    elif silent:
        what = "the audio is silent from start to end"
    else:
        return seconds, None
    return seconds, what
