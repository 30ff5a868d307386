"""Audio of a data set: every file is decoded to its end, and what was found is remembered by its content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dsaml.audio.recording import Stream
from dsaml.config import STEP_SECONDS
from dsaml.data.findings import Findings
from dsaml.errors import DsamlError
from dsaml.io import read_json, write_json

BLOCK = 1 << 16  # frames read at once


def check_audio(found: Findings, progress: Callable[[int, int], None], memory: Path | None = None) -> None:
    """Decode every file of ``found.audio`` to its end and compare its length with its labels.

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
    """What :func:`check_audio` remembers; nothing where the file is missing or damaged."""
    try:
        known = read_json(memory, "memory", "check again") if memory else {}
        return {key: (float(seconds), wrong and str(wrong)) for key, (seconds, wrong) in known.items()}
    except (DsamlError, ValueError, TypeError):
        return {}


def audio_problem(path: Path, needed: float) -> tuple[float, str | None]:
    """Decode a file to its end.

    Parameters
    ----------
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
        what = f"truncated: its header promises {expected / rate:.1f} s, only {seconds:.1f} s decode; get it again"
    elif not finite:
        what = "the audio contains values that are no finite numbers; get it again"
    elif seconds < needed - STEP_SECONDS:
        what = f"the audio is {seconds:.1f} s long but its labels need {needed:.1f} s; it is cut or another song's"
    elif silent:
        what = "the audio is silent from start to end"
    else:
        what = None
    return seconds, what
