"""Validate a data set: all problems at once, never a crash on bad input, and what would stop training before its first step."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.recording import Stream
from dsaml.config import DEMO, DIMENSIONS, STEP_SECONDS, Profile
from dsaml.data.annotations import FLAT, Annotation
from dsaml.data.base import PARTS, Dataset, load_dataset, require_dataset, without_short
from dsaml.data.findings import KINDS, Exclusion, Findings, Problem
from dsaml.errors import DsamlError, printable
from dsaml.io import read_json, write_json

BLOCK = 1 << 16  # frames of audio read at once


@dataclass(frozen=True)
class CheckReport:
    """The result of :func:`check`."""

    dataset: str
    root: Path
    problems: list[Problem]  # errors first
    summary: dict[str, Any]  # what was found that can be used
    exclusions: tuple[Exclusion, ...]  # what the loader leaves out
    mode: str  # "dmer" or "pdmer"
    obstacles: list[str]  # why this training would stop: no errors, such a data set can still be scored

    @property
    def errors(self) -> int:
        """How many problems matter."""
        return sum(p.severity == "error" for p in self.problems)

    @property
    def ok(self) -> bool:
        """Whether nothing that matters is wrong."""
        return not self.errors

    def to_json(self) -> str:
        """Everything as JSON text."""
        problems = [
            {"severity": p.severity, "kind": p.kind, "file": printable(str(p.path)), "line": p.line}
            | {"problem": printable(p.message)}
            for p in self.problems
        ]
        document = {
            "dataset": self.dataset,
            "root": printable(str(self.root)),
            "ok": self.ok,
            "errors": self.errors,
            "notices": len(self.problems) - self.errors,
            "problems": problems,
            "summary": self.summary,
            "training": {"mode": self.mode, "obstacles": [printable(text) for text in self.obstacles]},
            "exclusions": [{"subject": printable(e.subject), "reason": printable(e.reason)} for e in self.exclusions],
        }
        return json.dumps(document, indent=1, ensure_ascii=False)

    def lines(self) -> Iterator[str]:
        """A table with one line per problem, then the summary."""
        wheres = [self._where(p) for p in self.problems]
        width = min(max(map(len, wheres), default=0), 60)
        for problem, where in zip(self.problems, wheres, strict=True):
            kind = f" [{problem.kind}]" if problem.severity == "error" else ""
            yield f"{problem.severity:6}  {where:{width}}  {printable(problem.message)}{kind}"
        for text in self.obstacles:
            yield f"stops training ({self.mode})  {printable(text)}"
        yield ""
        for name, value in self.summary.items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
            yield f"{name:38}  {printable(str(value))}"
        notices = len(self.problems) - self.errors
        yield ""
        stops = f"; training ({self.mode}) would stop: see above" if self.obstacles else ""
        yield f"{self.dataset}: {'OK' if self.ok else 'NOT OK'}: {self.errors} errors, {notices} notices{stops}"

    def _where(self, problem: Problem) -> str:
        """File, below the root if it is, and line."""
        path = problem.path
        name = str(path.relative_to(self.root)) if path != self.root and path.is_relative_to(self.root) else str(path)
        return printable(f"{name}:{problem.line}" if problem.line else name)


def check(
    name: str,
    root: str | Path,
    *,
    labels_only: bool = False,
    profile: Profile = DEMO,
    mode: str | None = None,
    memory: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckReport:
    """Check everything about a data set.

    Parameters
    ----------
    name : str
        One of :data:`dsaml.data.base.LOADERS`.
    labels_only : bool
        Say nothing about audio and training: enough for floors. Otherwise every file is decoded to its end.
    profile : Profile
        Whose training is judged.
    mode : {"dmer", "pdmer"}, optional
        The training that is judged; by default pdmer where annotators' own labels can be used.
    memory : path, optional
        A JSON file that keeps what was found in audio files, by their content: nothing is decoded twice.
    progress : callable
        Called with (audio files checked, audio files in all).

    Raises
    ------
    DsamlError
        If the name is unknown or the folder does not exist; never for what is in the folder.
    """
    root = Path(root)
    require_dataset(name, root)
    found, dataset = Findings(root, labels_only), None
    try:
        try:
            dataset = load_dataset(name, root, found)
        except DsamlError as error:
            if not any(p.severity == "error" for p in found.problems):
                found.error(root, f"cannot be loaded: {error}")
        if not labels_only:
            _check_audio(found, progress, memory)
    except Exception as error:  # whatever a damaged file provokes must end in a report
        found.error(root, f"the check stopped here ({type(error).__name__}: {error}); what follows was not checked")
    problems = sorted(found.problems, key=lambda p: p.severity != "error")
    mode = mode or ("pdmer" if dataset and dataset.tracks else "dmer")
    reasons = obstacles(dataset, profile, mode) if dataset and not labels_only else []
    summary = summarize(dataset) if dataset else {"usable songs": 0}
    return CheckReport(name, root, problems, found.counts | summary, dataset.exclusions if dataset else (), mode, reasons)


# Audio ----------------------------------------------------------------------------------------------------------------


def _check_audio(found: Findings, progress: Callable[[int, int], None], memory: Path | None) -> None:
    """Decode every file of ``found.audio`` to its end and compare its length with its labels."""
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
        results = zip(found.audio, pool.map(judge, found.audio.items()), strict=True)
        for done, (path, (key, duration, wrong)) in enumerate(results, 1):
            seconds += duration
            known |= {key: (duration, wrong)} if key else {}
            if wrong:
                found.error(path, wrong, kind="audio")
            progress(done, len(found.audio))
    found.counts["audio, hours that decode"] = round(seconds / 3600, 3)
    if memory:
        write_json(memory, known)


def _recall(memory: Path | None) -> dict[str, tuple[float, str | None]]:
    """By SHA-256 and needed seconds what :func:`audio_problem` said; nothing where the file is missing or damaged."""
    try:
        known = read_json(memory, "memory", "check again") if memory else {}
        return {key: (float(seconds), wrong and str(wrong)) for key, (seconds, wrong) in known.items()}
    except (DsamlError, ValueError, TypeError):
        return {}


def audio_problem(path: Path, needed: float) -> tuple[float, str | None]:
    """Seconds of a file that can be decoded, and what is wrong with it.

    ``needed`` are the seconds that its labels cover, from the start of the song; one label (0.5 s) may be missing.
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
            while len(block := sound.read(BLOCK, dtype="float32")):
                frames += len(block)
                silent &= not block.any()
                finite &= bool(np.isfinite(block).all())
    except DsamlError as error:
        return 0.0, str(error).removeprefix(f"{path}: ")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        kind = f"; {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        return 0.0, f"cannot be decoded: no {path.suffix[1:]} audio, or damaged{kind}; get it again"
    seconds = frames / rate
    if frames < expected - rate * STEP_SECONDS:
        return seconds, f"truncated: its header promises {expected / rate:.1f} s, only {seconds:.1f} s decode; get it again"
    if not finite:
        return seconds, "the audio contains values that are no finite numbers; get it again"
    if seconds < needed - STEP_SECONDS:
        return seconds, f"the audio is {seconds:.1f} s long but its labels need {needed:.1f} s; it is cut or another song's"
    return seconds, "the audio is silent from start to end" if silent else None


