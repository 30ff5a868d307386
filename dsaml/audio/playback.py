"""How loud a sound is (ITU-R BS.1770-4), and copies that are comfortable to listen to; models never hear those."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torchaudio.functional as F
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from dsaml.audio.recording import encode

TARGET = -16.0  # LUFS of a copy, as streaming services and phones play music
CEILING = -1.0  # dBFS that the true peak of a copy stays below, once it is decoded from MP3
HEADROOM = 1.0  # dB below it before encoding: MP3 moves peaks
MOST_LIMITED = 18.0  # dB that a peak is lowered at most; a sound that needs more stays below the target
LOOK_AHEAD = 0.005  # s in which the limiter's gain falls and rises
BLOCK = 0.4  # s, the shortest sound that has a loudness: one gating block
SHORT_TERM = 3.0  # s, of which the loudness follows a song
OVERSAMPLING = 4  # of the true peak


def loudness(waveform: np.ndarray, rate: int) -> float:
    """Integrated loudness of a mono waveform (samples,) at ``rate`` Hz, in LUFS; −inf for silence and for less than 0.4 s."""
    if len(waveform) < BLOCK * rate or not np.any(waveform):
        return float("-inf")
    scale = min(1.0, 0.5 / float(np.abs(waveform).max()))  # torchaudio's filters clip at 1, and they lift the treble by 4 dB
    value = float(F.loudness(torch.from_numpy(np.asarray(waveform * scale, np.float32))[None], rate))
    return value - 20 * float(np.log10(scale)) if np.isfinite(value) else float("-inf")  # all of it is below the gate at −70 LUFS


def swing(waveform: np.ndarray, rate: int) -> float:
    """How much louder the loudest 3 s of a waveform (samples,) are than its quietest, in dB; inf where a part is silent."""
    width = round(SHORT_TERM * rate)
    starts = range(0, max(1, len(waveform) - width + 1), rate)
    parts = [loudness(waveform[start : start + width], rate) for start in starts]
    return max(parts) - min(parts) if np.isfinite(parts).all() else float("inf")


def true_peak(waveform: np.ndarray, rate: int) -> float:
    """Largest absolute value between samples too, by fourfold oversampling, in dBFS; −inf for silence."""
    samples = torch.from_numpy(np.asarray(waveform, np.float32))
    largest = float(F.resample(samples, rate, OVERSAMPLING * rate).abs().max()) if len(samples) else 0.0
    return 20 * float(np.log10(largest)) if largest else float("-inf")


def limited(waveform: np.ndarray, rate: int, ceiling: float) -> np.ndarray:
    """The waveform (samples,) with no value beyond ``ceiling`` (linear): the gain falls ahead of a peak and rises after it."""
    window = 2 * round(LOOK_AHEAD * rate) + 1
    gain = ceiling / np.maximum(np.abs(waveform), ceiling)  # what each sample alone would need
    return waveform * uniform_filter1d(minimum_filter1d(gain, window), window)  # the mean of minima is never above what is needed


def for_playback(waveform: np.ndarray, rate: int) -> np.ndarray:
    """A copy to listen to of a mono waveform (samples,) at ``rate`` Hz: ``TARGET`` loud, its peaks below ``CEILING``.

    One gain for the whole sound; where a peak (a bell in a quiet song) would go beyond the ceiling, a limiter lowers that peak,
    by at most ``MOST_LIMITED``. A sound whose peaks stand out farther gets less gain, and silence none.
    """
    start = loudness(waveform, rate)
    if not np.isfinite(start):
        return waveform
    ceiling = CEILING - HEADROOM
    most = ceiling + MOST_LIMITED - true_peak(waveform, rate)  # dB of gain
    gain, copy = min(TARGET - start, most), waveform
    for _ in range(5):  # what the limiter takes away is given back
        copy = limited(waveform * 10 ** (gain / 20), rate, 10 ** (ceiling / 20))
        copy = copy * 10 ** (min(0.0, ceiling - true_peak(copy, rate)) / 20)  # peaks between samples
        gain = min(gain + TARGET - loudness(copy, rate), most)
    return copy


def encode_playback(target: str | Path | BinaryIO, waveform: np.ndarray, rate: int) -> None:
    """Write the copy to listen to of a mono waveform, (samples,), as MP3."""
    encode(target, for_playback(waveform, rate), rate)
