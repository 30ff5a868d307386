"""Waveforms of any length: short ones as tensors, long ones decoded and resampled where they are asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf
import torch
import torchaudio
from torch import Tensor

from dsaml.errors import DsamlError, require_file

LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz
SECONDS_IN_MEMORY = 900  # a longer recording is decoded again where it is needed
IN_MEMORY = SECONDS_IN_MEMORY * 44_100  # samples, 160 MB; and so is one that has more
LOOK_BACK = 120  # s of a long recording that stay in memory before the part that was asked for last
BLOCK = 1 << 18  # values decoded at once
KERNEL = 1 << 20  # numbers in torchaudio's table of filters at most; 44,101 Hz would want 2 billion
FILTER_WIDTH, ROLLOFF = 6, 0.99  # of torchaudio's filter: zero crossings on each side, share of the band that passes


class Waveform(Protocol):
    """Mono samples: a Tensor of shape (samples,), or a long recording; both have a length and give slices as Tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


class Recording:
    """An audio file, its channels averaged; decoded once to its end when opened, so that it is known to be whole.

    Parameters
    ----------
    path : path
        MP3, WAV, FLAC or OGG.

    Attributes
    ----------
    rate : int
        Hz.
    whole : Tensor, shape (samples,), or None
        All samples; None where they are too many to be kept. Slices work either way.

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
                if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
                    limits = f"{LOWEST_RATE // 1000} to {HIGHEST_RATE // 1000} kHz"
                    raise DsamlError(f"{self.path}: its sample rate is {self.rate} Hz; convert it to one of {limits}")
                most = min(IN_MEMORY, SECONDS_IN_MEMORY * self.rate)
                for block in _blocks(stream):
                    self._length += len(block)
                    finite = finite and bool(np.isfinite(block).all())
                    if self._length <= most:
                        blocks.append(block)
                    else:
                        blocks.clear()
        except (sf.LibsndfileError, RuntimeError) as error:
            said = str(error).replace("\n", " ")
            raise DsamlError(
                f"{self.path}: cannot be decoded ({said}); replace the file or convert it to WAV"
            ) from error
        if not self._length:
            raise DsamlError(f"{self.path}: holds no audio samples; replace the file")
        if announced - self._length > self.rate and _counts_its_frames(self.path):
            lasts, wanted = self._length / self.rate, announced / self.rate
            raise DsamlError(
                f"{self.path}: breaks off after {lasts:.1f} s, its header says {wanted:.1f} s; replace the file"
            )
        if not finite:
            raise DsamlError(f"{self.path}: holds samples that are not numbers; replace the file")
        self.whole = torch.from_numpy(np.concatenate(blocks)) if blocks else None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Tensor:
        if self.whole is not None:
            return self.whole[part]
        first, last, _ = part.indices(self._length)
        if self._stream is None or (self._held and first < self._held[0][0]):
            self._stream, self._held = Stream(self.path), []
            self._next = _blocks(self._stream)
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


class Stream(sf.SoundFile):
    """An audio file that is read from its start to its end.

    soundfile seeks after every read where it can; an MP3 decoder loses what it keeps from frame to frame then, and complains.
    """

    def __init__(self, path: Path):
        super().__init__(os.fsencode(path))  # a name need not be UTF-8

    def seekable(self) -> bool:
        """Never."""
        return False


def _blocks(stream: Stream) -> Iterator[np.ndarray]:
    """The rest of a file in blocks, channels averaged: each (samples,), float32."""
    frames = max(1, BLOCK // stream.channels)
    while len(block := stream.read(frames, dtype="float32", always_2d=True)):
        yield block.mean(1)


def _counts_its_frames(path: Path) -> bool:
    """True for an MP3 with a Xing or Info header; without one the announced length is only an estimate."""
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    return b"Xing" in start or b"Info" in start


def listen(path: str | Path, sample_rate: int) -> Waveform:
    """A file at the wanted rate in Hz: a Tensor (samples,), or for more than 15 minutes something that decodes as needed.

    Raises
    ------
    DsamlError
        See :class:`Recording`.
    """
    recording = Recording(path)
    return resample(recording if recording.whole is None else recording.whole, recording.rate, sample_rate)


def resample(waveform: Waveform, rate: int, wanted: int) -> Waveform:
    """Resample (samples,) from ``rate`` to ``wanted`` Hz; unchanged where they are the same.

    Rates with a common divisor go through torchaudio. For the others its table of filters would need gigabytes, so the same
    filter is computed for each sample. A Tensor gives a Tensor.
    """
    if rate == wanted:
        return waveform
    if not isinstance(waveform, Tensor):
        return _Resampled(waveform, rate, wanted)
    if _has_table(rate, wanted):
        return torchaudio.functional.resample(waveform, rate, wanted)
    return _interpolate(waveform, rate, wanted, 0, _length(waveform, rate, wanted))


def _length(waveform: Waveform, rate: int, wanted: int) -> int:
    return -(-len(waveform) * wanted // rate)


def _reach(rate: int, wanted: int) -> int:
    """Samples on each side that torchaudio's filter needs."""
    return math.ceil(FILTER_WIDTH * max(1.0, rate / wanted) / ROLLOFF)


def _has_table(rate: int, wanted: int) -> bool:
    divisor = math.gcd(rate, wanted)
    return wanted // divisor * (rate // divisor + 2 * _reach(rate, wanted)) <= KERNEL


def _interpolate(waveform: Waveform, rate: int, wanted: int, first: int, last: int) -> Tensor:
    """Samples first to last at the wanted rate, for any two rates: torchaudio's filter, a Hann-windowed sinc."""
    reach, scale = _reach(rate, wanted), ROLLOFF * min(1.0, wanted / rate)
    offsets = torch.arange(-reach, reach + 1)
    out = torch.empty(last - first)
    at_once = max(1, BLOCK // len(offsets))
    for start in range(first, last, at_once):
        exact = torch.arange(start, min(start + at_once, last)) * rate  # in units of 1 / wanted samples
        near, rest = exact // wanted, (exact % wanted).double() / wanted
        low, high = int(near[0]) - reach, int(near[-1]) + reach + 1
        known = waveform[max(0, low) : min(len(waveform), high)]
        known = torch.nn.functional.pad(known, (max(0, -low), max(0, high - len(waveform))))
        t = ((offsets - rest[:, None]) * scale).clamp(-FILTER_WIDTH, FILTER_WIDTH)
        weight = torch.sinc(t) * torch.cos(t * (math.pi / FILTER_WIDTH / 2)).square() * scale
        taps = known[(near - low)[:, None] + offsets]  # (samples, filter)
        out[start - first : start - first + len(exact)] = (taps * weight.float()).sum(1)
    return out


class _Resampled:
    """A long recording at another rate; each slice is computed where it is asked for."""

    def __init__(self, source: Waveform, rate: int, wanted: int):
        self._source, self._rate, self._wanted = source, rate, wanted

    def __len__(self) -> int:
        return _length(self._source, self._rate, self._wanted)

    def __getitem__(self, part: slice) -> Tensor:
        first, last, _ = part.indices(len(self))
        if not _has_table(self._rate, self._wanted):
            return _interpolate(self._source, self._rate, self._wanted, first, last)
        divisor = math.gcd(self._rate, self._wanted)
        old, new = self._rate // divisor, self._wanted // divisor  # samples of one period at both rates
        margin = -(-_reach(self._rate, self._wanted) // old)
        begin = max(0, first // new - margin)
        known = self._source[begin * old : (-(-last // new) + margin) * old]
        return torchaudio.functional.resample(known, old, new)[first - begin * new : last - begin * new]
