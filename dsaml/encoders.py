"""Frozen global encoders behind one interface: audio windows in, one vector per window out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from dsaml.audio import AT_ONCE, log_mel
from dsaml.config import AudioConfig, Profile
from dsaml.errors import DsamlError
from dsaml.recording import Waveform, resample

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
        self, waveform: Waveform, sample_rate: int, windows: Sequence[Window], progress: Progress | None = None
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
    halfway = [(one + other) / 2 for one, other in pairwise(centers)]
    index = torch.bucketize(torch.arange(steps), torch.tensor(halfway))
    times = [first + center * step for center in centers]
    return [(time - WINDOW_SECONDS / 2, time + WINDOW_SECONDS / 2) for time in times], index


def cut_window(waveform: Waveform, sample_rate: int, window: Window, period_seconds: float | None = None) -> Tensor:
    """The samples of a window; what lies outside the song is filled by repeating the audio next to that edge.

    The first ``period`` seconds of the song are played before it once more, the last ones after it, so the sound at t = -5 s of a
    30 s window is the sound at 25 s.

    Parameters
    ----------
    waveform : Tensor, shape (samples,), or a long recording
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
    return _cut(waveform, first, last, last - first if period_seconds is None else round(period_seconds * sample_rate))


def _cut(waveform: Waveform, first: int, last: int, period: int) -> Tensor:
    """Samples ``first`` to ``last`` of :func:`cut_window`, the period in samples."""
    size = len(waveform)
    period = min(period, size)
    parts = [waveform[max(0, first) : max(0, min(last, size))]]
    if first < 0:
        parts.insert(0, waveform[:period][torch.remainder(torch.arange(first, min(last, 0)), period)])
    if last > size:
        parts.append(waveform[size - period : size][torch.remainder(torch.arange(max(first, size), last) - size, period)])
    return torch.cat(parts) if len(parts) > 1 else parts[0]


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
        self, waveform: Waveform, sample_rate: int, windows: Sequence[Window], progress: Progress | None = None
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
        begin, period = round(first * sample_rate), round(length * sample_rate)
        total = int(max(places)) + count
        bands, held = torch.empty(0), 0  # log-mels of the slices from number ``held`` on: (slices, time, mel)
        rows = torch.empty(len(windows), 2 * self.config.n_mels)
        for done, (place, row) in enumerate(sorted((int(p), row) for row, p in enumerate(places)), 1):
            while held + len(bands) < place + count:
                at = max(held + len(bands), place)
                upto = min(at + AT_ONCE, total)
                slices = _cut(waveform, begin + at * size, begin + upto * size, period).view(-1, size)
                bands, held = torch.cat((bands[place - held :], log_mel(slices, self.config))), place
            frames = bands[place - held : place - held + count].flatten(0, 1)  # (frames, mel)
            rows[row] = torch.cat(((frames.mean(0) + 6.0) / 4.0, frames.std(0) - 2.0))  # constants: typical music
            if progress:
                progress(done, len(windows))
        return rows @ self._projection


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
