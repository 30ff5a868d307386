"""Every sound of the book, measured as it is played: logged, kept in ``player/sounds.json``, listed on the player's page."""

from __future__ import annotations

import base64
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import soundfile as sf

from book.builder import markdown
from dsaml.audio.playback import CEILING, TARGET, loudness, true_peak
from dsaml.io import write_json

log = logging.getLogger(__name__)

INSIDE = re.compile(r'<audio controls aria-label="([^"]*)" src="data:audio/mpeg;base64,([^"]*)"')  # dsaml.plots.style.play
HEADER = ("sound", "seconds", "loudness (LUFS)", "true peak (dBFS)")
NEAR = 2.0  # dB above the target that a sound may lie; below, it may lie farther: its peaks forbid more gain


def _found(staged: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every sound that the staged book holds."""
    for file in sorted((staged / "_extra").rglob("*.mp3")):
        yield file.relative_to(staged / "_extra").as_posix(), file.read_bytes()
    for file in sorted((staged / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(file, as_version=4).cells:
            for output in cell.get("outputs", []):
                for label, content in INSIDE.findall("".join(output.get("data", {}).get("text/html", ""))):
                    yield f"{file.stem}: {unescape(label)}", base64.b64decode(content)


def measure(staged: Path) -> list[dict[str, Any]]:
    """Name, seconds, loudness (``lufs``) and true peak (``dbfs``) of every sound below a staged book, decoded; each is logged.

    A sound that is louder than the target, or whose peak is not below the ceiling, is warned of: ``for_playback`` did not make it.
    """
    sounds = []
    for name, content in _found(staged):
        waveform, rate = sf.read(io.BytesIO(content))
        lufs, peak = loudness(waveform, rate), true_peak(waveform, rate)
        sounds.append({"name": name, "seconds": round(len(waveform) / rate, 1), "lufs": round(lufs, 1), "dbfs": round(peak, 1)})
        wrong = lufs > TARGET + NEAR or peak >= CEILING
        log.log(logging.WARNING if wrong else logging.INFO, "sound %s: %.1f LUFS, peak %.1f dBFS", name, lufs, peak)
    return sounds


def write(staged: Path) -> list[dict[str, Any]]:
    """:func:`measure`, and keep it as ``player/sounds.json`` of the book."""
    sounds = measure(staged)
    if sounds:
        write_json(staged / "_extra/player/sounds.json", {"target_lufs": TARGET, "ceiling_dbfs": CEILING, "sounds": sounds})
    return sounds


def text(sounds: Sequence[Mapping[str, Any]]) -> str:
    """The table of all sounds."""
    if not sounds:
        return "This build holds no sounds."
    rows = [[sound["name"], *(markdown.number(sound[key], 1) for key in ("seconds", "lufs", "dbfs"))] for sound in sounds]
    return markdown.folded("Loudness of every sound in this build", markdown.table(HEADER, rows))
