"""Chroma, and how major or minor a passage is: what a level of valence needs and no log-mel band tells."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsaml.audio.waveform import Waveform
from dsaml.config import AudioConfig

WINDOW = 4096 / 11_025  # s of a spectrum, 0.37
LOWEST, HIGHEST = 60.0, 2100.0  # Hz
WIDTH = 0.2  # semitones; how far from a pitch a bin still counts for it
# Probe-tone ratings of Krumhansl and Kessler 1982, from the tonic up
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
LOCAL = 11  # steps (5.5 s) over which a passage has a key


def chroma(waveform: Waveform, sample_rate: int, steps: int, config: AudioConfig) -> Tensor:
    """Energy of the twelve pitch classes, from A on, around the middle of each slice (Fujishima 1999).

    Parameters
    ----------
    waveform : Waveform, shape (samples,)
    steps : int
        T, from ``config.label_start`` on.

    Returns
    -------
    Tensor, shape (T, 12)
    """
    size = round(WINDOW * sample_rate)
    hertz = torch.fft.rfftfreq(size, 1 / sample_rate)
    semitones = 12 * torch.log2(hertz.clamp_min(1) / 440)
    nearest = semitones.round()
    weight = torch.exp(-0.5 * ((semitones - nearest) / WIDTH) ** 2) * ((hertz > LOWEST) & (hertz < HIGHEST))
    bank = F.one_hot(nearest.long() % 12, 12) * weight.unsqueeze(1)  # (bins, 12)
    out, window = torch.zeros(steps, 12), torch.hann_window(size)
    for step in range(steps):
        middle = config.label_start + (step + 0.5) * config.step_seconds
        first = max(0, round(middle * sample_rate) - size // 2)
        frame = waveform[first : first + size]
        frame = F.pad(torch.as_tensor(frame), (0, size - len(frame)))
        out[step] = torch.fft.rfft(frame * window).abs().sqrt() @ bank
    return out


def _keys(profile: np.ndarray) -> np.ndarray:
    """Correlation with every major and every minor key: (..., 12) -> (..., 2, 12)."""
    keys = np.stack([[np.roll(ratings, tonic) for tonic in range(12)] for ratings in (MAJOR, MINOR)])  # (2, 12, 12)
    return np.stack([_standard(profile) @ _standard(one).T / 12 for one in keys], -2)


def key_strength(profile: np.ndarray) -> np.ndarray:
    """Correlation with the best major key, with the best minor key, and the difference: (..., 12) -> (..., 3)."""
    best = _keys(profile).max(-1)
    return np.concatenate((best, best[..., :1] - best[..., 1:]), -1)


def song_harmony(pitches: np.ndarray) -> np.ndarray:
    """A song's chroma (T, 12) as numbers that no transposition changes: (22,).

    Key strengths of the whole, their mean and standard deviation over passages, pitch classes from the tonic up, and entropy.
    """
    pitches = pitches / (pitches.sum(1, keepdims=True) + 1e-6)
    whole, local = pitches.mean(0), key_strength(smooth(pitches, LOCAL))
    tonic = int(_keys(whole).argmax()) % 12
    entropy = -(whole * np.log(whole + 1e-9)).sum()
    parts = [key_strength(whole), local.mean(0), local.std(0), 12 * np.roll(whole, -tonic), [entropy]]
    return np.concatenate(parts)


def smooth(x: np.ndarray, steps: int) -> np.ndarray:
    """Moving average over time, (T, C); what lies outside is the value at the edge."""
    if steps < 2:
        return x
    padded = np.pad(x, ((steps // 2, steps - 1 - steps // 2), (0, 0)), mode="edge")
    total = np.concatenate((np.zeros((1, x.shape[1])), padded.cumsum(0)))
    return (total[steps:] - total[:-steps]) / steps


def _standard(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, float)
    return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-6)
