"""What is found while a data set is read: problems with file and line, what is left out, counts, audio.

Each layout has one reader. A loader keeps what can be used and the exclusions, ``check`` shows everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsaml.audio.song import AUDIO_SUFFIXES, Song
from dsaml.config import CLIP_STEPS, STEP_SECONDS
from dsaml.data.annotations import FLAT, Annotation
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

SHOWN = 5  # ids named in one line about many songs
OTHER_AUDIO = (".m4a", ".aac", ".wma", ".opus", ".aif", ".aiff", ".mp4", ".webm")
SCALES = ((-1, 1), (0, 1), (1, 5), (1, 7), (1, 9), (-5, 5), (0, 10), (-10, 10), (0, 100), (-100, 100), (0, 255))


def by_number(name: str) -> tuple[int, str]:
    """Sorting key that puts "9" before "10"."""
    return (int(name), "") if name.isdecimal() else (10**9, name)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where. An error loses data that should be there; a notice is a known property of the data."""

    path: Path
    message: str
    line: int | None = None
    severity: str = "error"  # or "notice"
    kind: str = "table"  # one of KINDS

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line}" if self.line else str(self.path)
        return f"{where}: {self.message}"


@dataclass(frozen=True)
class Exclusion:
    """Something that was left out, and why; ``subject`` names the song, track or annotator."""

    subject: str
    reason: str


class Findings:
    """Problems, exclusions and counts of the data set under ``root``, as they are found.

    With ``labels_only`` nothing is said about audio that is missing.
    """

    def __init__(self, root: Path, labels_only: bool = False):
        self.root, self.labels_only = Path(root), labels_only
        self.problems: list[Problem] = []
        self.exclusions: list[Exclusion] = []
        self.counts: dict[str, object] = {}
        self.audio: dict[Path, float] = {}  # file -> seconds that its labels need
        self.flat: dict[str, dict[str, Annotation]] = {}  # annotator -> song -> track that never moves
        self.fatal: dict[Path, Problem] = {}  # tables of which nothing can be used

    def error(self, path: Path, message: str, line: int | None = None, kind: str = "layout") -> Problem:
        """Something that matters; ``kind`` is one of ``KINDS``."""
        self.problems.append(Problem(path, message, line, kind=kind))
        return self.problems[-1]

    def notice(self, path: Path, message: str, line: int | None = None) -> None:
        """A known property of the data."""
        self.problems.append(Problem(path, message, line, "notice"))

    def exclude(self, subject: str, reason: str) -> None:
        """Something is left out."""
        self.exclusions.append(Exclusion(subject, reason))

    def keep_track(self, tracks: dict[str, dict[str, Annotation]], track: Annotation) -> None:
        """Put an annotator's track into ``tracks[annotator][song]``, or into :attr:`flat` if it never moves."""
        if track.is_flat:
            subject = f"song {track.song_id}, annotator {track.annotator_id}"
            self.exclude(subject, f"flat track (mean deviation below {FLAT}); kept for levels, has no CCC")
        (self.flat if track.is_flat else tracks).setdefault(track.annotator_id, {})[track.song_id] = track

    def songs(self, path: Path, ids: Iterable[str], message: str, kind: str = "missing") -> None:
        """One line about several songs, an error of some kind or a "notice"; none if there are none."""
        ids = sorted(ids, key=by_number)
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
            self.error(
                path,
                f"{values[first]:g} is off the scale [{low:g}, {high:g}] ({len(outside)} of {len(inside)} values are; "
                f"all run from {inside.min():g} to {inside.max():g}, which looks like {_scale_of(inside)})",
                int(lines[first]),
                "scale",
            )

    def unreadable(self, path: Path, message: str, line: int | None = None) -> None:
        """Nothing of a table can be used; :meth:`require` says so again."""
        self.fatal[path] = self.error(path, message, line, "table")

    def require(self, *paths: Path) -> None:
        """Raise what makes a table as a whole unreadable, with file, line and reason."""
        for path in paths:
            if path in self.fatal:
                raise DsamlError(str(self.fatal[path]))

    def pair_audio(self, folder: Path, mean: Mapping[str, Annotation], known: Collection[str]) -> dict[str, Song]:
        """The songs of ``mean`` with the audio file of their name, anywhere in the folder.

        Notes what lacks, is there twice, or has a format that is not read. Ids in ``known`` may have audio without being songs.
        """
        found: dict[str, list[Path]] = {}
        for file in sorted(folder.rglob("*")):
            suffix = file.suffix.lower()
            if file.name.startswith(".") or not file.is_file():
                continue
            if suffix in AUDIO_SUFFIXES:
                found.setdefault(file.stem, []).append(file)
            elif suffix in OTHER_AUDIO:
                self.error(file, f"{file.suffix} is not read; convert it to one of {', '.join(AUDIO_SUFFIXES)}", kind="audio")
        for name, same in found.items():
            needed = float(mean[name].times[-1]) + STEP_SECONDS if name in mean else 0.0
            self.audio[same[0]] = needed
            if len(same) > 1:
                others = ", ".join(str(f.relative_to(folder)) for f in same[1:])
                self.error(same[0], f"song {name} has {len(same)} audio files (also {others}); keep one", kind="audio")
        self.counts["audio files"] = sum(map(len, found.values()))
        strangers = found.keys() - mean.keys() - set(known)
        if not self.labels_only:
            self.songs(folder, mean.keys() - found.keys(), "labels but no audio (fine for floors: --labels-only)")
            self.songs(folder, strangers if known else (), "audio but no labels")
        songs = {}
        for name, label in mean.items():
            same = found.get(name, [])
            if len(same) != 1:
                many = f"{len(same)} audio files of this name; none is used"
                self.exclude(f"song {name}", many if same else "no audio; its labels are kept")
            songs[name] = Song(name, same[0] if len(same) == 1 else None, len(label) <= CLIP_STEPS)
        for name in sorted(strangers, key=by_number):
            self.exclude(f"song {name}", "audio but no labels")
        return songs


def _scale_of(values: np.ndarray) -> str:
    """The usual rating scale that values fit into best."""
    low, high = values.min(), values.max()
    fitting = [(b - a, f"[{a}, {b}]") for a, b in SCALES if a - 1e-9 <= low and high <= b + 1e-9]
    return min(fitting)[1] if fitting else "no usual scale"
