"""Input Preprocessor: decode, resample, cut into 0.5 s slices, log-mel of each slice."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

from dsaml.audio.recording import Recording, Waveform, resample
from dsaml.config import AudioConfig
from dsaml.errors import DsamlError


def decode(path: str | Path) -> tuple[np.ndarray, int]:
    """Decode a whole file (MP3, WAV, FLAC, OGG) and average its channels.

    Parameters
    ----------
    path : path

    Returns
    -------
    waveform : ndarray, shape (samples,), float32
        MP3 peaks can exceed 1; they are kept.
    sample_rate : int
        Hz.

    Raises
    ------
    DsamlError
        See :class:`dsaml.audio.recording.Recording`.
    """
    recording = Recording(path)
    return recording[:].numpy(), recording.rate


def encode(target: str | Path | BinaryIO, waveform: np.ndarray, sample_rate: int, kind: str = "MP3") -> None:
    """Write a mono waveform, (samples,), as MP3 or Ogg/Vorbis ("OGG"); values beyond 1 are clipped."""
    with sf.SoundFile(target, "w", sample_rate, 1, format=kind) as stream:
        for start in range(0, len(waveform), 65_536):  # one long write can crash the encoder
            stream.write(waveform[start : start + 65_536])


def excerpt(path: str | Path, start: float, seconds: float, fade: float = 0.5) -> tuple[np.ndarray, int]:
    """A part of a file with its end faded out, its peak at 0.8: waveform (samples,) and rate in Hz.

    Raises
    ------
    DsamlError
        See :class:`dsaml.audio.recording.Recording`.
    """
    recording = Recording(path)
    rate = recording.rate
    part = recording[round(start * rate) : round((start + seconds) * rate)].numpy()
    ramp = np.ones_like(part)
    ramp[-round(fade * rate) :] = np.linspace(1, 0, round(fade * rate))
    return part * ramp / max(1e-9, float(np.abs(part).max())) * 0.8, rate


def load_mono(path: str | Path, sample_rate: int = AudioConfig.sample_rate) -> Tensor:
    """Decode, average the channels, resample.

    Parameters
    ----------
    path : path
    sample_rate : int
        Wanted rate in Hz.

    Returns
    -------
    Tensor, shape (samples,), float32

    Raises
    ------
    DsamlError
        See :class:`dsaml.audio.recording.Recording`.
    """
    waveform, rate = decode(path)
    return resample(torch.from_numpy(waveform), rate, sample_rate)


def slice_times(steps: int, config: AudioConfig = AudioConfig()) -> np.ndarray:
    """Start of each slice in seconds, shape (steps,): label i belongs to [15 + 0.5 i, 15.5 + 0.5 i)."""
    return config.label_start + config.step_seconds * np.arange(steps)


def cut_slices(
    waveform: Waveform, steps: int | None, config: AudioConfig = AudioConfig(), start_seconds: float | None = None
) -> Tensor:
    """Cut the labelled part into one slice per label.

    Parameters
    ----------
    waveform : Tensor, shape (samples,), or a long recording
        At ``config.sample_rate``, from the start of the song.
    steps : int or None
        Number of labels; ``None`` takes every whole slice that the audio has.
    config : AudioConfig
    start_seconds : float, optional
        Where the first slice begins; by default ``config.label_start``, 15 s.

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
    return torch.cat(list(_parts(waveform, steps, config, start_seconds)[1]))


def _parts(
    waveform: Waveform, steps: int | None, config: AudioConfig, start_seconds: float | None
) -> tuple[int, Iterator[Tensor]]:
    """The number of slices of :func:`cut_slices`, and the slices, some at a time."""
    start = config.label_start if start_seconds is None else start_seconds
    if not 0 <= start < float("inf"):
        raise DsamlError(f"the labels begin at {start} s; times count from the song's start, from 0 on")
    size, begin = round(config.step_seconds * config.sample_rate), round(start * config.sample_rate)
    there = len(waveform) - begin
    if steps is None:
        steps = max(0, there) // size
    if steps * size - there > size or steps < 1:
        seconds = len(waveform) / config.sample_rate
        wanted = start + max(steps, 1) * config.step_seconds
        raise DsamlError(
            f"the audio lasts {seconds:.1f} s, its labels need {wanted:.1f} s: {wanted - seconds:.1f} s are missing; "
            "use the full recording"
        )

    def parts() -> Iterator[Tensor]:
        for first in range(0, steps, AT_ONCE):
            count = min(AT_ONCE, steps - first)
            part = waveform[begin + first * size : begin + (first + count) * size]
            yield F.pad(part, (0, count * size - len(part))).view(count, size)

    return steps, parts()


IN_CACHE = 6  # slices at a time: their spectra fit into a processor's cache, which halves the time of one large batch
AT_ONCE = 20 * IN_CACHE  # slices of a long song that are in memory together, a minute


@lru_cache(maxsize=8)
def _mel_transform(sample_rate: int, n_fft: int, hop_length: int, n_mels: int) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)


def log_mel(slices: Tensor, config: AudioConfig = AudioConfig()) -> Tensor:
    """Log-mel of each slice on its own.

    Parameters
    ----------
    slices : Tensor, shape (T, samples per slice)
    config : AudioConfig

    Returns
    -------
    Tensor, shape (T, time, mel)
        log(mel + 1e-6), 51 x 128 with the paper's settings, then average-pooled by ``config.pool``.
    """
    transform = _mel_transform(config.sample_rate, config.n_fft, config.hop_length, config.n_mels)
    mel = torch.cat([(transform(part) + config.log_offset).log() for part in slices.split(IN_CACHE)]).mT
    if config.pool != (1, 1):  # (T, time, mel)
        mel = F.avg_pool2d(mel.unsqueeze(1), config.pool, ceil_mode=True).squeeze(1)
    return mel


def log_mel_slices(
    waveform: Waveform, config: AudioConfig = AudioConfig(), steps: int | None = None, start_seconds: float | None = None
) -> Tensor:
    """Slices of :func:`cut_slices` through :func:`log_mel`: (samples,) -> (T, time, mel)."""
    steps, parts = _parts(waveform, steps, config, start_seconds)
    out, done = None, 0
    for mel in map(partial(log_mel, config=config), parts):
        out = mel.new_empty(steps, *mel.shape[1:]) if out is None else out
        out[done : done + len(mel)] = mel
        done += len(mel)
    return out
