"""The global encoder that needs no download: statistics of log-mels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dsaml.audio.encoder_windows import Window, cut_samples
from dsaml.audio.slices import AT_ONCE, log_mel
from dsaml.audio.waveform import Waveform, resample
from dsaml.config import AudioConfig


class MelEncoder:
    """Mean and standard deviation of each log-mel band over the window, through a fixed projection. No download.

    The 256 statistics are shifted and scaled by constants, then multiplied by a random orthonormal matrix that is always the
    same. Up to D = 256 its columns are orthonormal. A wider D gains no information: the rows are orthonormal and scaled by
    sqrt(D / 256), so that components keep their size.

    Parameters
    ----------
    dim : int
        D.
    config : AudioConfig
        Its pooling is ignored: statistics are taken at full resolution.
    """

    name = "mel"

    def __init__(self, dim: int, config: AudioConfig = AudioConfig()):
        self.dim = dim
        self.config = AudioConfig(**{**vars(config), "pool": (1, 1)})
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
        if sample_rate != self.config.sample_rate:
            waveform, sample_rate = resample(waveform, sample_rate, self.config.sample_rate), self.config.sample_rate
        step, size = self.config.step_seconds, round(self.config.step_seconds * sample_rate)
        first, length = min(start for start, _ in windows), windows[0][1] - windows[0][0]
        places = [(start - first) / step for start, _ in windows]
        if any(abs(end - start - length) > 1e-6 for start, end in windows) or any(p % 1 for p in places):
            return torch.cat([self.embed(waveform, sample_rate, [window]) for window in windows])
        count = math.floor(length / step + 1e-6)  # slices of one window
        begin, period = round(first * sample_rate), round(length * sample_rate)
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
