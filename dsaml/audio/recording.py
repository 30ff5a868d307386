"""Audio files: decoded whole where they are short, and where they are asked for where they are long; and written."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import torch
from torch import Tensor

from dsaml.audio.waveform import Waveform, resample
from dsaml.config import AudioConfig
from dsaml.errors import DsamlError, require_file

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz
SECONDS_IN_MEMORY = 900  # a longer recording is decoded again where it is needed
IN_MEMORY = SECONDS_IN_MEMORY * 44_100  # samples, 160 MB; and so is one that has more
LOOK_BACK = 120  # s of a long recording that stay in memory before the part that was asked for last
BLOCK = 1 << 18  # values decoded at once
NEEDS_FFMPEG = {".m4a", ".m4b", ".mp4", ".aac", ".wma"}  # AAC and the like, which libsndfile does not decode


class Stream(sf.SoundFile):
    """An audio file that is read from its start to its end.

    soundfile seeks after every read where it can; an MP3 decoder loses what it keeps from frame to frame then, and complains.
    """

    def __init__(self, path: Path):
        super().__init__(os.fsencode(path))  # a name need not be UTF-8
        if not LOWEST_RATE <= self.samplerate <= HIGHEST_RATE:
            limits = f"{LOWEST_RATE // 1000} to {HIGHEST_RATE // 1000} kHz"
            raise DsamlError(f"{path}: its sample rate is {self.samplerate} Hz; convert it to one of {limits}")

    def seekable(self) -> bool:
        """Never."""
        return False

    def mono_blocks(self) -> Iterator[np.ndarray]:
        """The rest of the file, channels averaged: blocks of shape (samples,), float32."""
        frames = max(1, BLOCK // self.channels)
        while len(block := self.read(frames, dtype="float32", always_2d=True)):
            yield block.mean(1)


class Recording:
    """An audio file (MP3, WAV, FLAC, OGG), its channels averaged; decoded once to its end, so that it is known to be whole.

    Slices are Tensors of samples at ``rate`` Hz, MP3 peaks beyond 1 included. ``whole`` has all of them, (samples,); it is None
    where they are too many to be kept.

    Raises
    ------
    DsamlError
        If the file is missing or no plain file, cannot be decoded, has a rate outside 4-384 kHz, holds no samples or some
        that are no numbers, or breaks off (an MP3 whose own header announces over a second more than it holds; other
        formats that break off are noticed when their labels need more audio).
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        require_file(self.path, "audio file", "correct the path or add the file")
        self._stream: Stream | None = None
        self._held: list[tuple[int, Tensor]] = []  # first sample and samples of each block
        blocks, self._length, finite = [], 0, True
        try:
            with Stream(self.path) as stream:
                self.rate, announced = stream.samplerate, stream.frames
                most = min(IN_MEMORY, SECONDS_IN_MEMORY * self.rate)
                for block in stream.mono_blocks():
                    self._length += len(block)
                    finite = finite and bool(np.isfinite(block).all())
                    if self._length <= most:
                        blocks.append(block)
                    else:
                        blocks.clear()
        except (sf.LibsndfileError, RuntimeError) as error:
            said = str(error).replace("\n", " ")
            if self.path.suffix.lower() in NEEDS_FFMPEG:
                advice = f"this kind needs ffmpeg: ffmpeg -i {shlex.quote(self.path.name)} {shlex.quote(self.path.stem)}.wav"
            else:
                advice = "replace the file or convert it to WAV"
            raise DsamlError(f"{self.path}: cannot be decoded ({said}); {advice}") from error
        if not self._length:
            raise DsamlError(f"{self.path}: holds no audio samples; replace the file")
        if announced - self._length > self.rate and self._counts_its_frames():
            lasts, wanted = self._length / self.rate, announced / self.rate
            raise DsamlError(f"{self.path}: breaks off after {lasts:.1f} s, its header says {wanted:.1f} s; replace the file")
        if not finite:
            raise DsamlError(f"{self.path}: holds samples that are not numbers; replace the file")
        self.whole = torch.from_numpy(np.concatenate(blocks)) if blocks else None

    def _counts_its_frames(self) -> bool:
        """True for an MP3 with a Xing or Info header; without one the announced length is only an estimate."""
        with self.path.open("rb") as stream:
            start = stream.read(1 << 16)
        return b"Xing" in start or b"Info" in start

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Tensor:
        if self.whole is not None:
            return self.whole[part]
        first, last, _ = part.indices(self._length)
        if self._stream is None or (self._held and first < self._held[0][0]):
            self._stream, self._held = Stream(self.path), []
            self._next = self._stream.mono_blocks()
        end = self._held[-1][0] + len(self._held[-1][1]) if self._held else 0
        while end < last:
            block = next(self._next, None)
            if block is None:
                raise DsamlError(f"{self.path}: changed while it was being read; start again")
            self._held.append((end, torch.from_numpy(block)))
            end += len(block)
            oldest = first - LOOK_BACK * self.rate
            while len(self._held) > 1 and self._held[0][0] + len(self._held[0][1]) <= oldest:
                self._held.pop(0)
        parts = [block[max(0, first - at) : max(0, last - at)] for at, block in self._held]
        return torch.cat(parts) if parts else torch.empty(0)


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """A whole file at its own rate: waveform (samples,), float32, and rate in Hz; errors as in :class:`Recording`."""
    recording = Recording(path)
    return recording[:].numpy(), recording.rate


def load_waveform(path: str | Path, sample_rate: int = AudioConfig.sample_rate) -> Waveform:
    """A file at the wanted rate in Hz; errors as in :class:`Recording`.

    A Tensor (samples,), or for more than 15 minutes something whose slices are decoded as they are asked for.
    """
    recording = Recording(path)
    return resample(recording if recording.whole is None else recording.whole, recording.rate, sample_rate)


def excerpt(path: str | Path, start: float, seconds: float) -> tuple[np.ndarray, int]:
    """A part of a file, its last half second faded out, its peak at 0.8: waveform (samples,) and rate in Hz.

    Errors as in :class:`Recording`.
    """
    recording = Recording(path)
    rate = recording.rate
    part = recording[round(start * rate) : round((start + seconds) * rate)].numpy()
    ramp = np.ones_like(part)
    ramp[-round(0.5 * rate) :] = np.linspace(1, 0, round(0.5 * rate))
    return part * ramp / max(1e-9, float(np.abs(part).max())) * 0.8, rate


def encode(target: str | Path | BinaryIO, waveform: np.ndarray, sample_rate: int) -> None:
    """Write a mono waveform, (samples,), as MP3, which every browser plays; values beyond 1 are clipped."""
    with sf.SoundFile(target, "w", sample_rate, 1, format="MP3") as stream:
        for start in range(0, len(waveform), 65_536):  # one long write can crash the encoder
            stream.write(waveform[start : start + 65_536])
