"""Input Preprocessor: the labelled part of a waveform cut into 0.5 s slices, log-mel of each slice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from dsaml.audio.waveform import Waveform
from dsaml.config import AudioConfig
from dsaml.errors import DsamlError

IN_CACHE = 6  # slices at a time: their spectra fit into a processor's cache, which halves the time of one large batch
AT_ONCE = 20 * IN_CACHE  # slices of a long song that are in memory together, a minute


def slice_times(steps: int, config: AudioConfig = AudioConfig()) -> np.ndarray:
    """Start of each slice in seconds, shape (steps,): label i belongs to [15 + 0.5 i, 15.5 + 0.5 i)."""
    return config.label_start + config.step_seconds * np.arange(steps)


def cut_slices(waveform: Waveform, steps: int | None, config: AudioConfig = AudioConfig()) -> Tensor:
    """Cut the labelled part, from ``config.label_start`` on, into one slice per label.

    Parameters
    ----------
    waveform : Tensor, shape (samples,), or a long recording
        At ``config.sample_rate``, from the start of the song.
    steps : int or None
        Number of labels; ``None`` takes every whole slice that the audio has.

    Returns
    -------
    Tensor, shape (steps, samples per slice)
        Slice i holds the samples of [start + 0.5 i, start + 0.5 i + 0.5) s. Up to half a second that is missing at the end is
        filled with zeros: decoders round the length.

    Raises
    ------
    DsamlError
        If the start is negative or no number, or the audio is shorter than its labels by more than half a second; says how
        much is missing.
    """
    return torch.cat(list(_minutes(waveform, steps, config)))


def _minutes(waveform: Waveform, steps: int | None, config: AudioConfig) -> Iterator[Tensor]:
    """The slices of :func:`cut_slices`, at most ``AT_ONCE`` at a time."""
    if not 0 <= config.label_start < float("inf"):
        raise DsamlError(f"the labels begin at {config.label_start} s; times count from the song's start, from 0 on")
    size, begin = round(config.step_seconds * config.sample_rate), round(config.label_start * config.sample_rate)
    there = len(waveform) - begin
    if steps is None:
        steps = max(0, there) // size
    if steps * size - there > size or steps < 1:
        seconds = len(waveform) / config.sample_rate
        wanted = config.label_start + max(steps, 1) * config.step_seconds
        raise DsamlError(
            f"the audio lasts {seconds:.1f} s, its labels need {wanted:.1f} s: {wanted - seconds:.1f} s are missing; "
            "use the full recording"
        )
    for first in range(0, steps, AT_ONCE):
        count = min(AT_ONCE, steps - first)
        part = waveform[begin + first * size : begin + (first + count) * size]
        yield F.pad(part, (0, count * size - len(part))).view(count, size)


@lru_cache(maxsize=8)
def _mel_transform(sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)


def log_mel(slices: Tensor, config: AudioConfig = AudioConfig()) -> Tensor:
    """Log-mel of each slice on its own: (T, samples per slice) -> (T, time, mel).

    log(mel + 1e-6), 51 x 128 with the paper's settings, then average-pooled by ``config.pool``.
    """
    transform = _mel_transform(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)
    mel = torch.cat([(transform(part) + config.log_offset).log() for part in slices.split(IN_CACHE)]).mT
    if config.pool != (1, 1):  # (T, time, mel)
        mel = F.avg_pool2d(mel.unsqueeze(1), config.pool, ceil_mode=True).squeeze(1)
    return mel


def log_mel_slices(waveform: Waveform, config: AudioConfig = AudioConfig(), steps: int | None = None) -> Tensor:
    """Slices of :func:`cut_slices` through :func:`log_mel`: (samples,) -> (T, time, mel)."""
    return torch.cat(list(log_mel_minutes(waveform, config, steps)))


def log_mel_minutes(waveform: Waveform, config: AudioConfig = AudioConfig(), steps: int | None = None) -> Iterator[Tensor]:
    """The slices of :func:`log_mel_slices`, a minute at a time: of a song of hours only one is in memory."""
    return (log_mel(part, config) for part in _minutes(waveform, steps, config))
