"""Frozen global encoders: windows of audio in, one vector per window out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dsaml.audio.imagebind import DIM, ImageBindEncoder
from dsaml.audio.slices import AT_ONCE, log_mel
from dsaml.audio.waveform import Waveform, Window, cut_samples, resample
from dsaml.config import ENCODERS, AudioConfig, Profile
from dsaml.errors import DsamlError

WINDOW_SECONDS = 30.0
"""Length of a full song's windows; a clip's one window has the length of its labels, which is the same."""


class GlobalEncoder(Protocol):
    """What each of them offers."""

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


class MelEncoder:
    """Mean and standard deviation of each log-mel band over the window, through a fixed projection. No download.

    The 256 statistics are shifted and scaled by constants, then multiplied by a random orthonormal matrix that is always the
    same. Up to D = 256 its columns are orthonormal. A wider D gains no information: the rows are orthonormal and scaled by
    sqrt(D / 256), so that components keep their size. ``config.pool``
    is ignored: statistics are taken at full resolution.
    """

    name = "mel"

    def __init__(self, dim: int, config: AudioConfig = AudioConfig()):
        self.dim = dim
        self.config = replace(config, pool=(1, 1))
        self.fingerprint = f"mel-3:{dim}:{self.config}"
        generator = torch.Generator().manual_seed(20_250_101)
        width = 2 * config.n_mels
        noise = torch.randn(max(width, dim), max(width, dim), generator=generator)
        self._projection = torch.linalg.qr(noise)[0][:width, :dim]  # orthonormal columns for dim <= width
        self._projection *= max(1.0, dim / width) ** 0.5

    def embed(self, waveform: Waveform, sample_rate: int, windows: Sequence[Window]) -> Tensor:
        """(samples,) and W windows -> (W, D); components are of the order of 1 for music.

        Windows of one length that begin a whole number of steps apart share their slices, each of which is transformed once.
        """
        step, rate = self.config.step_seconds, self.config.sample_rate
        waveform, size = resample(waveform, sample_rate, rate), round(step * rate)
        first, length = min(start for start, _ in windows), windows[0][1] - windows[0][0]
        places = [(start - first) / step for start, _ in windows]
        if any(abs(end - start - length) > 1e-6 for start, end in windows) or any(p % 1 for p in places):
            return torch.cat([self.embed(waveform, rate, [window]) for window in windows])
        count = math.floor(length / step + 1e-6)  # slices of one window
        begin, period = round(first * rate), round(length * rate)
        total = int(max(places)) + count
        bands, held = torch.empty(0), 0  # log-mels of the slices from number ``held`` on: (slices, time, mel)
        rows = torch.empty(len(windows), 2 * self.config.n_mels)
        for place, row in sorted((int(p), row) for row, p in enumerate(places)):
            while held + len(bands) < place + count:
                at = max(held + len(bands), place)
                upto = min(at + AT_ONCE, total)
                slices = cut_samples(waveform, begin + at * size, begin + upto * size, period).view(-1, size)
                bands, held = torch.cat((bands[place - held :], log_mel(slices, self.config))), place
            frames = bands[place - held : place - held + count].flatten(0, 1)  # (frames, mel)
            rows[row] = torch.cat(((frames.mean(0) + 6.0) / 4.0, frames.std(0) - 2.0))  # constants: typical music
        return rows @ self._projection


def make_encoder(profile: Profile, imagebind: Path | None = None, *, device: str = "cpu") -> GlobalEncoder:
    """The global encoder that a profile names: "mel", made as wide as the model, "imagebind", or "imagebind-44k".

    ``imagebind`` are its weights, see :class:`dsaml.audio.imagebind.ImageBindEncoder`; ``device`` is where it runs.

    Raises
    ------
    DsamlError
        If the name is unknown, or ImageBind is wanted and is not installed, has no weights here or does not fit the model.
    """
    if profile.encoder == "mel":
        return MelEncoder(profile.model.dim, profile.audio)
    if profile.encoder not in ENCODERS:
        raise DsamlError(f"encoder '{profile.encoder}' does not exist; choose one of: {', '.join(ENCODERS)}")
    if profile.model.dim != DIM:
        raise DsamlError(
            f"ImageBind gives {DIM} numbers, profile '{profile.name}' has a model of width {profile.model.dim}; "
            "use --profile paper, or the mel encoder"
        )
    return ImageBindEncoder(imagebind, device, released_rate=profile.encoder == "imagebind-44k")
