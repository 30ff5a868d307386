"""Frozen global encoders behind one interface: audio windows in, one vector per window out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dsaml.audio import log_mel
from dsaml.config import AudioConfig

Window = tuple[float, float]
"""Start and end in seconds from the start of the song; parts outside the song are filled by repeating its edge."""


class GlobalEncoder(Protocol):
    """What every global encoder offers.

    Attributes
    ----------
    name : str
        Stands in every result file.
    dim : int
        D, the width of the embedding.
    fingerprint : str
        Name, settings and weights; part of the cache key.
    """

    name: str
    dim: int
    fingerprint: str

    def embed(self, waveform: Tensor, sample_rate: int, windows: Sequence[Window]) -> Tensor:
        """(samples,) and W windows -> (W, D)."""
        ...


def windows_for(clip: bool, steps: int, config: AudioConfig, hop_seconds: float) -> tuple[list[Window], Tensor]:
    """Windows of the global encoder, and which window each row of the embedding comes from.

    Parameters
    ----------
    clip : bool
        A clip has one window, from its first label to its last (15-45 s), shared by all steps. A full song has windows of
        30 s centred on the start of a step (released code).
    steps : int
        Number of labels.
    config : AudioConfig
    hop_seconds : float
        Distance between two windows of a full song; each step takes the nearest one. 0.5 gives every step its own.

    Returns
    -------
    windows : list of (start, end)
        Seconds.
    index : Tensor, shape (1,) for a clip, (steps,) for a full song
    """
    first, step = config.label_start, config.step_seconds
    if clip:
        return [(first, first + steps * step)], torch.zeros(1, dtype=torch.long)
    stride = max(1, round(hop_seconds / step))
    count = math.ceil((steps - 1) / stride) + 1
    centers = [first + min(k * stride, steps - 1) * step for k in range(count)]
    index = torch.round(torch.arange(steps) / stride).long().clamp(max=count - 1)
    return [(center - 15.0, center + 15.0) for center in centers], index


def cut_window(waveform: Tensor, sample_rate: int, window: Window) -> Tensor:
    """The samples of a window; what lies outside the song is filled by repeating the audio next to that edge."""
    first, last = (round(t * sample_rate) for t in window)
    index = torch.arange(first, last)
    inside = index.clamp(0, len(waveform) - 1)
    length = min(last - first, len(waveform))
    before, after = index < 0, index >= len(waveform)
    inside[before] = torch.remainder(index[before], length)  # the first part of the song, once more
    inside[after] = len(waveform) - length + torch.remainder(index[after] - len(waveform), length)
    return waveform[inside]


class MelEncoder:
    """Mean and standard deviation of each log-mel band over the window, through a fixed projection. No download.

    Parameters
    ----------
    dim : int
        D; at most twice the number of mel bands.
    config : AudioConfig
        Its pooling is ignored: statistics are taken at full resolution.
    """

    name = "mel"

    def __init__(self, dim: int, config: AudioConfig = AudioConfig()):
        self.dim = dim
        self.config = AudioConfig(**{**vars(config), "pool": (1, 1)})
        self.fingerprint = f"mel-2:{dim}:{self.config}"
        generator = torch.Generator().manual_seed(20_250_101)
        width = 2 * config.n_mels
        noise = torch.randn(max(width, dim), max(width, dim), generator=generator)
        self._projection = torch.linalg.qr(noise)[0][:width, :dim]  # orthonormal columns for dim <= width

    def embed(self, waveform: Tensor, sample_rate: int, windows: Sequence[Window]) -> Tensor:
        """(samples,) and W windows -> (W, D); components are of the order of 1 for music."""
        size = round(self.config.step_seconds * sample_rate)
        rows = []
        for window in windows:
            part = cut_window(waveform, sample_rate, window)
            slices = part[: len(part) // size * size].view(-1, size)
            bands = log_mel(slices, self.config).flatten(0, 1)  # (frames, mel)
            mean, spread = (bands.mean(0) + 6.0) / 4.0, (bands.std(0) - 2.0) / 1.0  # fixed: typical values of music
            rows.append(torch.cat((mean, spread)))
        return torch.stack(rows) @ self._projection
