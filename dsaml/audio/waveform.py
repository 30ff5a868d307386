"""Mono samples of any length, how they get another rate, and windows of them that may lie outside the song."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torchaudio
from torch import Tensor

KERNEL = 1 << 20  # numbers in torchaudio's table of filters at most; 44,101 Hz would want 2 billion
FILTER_WIDTH, ROLLOFF = 6, 0.99  # of torchaudio's filter: zero crossings on each side, share of the band that passes
AT_ONCE = 1 << 18  # filter taps computed together


Window = tuple[float, float]
"""Start and end in seconds from the start of the song; parts outside the song are filled by repeating its edge."""


class Waveform(Protocol):
    """Mono samples: a Tensor of shape (samples,), or a long recording; both have a length and give slices as Tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def resample(waveform: Waveform, rate: int, wanted: int) -> Waveform:
    """Resample (samples,) from ``rate`` to ``wanted`` Hz; unchanged where they are the same. A Tensor gives a Tensor.

    Rates with a common divisor go through torchaudio. For the others its table of filters would need gigabytes, so the same
    filter is computed for each sample.
    """
    if rate == wanted:
        return waveform
    return Resampled(waveform, rate, wanted)[:] if isinstance(waveform, Tensor) else Resampled(waveform, rate, wanted)


class Resampled:
    """A waveform at another rate in Hz; each slice is computed where it is asked for."""

    def __init__(self, source: Waveform, rate: int, wanted: int):
        self._source, self._rate, self._wanted = source, rate, wanted
        self._reach = math.ceil(FILTER_WIDTH * max(1.0, rate / wanted) / ROLLOFF)  # samples on each side of the filter

    def __len__(self) -> int:
        return -(-len(self._source) * self._wanted // self._rate)

    def __getitem__(self, part: slice) -> Tensor:
        first, last, _ = part.indices(len(self))
        divisor = math.gcd(self._rate, self._wanted)
        old, new = self._rate // divisor, self._wanted // divisor  # samples of one period at both rates
        if new * (old + 2 * self._reach) > KERNEL:
            return self._interpolate(first, last)
        margin = -(-self._reach // old)  # periods
        begin = max(0, first // new - margin)
        known = self._source[begin * old : (-(-last // new) + margin) * old]
        return torchaudio.functional.resample(known, old, new)[first - begin * new : last - begin * new]

    def _interpolate(self, first: int, last: int) -> Tensor:
        """Samples first to last for any two rates: torchaudio's filter, a Hann-windowed sinc."""
        source, rate, wanted, reach = self._source, self._rate, self._wanted, self._reach
        scale, offsets = ROLLOFF * min(1.0, wanted / rate), torch.arange(-reach, reach + 1)
        out = torch.empty(last - first)
        at_once = max(1, AT_ONCE // len(offsets))
        for start in range(first, last, at_once):
            exact = torch.arange(start, min(start + at_once, last)) * rate  # in units of 1 / wanted samples
            near, rest = exact // wanted, (exact % wanted).double() / wanted
            low, high = int(near[0]) - reach, int(near[-1]) + reach + 1
            known = source[max(0, low) : min(len(source), high)]
            known = torch.nn.functional.pad(known, (max(0, -low), max(0, high - len(source))))
            t = ((offsets - rest[:, None]) * scale).clamp(-FILTER_WIDTH, FILTER_WIDTH)
            weight = torch.sinc(t) * torch.cos(t * (math.pi / FILTER_WIDTH / 2)).square() * scale
            taps = known[(near - low)[:, None] + offsets]  # (samples, filter)
            out[start - first : start - first + len(exact)] = (taps * weight.float()).sum(1)
        return out


def cut_window(waveform: Waveform, sample_rate: int, window: Window) -> Tensor:
    """The samples of a window, (samples,); what lies outside the song is filled by repeating the audio next to that edge.

    As much of it as the window is long, or the song has, is played once more: at t = -5 s of a 30 s window one hears what is
    heard at 25 s.
    """
    first, last = (round(t * sample_rate) for t in window)
    return cut_samples(waveform, first, last, last - first)


def cut_samples(waveform: Waveform, first: int, last: int, period: int) -> Tensor:
    """Samples ``first`` to ``last``, which may lie outside; there the ``period`` samples next to that edge are repeated."""
    size = len(waveform)
    period = min(period, size)
    parts = [waveform[max(0, first) : max(0, min(last, size))]]
    if first < 0:
        parts.insert(0, waveform[:period][torch.remainder(torch.arange(first, min(last, 0)), period)])
    if last > size:
        parts.append(waveform[size - period : size][torch.remainder(torch.arange(max(first, size), last) - size, period)])
    return torch.cat(parts) if len(parts) > 1 else parts[0]
