"""When a moment of a score sounds: the tempo of a Standard MIDI File, and nothing else of it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from dsaml.errors import DsamlError

START_TEMPO = 500_000  # microseconds per quarter note until a file names another one: 120 a minute


def seconds_at(path: Path, quarters: np.ndarray) -> np.ndarray:
    """Seconds from the start of a piece, through all its changes of tempo.

    Parameters
    ----------
    path : Path
        A Standard MIDI File whose time is counted in parts of a quarter note.
    quarters : ndarray, shape (T,)
        Quarter notes from the start.

    Returns
    -------
    ndarray, shape (T,)

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or counts time otherwise.

    Notes
    -----
    Source: the MIDI Association, Standard MIDI Files 1.0.
    """
    try:
        content = path.read_bytes()
        magic, length, _, tracks, division = struct.unpack(">4sIHHH", content[:14])
        if magic != b"MThd" or not 0 < division < 0x8000:
            raise ValueError("no header that counts in quarter notes")
        changes, start = {0: START_TEMPO}, 8 + length
        for _ in range(tracks):
            start = _read_track(content, start, changes)
    except OSError as error:
        raise DsamlError(f"{path}: cannot be read ({error.strerror}); get the data set again") from error
    except (ValueError, IndexError, struct.error) as error:
        raise DsamlError(f"{path}: is no intact MIDI file ({error}); get the data set again") from error
    ticks = np.array(sorted(changes))
    rate = np.array([changes[tick] for tick in ticks.tolist()]) / 1e6 / division  # s per tick
    passed = np.concatenate([[0.0], np.cumsum(np.diff(ticks) * rate[:-1])])  # s until each change
    asked = np.asarray(quarters, float) * division
    last = np.searchsorted(ticks, asked, "right") - 1
    return passed[last] + (asked - ticks[last]) * rate[last]


def _read_track(content: bytes, start: int, changes: dict[int, int]) -> int:
    """Put a track's changes of tempo into ``changes`` (tick -> microseconds per quarter); where the next track starts."""
    (length,) = struct.unpack(">I", content[start + 4 : start + 8])
    at, end, tick, status = start + 8, start + 8 + length, 0, 0
    while at < end:
        wait, at = _variable(content, at)
        tick += wait
        if content[at] >= 0x80:  # otherwise the last status goes on
            status, at = content[at], at + 1
        if status == 0xFF:
            kind = content[at]
            size, at = _variable(content, at + 1)
            if kind == 0x51:  # set tempo
                changes[tick] = int.from_bytes(content[at : at + size], "big")
            at += size
        elif status in (0xF0, 0xF7):  # system exclusive
            size, at = _variable(content, at)
            at += size
        else:
            at += 1 if 0xC0 <= status < 0xE0 else 2
    return end


def _variable(content: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, seven bits a byte, and where it ends."""
    value = 0
    while True:
        value, more = value << 7 | content[at] & 0x7F, content[at] & 0x80
        at += 1
        if not more:
            return value, at
