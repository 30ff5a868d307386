"""What every frozen global encoder offers, and the windows of audio that it is given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from dsaml.audio.waveform import Waveform
from dsaml.config import AudioConfig

Window = tuple[float, float]
"""Start and end in seconds from the start of the song; parts outside the song are filled by repeating its edge."""

WINDOW_SECONDS = 30.0
"""Length of a full song's windows; a clip's one window has the length of its labels, which is the same."""


class GlobalEncoder(Protocol):
    """What every global encoder offers."""

    name: str  #: stands in every result file
    dim: int  #: D, the width of the embedding
    fingerprint: str  #: name, settings and weights; part of the cache key

    def embed(self, waveform: Waveform, sample_rate: int, windows: Sequence[Window]) -> Tensor:
        """(samples,) at ``sample_rate`` Hz and W windows -> (W, D)."""
        ...


def windows_for(clip: bool, steps: int, config: AudioConfig, hop_seconds: float) -> tuple[list[Window], Tensor]:
    """Windows of the global encoder for a song with ``steps`` labels, and the window that each row of the embedding comes from.

    A clip has one window, from its first label to its last (15-45 s), shared by all steps. A full song has windows of 30 s
    centred on the start of a step (released code), ``hop_seconds`` apart; each step takes the nearest one, the earlier of two.
    0.5 s gives every step its own.

    Returns
    -------
    windows : list of (start, end)
        Seconds; the last one is centred on the last step.
    index : Tensor, shape (1,) for a clip, (steps,) for a full song
        Row of ``windows``.
    """
    first, step = config.label_start, config.step_seconds
    if clip:
        return [(first, first + steps * step)], torch.zeros(1, dtype=torch.long)
    stride = max(1, round(hop_seconds / step))
    centers = [*range(0, steps - 1, stride), steps - 1]  # steps
    halfway = [(one + other) / 2 for one, other in pairwise(centers)]
    index = torch.bucketize(torch.arange(steps), torch.tensor(halfway))
    times = [first + center * step for center in centers]
    return [(time - WINDOW_SECONDS / 2, time + WINDOW_SECONDS / 2) for time in times], index


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
