"""What the model is given: waveform, slices, log-mels, labels."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS
from dsaml.data.annotations import Annotation
from dsaml.plots.style import DIMENSION_COLORS, PALETTE, over_time


def waveform_slices(waveform: np.ndarray, sample_rate: int, starts: np.ndarray, first: float, last: float) -> Figure:
    """Waveform (samples,) at ``sample_rate`` Hz, from ``first`` to ``last`` s, with the 0.5 s slices; every other one is shaded.

    ``starts`` (T,) are the slices' starts in seconds.
    """
    figure, axis = plt.subplots(figsize=(10, 2.4), layout="constrained")
    part = waveform[round(first * sample_rate) : round(last * sample_rate)]
    stride = max(1, len(part) // 8000)
    axis.plot(first + np.arange(len(part))[::stride] / sample_rate, part[::stride], color=PALETTE[0], lw=0.6)
    for k, start in enumerate(starts[(starts >= first) & (starts < last)]):
        if k % 2 == 0:
            axis.axvspan(start, start + 0.5, color="0.92", zorder=0)
    axis.set(xlim=(first, last), xlabel="time in the song (s)", ylabel="amplitude")
    return figure


def slices(mels: Mapping[str, np.ndarray]) -> Figure:
    """Single log-mel slices side by side, time to the right; each is (time, mel)."""
    figure, axes = plt.subplots(1, len(mels), figsize=(3.3 * len(mels), 3.2), layout="constrained", squeeze=False)
    for axis, (name, mel) in zip(axes[0], mels.items(), strict=True):
        image = axis.imshow(mel.T, origin="lower", aspect="auto", cmap="cividis", extent=(0, 0.5, 0, mel.shape[1]))
        axis.set(title=f"{name}\n{mel.shape[0]} × {mel.shape[1]}", xlabel="time in the slice (s)", ylabel="mel band")
        figure.colorbar(image, ax=axis, label="log energy")
    return figure


def song(log_mel: np.ndarray, times: np.ndarray, label: Annotation) -> Figure:
    """All slices (T, time, mel) of a song in a row above its averaged label: the two have one column per 0.5 s.

    ``times`` (T,) in seconds.
    """
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained", height_ratios=(3, 2))
    flat = log_mel.reshape(-1, log_mel.shape[-1])
    extent = (times[0], times[-1] + 0.5, 0, flat.shape[1])
    top.imshow(flat.T, origin="lower", aspect="auto", cmap="cividis", extent=extent)
    top.set(ylabel="mel band")
    for d, name in enumerate(DIMENSIONS):
        bottom.step(label.times, label.values[:, d], where="post", color=DIMENSION_COLORS[name], label=name)
    bottom.axhline(0, color="0.85", zorder=0)
    bottom.set(ylim=(-1, 1), xlabel="time in the song (s)", ylabel="averaged label")
    bottom.legend(frameon=False)
    return figure


def listeners(tracks: Mapping[str, Annotation], mean: Annotation) -> Figure:
    """Every annotator's curve of one song, and their average."""
    figure, axes = over_time(3)
    for d, (axis, name) in enumerate(zip(axes, DIMENSIONS, strict=True)):
        for track in tracks.values():
            axis.plot(track.times, track.values[:, d], color=DIMENSION_COLORS[name], lw=0.8, alpha=0.6)
        axis.plot(mean.times, mean.values[:, d], color="black", lw=2.4, label="average")
    axes[0].legend(frameon=False)
    return figure


def embeddings(values: Mapping[str, np.ndarray]) -> Figure:
    """Cosine similarity of songs' global embeddings, (D,) each."""
    names = list(values)
    unit = np.stack([v / np.linalg.norm(v) for v in values.values()])
    figure, axis = plt.subplots(figsize=(5, 4.2), layout="constrained")
    image = axis.imshow(unit @ unit.T, vmin=-1, vmax=1, cmap="PuOr")
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(xlabel="song", ylabel="song")
    figure.colorbar(image, ax=axis, label="cosine similarity")
    return figure