# The numbers a researcher wants before believing a data set -------------------------------------------------------------


def summarize(dataset: Dataset) -> dict[str, Any]:
    """Songs, annotators, songs per annotator, label spread, agreement: of what the loader keeps."""
    out: dict[str, Any] = {"real data": dataset.real, "usable songs": len(dataset.mean)}
    out["songs by part"] = {part: len(ids) for part, ids in dataset.split.songs.items()}
    out["songs with audio"] = sum(song.audio is not None for song in dataset.songs.values())
    out["annotators by part"] = {part: len(ids) for part, ids in dataset.split.annotators.items()}
    if sizes := [len(tracks) for tracks in dataset.tracks.values()]:
        out["songs per annotator"] = {"fewest": min(sizes), "median": float(np.median(sizes)), "most": max(sizes)}
    if dataset.mean:
        labels = [a.values for a in dataset.mean.values()]
        pooled = np.concatenate(labels)
        out["labels per song"] = {"fewest": min(map(len, labels)), "most": max(map(len, labels))}
        out["label mean"] = _pair(pooled.mean(0))
        out["label SD, pooled"] = _pair(pooled.std(0))
        for part, ids in dataset.split.songs.items():
            if inside := [dataset.mean[i].values.std(0) for i in ids]:
                out[f"label SD within a song, {part}"] = _pair(np.mean(inside, 0))
    out |= _agreement(dataset)
    reasons = Counter(_without_numbers(e.reason) for e in dataset.exclusions)
    return out | {"left out, by reason": dict(reasons.most_common())}


def _pair(values: np.ndarray) -> dict[str, float]:
    return {d: round(float(v), 3) for d, v in zip(DIMENSIONS, values, strict=True)}


