"""Frozen global encoders behind one interface: audio windows in, one vector per window out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dsaml.audio import log_mel, resample
from dsaml.config import AudioConfig, Profile
from dsaml.errors import DsamlError

Window = tuple[float, float]
"""Start and end in seconds from the start of the song; parts outside the song are filled by repeating its edge."""

WINDOW_SECONDS = 30.0
"""Length of a full song's windows; a clip's one window has the length of its labels, which is the same."""

Progress = Callable[[int, int], None]
"""Called with (done, in all) while a long computation runs."""


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

    def embed(
        self, waveform: Tensor, sample_rate: int, windows: Sequence[Window], progress: Progress | None = None
    ) -> Tensor:
        """(samples,) at ``sample_rate`` Hz and W windows -> (W, D); ``progress`` gets (windows done, windows in all)."""
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
        Seconds; the last one is centred on the last step.
    index : Tensor, shape (1,) for a clip, (steps,) for a full song
        Row of ``windows``; a step half-way between two takes the earlier one.
    """
    first, step = config.label_start, config.step_seconds
    if clip:
        return [(first, first + steps * step)], torch.zeros(1, dtype=torch.long)
    stride = max(1, round(hop_seconds / step))
    centers = [*range(0, steps - 1, stride), steps - 1]  # steps
    index = (torch.arange(steps)[:, None] - torch.tensor(centers)).abs().argmin(1)
    times = [first + center * step for center in centers]
    return [(time - WINDOW_SECONDS / 2, time + WINDOW_SECONDS / 2) for time in times], index


def cut_window(waveform: Tensor, sample_rate: int, window: Window, period_seconds: float | None = None) -> Tensor:
    """The samples of a window; what lies outside the song is filled by repeating the audio next to that edge.

    The first ``period`` seconds of the song are played before it once more, the last ones after it, so the sound at t = -5 s of a
    30 s window is the sound at 25 s.

    Parameters
    ----------
    waveform : Tensor, shape (samples,)
    sample_rate : int
        Hz.
    window : (start, end)
        Seconds; may begin before 0 and end after the song.
    period_seconds : float, optional
        How much audio is repeated: the window's own length by default, and never more than the song has.

    Returns
    -------
    Tensor, shape (samples of the window,)
    """
    first, last = (round(t * sample_rate) for t in window)
    period = min(last - first if period_seconds is None else round(period_seconds * sample_rate), len(waveform))
    if first >= 0 and last <= len(waveform):
        return waveform[first:last]
    index = torch.arange(first, last)
    inside = index.clamp(0, len(waveform) - 1)
    before, after = index < 0, index >= len(waveform)
    inside[before] = torch.remainder(index[before], period)
    inside[after] = len(waveform) - period + torch.remainder(index[after] - len(waveform), period)
    return waveform[inside]


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

    def embed(
        self, waveform: Tensor, sample_rate: int, windows: Sequence[Window], progress: Progress | None = None
    ) -> Tensor:
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
        whole = cut_window(waveform, sample_rate, (first, first + (max(places) + count) * step), length)
        slices = whole[: len(whole) // size * size].view(-1, size)
        bands = log_mel(slices, self.config)  # (slices, time, mel)
        rows = []
        for done, place in enumerate(map(int, places), 1):
            frames = bands[place : place + count].flatten(0, 1)  # (frames, mel)
            rows.append(torch.cat(((frames.mean(0) + 6.0) / 4.0, frames.std(0) - 2.0)))  # constants: typical music
            if progress:
                progress(done, len(windows))
        return torch.stack(rows) @ self._projection


def make_encoder(
    profile: Profile, imagebind: Path | None = None, *, device: str = "cpu", released_rate: bool = False
) -> GlobalEncoder:
    """The global encoder that a profile names.

    Parameters
    ----------
    profile : Profile
        ``encoder`` is "mel" or "imagebind"; "mel" is made as wide as the model.
    imagebind : Path, optional
        ImageBind's weights: the official checkpoint, or the audio part of it (:func:`dsaml.imagebind.save_audio_only`).

    device : str
        Where ImageBind runs.
    released_rate : bool
        Feed ImageBind 44.1 kHz, as the released code does, instead of its own 16 kHz.

    Raises
    ------
    DsamlError
        If the name is unknown, or ImageBind is wanted and is not installed, has no weights here or does not fit the model.
    """
    if profile.encoder == "mel":
        return MelEncoder(profile.model.dim, profile.audio)
    if profile.encoder != "imagebind":
        raise DsamlError(f"encoder '{profile.encoder}' does not exist; choose one of: mel, imagebind")
    from dsaml.imagebind import DIM, ImageBindEncoder  # optional, and slow to import

    if profile.model.dim != DIM:
        raise DsamlError(
            f"ImageBind gives {DIM} numbers, profile '{profile.name}' has a model of width {profile.model.dim}; "
            "use --profile paper, or the mel encoder"
        )
    return ImageBindEncoder(imagebind, device=device, released_rate=released_rate)
