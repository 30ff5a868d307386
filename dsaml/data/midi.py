"""A Standard MIDI File: when a moment of its score sounds, and which notes it holds.

Source: the MIDI Association, Standard MIDI Files 1.0. Tempo, notes and their velocity are read; instruments, pedals,
pitch bends and everything else are not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsaml.errors import DsamlError

START_TEMPO = 500_000  # microseconds per quarter note until a file names another one: 120 a minute
DRUMS = 9  # the channel whose keys are drums and no pitches, counted from 0
TEMPO = 0x51  # of the meta events


@dataclass(frozen=True, eq=False)
class Score:
    """Tempo and notes of a file."""

    division: int  #: ticks per quarter note
    changes: np.ndarray  #: (C, 2): tick, and microseconds per quarter note from there on; the first is at tick 0
    notes: np.ndarray  #: (N, 4): first tick, last tick, key (69 is the A of 440 Hz), velocity 1 to 127, in the order of their ends
    end: int  #: the last tick of the longest track

    def seconds(self, ticks: np.ndarray) -> np.ndarray:
        """Seconds from the start of a piece, of ticks (T,), through all its changes of tempo."""
        starts = self.changes[:, 0]
        rate = self.changes[:, 1] / 1e6 / self.division  # s per tick
        passed = np.concatenate([[0.0], np.cumsum(np.diff(starts) * rate[:-1])])  # s until each change
        last = np.searchsorted(starts, ticks, "right") - 1
        return passed[last] + (ticks - starts[last]) * rate[last]


def read_score(path: Path) -> Score:
    """Read a file whose time is counted in parts of a quarter note.

    A note ends where its key is let go or struck again on the same channel, or with its track. The drum channel is left out.

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or counts time otherwise.
    """
    try:
        content = path.read_bytes()
        magic, length, _, tracks, division = struct.unpack(">4sIHHH", content[:14])
        if magic != b"MThd" or not 0 < division < 0x8000:
            raise ValueError("no header that counts in quarter notes")
        changes, notes, end, start = {0: START_TEMPO}, [], 0, 8 + length
        for _ in range(tracks):
            (size,) = struct.unpack(">I", content[start + 4 : start + 8])
            if (following := start + 8 + size) > len(content):
                raise ValueError("it ends inside a track")
            end = max(end, _read_track(content, start + 8, following, changes, notes))
            start = following
    except OSError as error:
        raise DsamlError(f"{path}: cannot be read ({error.strerror}); get the data set again") from error
    except (ValueError, IndexError, struct.error) as error:
        raise DsamlError(f"{path}: is no intact MIDI file ({error}); get the data set again") from error
    return Score(division, np.array(sorted(changes.items())), np.array(notes, int).reshape(-1, 4), end)


def _read_track(content: bytes, at: int, end: int, changes: dict[int, int], notes: list[tuple[int, ...]]) -> int:
    """Put a track's tempos into ``changes`` (tick -> microseconds per quarter) and its notes into ``notes``; its last tick."""
    tick, sounding = 0, {}  # (channel, key) -> first tick, velocity

    def stop(where: tuple[int, int]) -> None:
        if where in sounding:
            first, velocity = sounding.pop(where)
            notes.append((first, tick, where[1], velocity))

    for tick, status, data in _events(content, at, end):
        channel, kind = status & 0x0F, status & 0xF0
        if status == 0xFF:
            if data[0] == TEMPO:
                changes[tick] = int.from_bytes(data[1:], "big")
        elif kind in (0x80, 0x90) and channel != DRUMS:
            stop((channel, data[0]))
            if kind == 0x90 and data[1]:  # a note of velocity 0 is one that is let go
                sounding[channel, data[0]] = (tick, data[1])
    for where in list(sounding):
        stop(where)
    return tick


def _events(content: bytes, at: int, end: int) -> Iterator[tuple[int, int, bytes]]:
    """Tick, status and data of every event of a track; of a meta event the data begin with its kind."""
    tick, status = 0, 0
    while at < end:
        wait, at = _variable(content, at)
        tick += wait
        if content[at] >= 0x80:  # otherwise the last status goes on
            status, at = content[at], at + 1
        first = at
        if status in (0xFF, 0xF0, 0xF7):  # meta, or system exclusive
            first += status == 0xFF
            size, body = _variable(content, first)
            data, at = content[at:first] + content[body : body + size], body + size
        else:
            at += 1 if 0xC0 <= status < 0xE0 else 2
            data = content[first:at]
        yield tick, status, data


def _variable(content: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, seven bits a byte, and where it ends."""
    value = 0
    while True:
        value, more = value << 7 | content[at] & 0x7F, content[at] & 0x80
        at += 1
        if not more:
            return value, at