def _agreement(dataset: Dataset) -> dict[str, dict[str, float]]:
    """SD over annotators per step, and mean correlation of a track with the mean of the song's other tracks."""
    by_song: dict[str, list[np.ndarray]] = {}
    for tracks in dataset.tracks.values():
        for song, track in tracks.items():
            by_song.setdefault(song, []).append(track.values)
    spread, correlation = [], []
    for values in by_song.values():
        if len(values) < 2:
            continue
        stack = np.stack([v[: min(map(len, values))] for v in values])  # (annotators, T, 2)
        spread.append(stack.std(0).mean(0))
        others = (stack.sum(0) - stack) / (len(stack) - 1)
        x, y = (each - each.mean(1, keepdims=True) for each in (stack, others))
        sizes = np.sqrt((x**2).sum(1) * (y**2).sum(1))  # 0 where one of them does not move
        correlation.append(np.divide((x * y).sum(1), sizes, out=np.zeros_like(sizes), where=sizes > 1e-12).mean(0))
    if not spread:
        return {}
    found = {"disagreement (SD over annotators)": spread, "agreement (r with the others' mean)": correlation}
    return {name: _pair(np.mean(values, 0)) for name, values in found.items()}


def _without_numbers(reason: str) -> str:
    """The kind of an exclusion, so that equal kinds are counted together."""
    return " ".join("#" if any(c.isdigit() for c in word) else word for word in reason.split()).replace(",", ";")


# Training -------------------------------------------------------------------------------------------------------------


def obstacles(dataset: Dataset, profile: Profile, mode: str) -> list[str]:
    """Why a data set cannot be trained on, with counts; empty if it can. Very short songs are left out, as in training.

    The profile's tasks ask for a number of support songs; query songs are as many as there can be, one at least. ``mode`` is "dmer"
    (averaged labels) or "pdmer" (annotator tasks).
    """
    dataset, _, _ = without_short(dataset)
    parts = {
        part: [s for s in ids if s in dataset.mean and dataset.songs[s].audio is not None]
        for part, ids in dataset.split.songs.items()
    }
    reasons = [f"no song with audio and labels in the part {part}" for part in PARTS if not parts[part]]
    reasons += _constant("the averaged labels", [dataset.mean[s] for s in parts["train"]])
    if mode == "dmer":
        return reasons
    if not dataset.tracks:
        return [*reasons, "no annotator's own labels can be used; --mode dmer trains on averaged labels"]
    people = dataset.split.annotators
    own = {w: {s: t for s, t in dataset.tracks.get(w, {}).items() if s in parts["train"]} for w in people["train"]}
    every = f"{sum(map(len, people.values()))} annotators in all"
    if not own:
        reasons.append(f"no annotator in the part train ({every}; three are needed, one for each part)")
    support = profile.meta.support_songs
    if few := {who: len(tracks) for who, tracks in own.items() if len(tracks) <= support}:
        who, count = min(few.items(), key=lambda item: item[1])
        reasons.append(
            f"{len(few)} of {len(own)} training annotators have fewer than the {support + 1} songs of a task "
            f"({support} support + 1 query; profile {profile.name}): {who} has {count}"
        )
    reasons += _constant("the training annotators' labels", [t for tracks in own.values() for t in tracks.values()])
    held_out = set(parts["validation"])
    if not any(len(held_out & dataset.tracks.get(who, {}).keys()) > 1 for who in people["validation"]):
        reasons.append(
            f"no annotator in the part validation rated two of its {len(held_out)} songs "
            f"({len(people['validation'])} annotators there, {every})"
        )
    return reasons


def _constant(what: str, labels: Sequence[Annotation]) -> list[str]:
    spread = np.concatenate([track.values for track in labels]).std(0) if labels else (FLAT, FLAT)
    return [
        f"{what} are constant: the {dimension} of {len(labels)} songs varies by {sd:.3g}"
        for dimension, sd in zip(DIMENSIONS, spread, strict=True)
        if not sd >= FLAT
    ]


def stop_on_errors(root: Path, problems: Iterable[Problem], reasons: Sequence[str], accept: Iterable[str]) -> None:
    """Let training begin only where ``check`` finds no ``problems``, or only kinds of them (``KINDS``) that the user accepts.

    ``reasons`` are what :func:`obstacles` found; nobody can accept those.

    Raises
    ------
    DsamlError
        With the counts by kind and the first error.
    """
    accepted = set(accept)
    if unknown := sorted(accepted - set(KINDS)):
        raise DsamlError(f"--accept {unknown[0]}: no such kind of problem; there are: {', '.join(KINDS)}")
    if errors := [p for p in problems if p.severity == "error" and p.kind not in accepted]:
        counts = Counter(p.kind for p in errors)
        names = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        flags = " ".join(f"--accept {kind}" for kind in counts)
        raise DsamlError(
            f"{root}: 'check' finds errors ({names}), first {errors[0]}; correct them, or train all the same with {flags}"
        )
    if reasons:
        more = f"; and {len(reasons) - 1} more that 'check' lists" if len(reasons) > 1 else ""
        raise DsamlError(f"{root}: training would stop: {reasons[0]}{more}; change the data, the split or the profile")
