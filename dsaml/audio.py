"""Input Preprocessor: decode, resample, cut into 0.5 s slices, log-mel of each slice."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F

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
        If the file is missing, cannot be decoded, holds no samples, or breaks off (an MP3 whose own header announces over a
        second more than it holds; other formats that break off are noticed when their labels need more audio).
    """
    path = Path(path)
    if not path.is_file():
        raise DsamlError(f"{path}: no such audio file; correct the path or add the file")
    try:
        with sf.SoundFile(path) as stream:
            samples, rate, announced = stream.read(dtype="float32", always_2d=True), stream.samplerate, stream.frames
    except (sf.LibsndfileError, RuntimeError) as error:
        raise DsamlError(f"{path}: cannot be decoded ({error}); replace the file or convert it to WAV") from error
    if len(samples) == 0:
        raise DsamlError(f"{path}: holds no audio samples; replace the file")
    if announced - len(samples) > rate and _counts_its_frames(path):
        lasts, wanted = len(samples) / rate, announced / rate
        raise DsamlError(f"{path}: breaks off after {lasts:.1f} s, its header says {wanted:.1f} s; replace the file")
    if not np.isfinite(samples).all():
        raise DsamlError(f"{path}: holds samples that are not numbers; replace the file")
    return samples.mean(1), rate


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
        See :func:`decode`.
    """
    waveform, rate = decode(path)
    part = waveform[round(start * rate) : round((start + seconds) * rate)]
    ramp = np.ones_like(part)
    ramp[-round(fade * rate) :] = np.linspace(1, 0, round(fade * rate))
    return part * ramp / max(1e-9, float(np.abs(part).max())) * 0.8, rate


def _counts_its_frames(path: Path) -> bool:
    """True for an MP3 with a Xing or Info header; without one the announced length is only an estimate."""
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    return b"Xing" in start or b"Info" in start


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
        See :func:`decode`.
    """
    waveform, rate = decode(path)
    return resample(torch.from_numpy(waveform), rate, sample_rate)


def resample(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    """Resample (samples,) from ``rate`` to ``wanted`` Hz; unchanged where they are the same."""
    return waveform if rate == wanted else torchaudio.functional.resample(waveform, rate, wanted)


def slice_times(steps: int, config: AudioConfig = AudioConfig()) -> np.ndarray:
    """Start of each slice in seconds, shape (steps,): label i belongs to [15 + 0.5 i, 15.5 + 0.5 i)."""
    return config.label_start + config.step_seconds * np.arange(steps)


def cut_slices(
    waveform: Tensor, steps: int | None, config: AudioConfig = AudioConfig(), start_seconds: float | None = None
) -> Tensor:
    """Cut the labelled part into one slice per label.

    Parameters
    ----------
    waveform : Tensor, shape (samples,)
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
    start = config.label_start if start_seconds is None else start_seconds
    if not 0 <= start < float("inf"):
        raise DsamlError(f"the labels begin at {start} s; times count from the song's start, from 0 on")
    size = round(config.step_seconds * config.sample_rate)
    part = waveform[min(round(start * config.sample_rate), len(waveform)) :]
    if steps is None:
        steps = len(part) // size
    missing = steps * size - len(part)
    if missing > size or steps < 1:
        seconds = len(waveform) / config.sample_rate
        wanted = start + max(steps, 1) * config.step_seconds
        raise DsamlError(
            f"the audio lasts {seconds:.1f} s, its labels need {wanted:.1f} s: {wanted - seconds:.1f} s are missing; "
            "use the full recording"
        )
    return F.pad(part, (0, max(0, missing)))[: steps * size].view(steps, size)


IN_CACHE = 6  # slices at a time: their spectra fit into a processor's cache, which halves the time of one large batch


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
    waveform: Tensor, config: AudioConfig = AudioConfig(), steps: int | None = None, start_seconds: float | None = None
) -> Tensor:
    """Slices of :func:`cut_slices` through :func:`log_mel`: (samples,) -> (T, time, mel)."""
    return log_mel(cut_slices(waveform, steps, config, start_seconds), config)
