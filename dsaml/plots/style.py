"""How figures look and how a notebook shows them: alt text on every one, a banner above everything synthetic."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsaml.audio.playback import encode_playback
from dsaml.config import DIMENSIONS

PALETTE = sns.color_palette("colorblind")
DIMENSION_COLORS = {"arousal": PALETTE[3], "valence": PALETTE[0]}
LISTENER_COLORS = ("#0173b2", "#c8690a", "#02895f", "#b45aa5", "#8a6a4f")
"""Of single listeners, in the order in which they are shown, on every page: told apart by colour-blind people, and 3 to 1 or more
against white and against the dark pages."""
LARGEST_SVG = 400_000  # bytes; a figure of more is shown as PNG

SYNTHETIC = (
    "<strong>Synthetic data.</strong> The songs and the listeners behind this page are simulated (the embedded corpus). "
    "It shows what the method does with listeners like these; it says nothing about real ones."
)


def panels(height: float, names: Sequence[str] = DIMENSIONS, **shared: bool) -> tuple[Figure, np.ndarray]:
    """A figure of panels side by side, one per name; they share both axes, unless ``sharex`` or ``sharey`` is False."""
    size, shared = (5 * len(names), height), {"sharex": True, "sharey": True} | shared
    figure, grid = plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False, **shared)
    for axis, name in zip(grid[0], names, strict=True):
        axis.set_title(name)
    return figure, grid[0]


def over_time(height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """Panels for arousal and valence over the time in a song, labels in [-1, 1]."""
    figure, axes = panels(height)
    for axis in axes:
        axis.set(xlabel="time in the song (s)", ylim=(-1.05, 1.05))
        axis.axhline(0, color="0.85", lw=0.8, zorder=0)
    axes[0].set_ylabel("label in [-1, 1]")
    return figure, axes


def legend_below(figure: Figure, axis: Axes, columns: int | None = None) -> None:
    """One legend below all panels, where it hides no curve."""
    handles, labels = axis.get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": columns or len(labels)}
    figure.legend(handles, labels, frameon=False, fontsize=9, **place)


def show(figure: Figure, alt: str, see: str) -> None:
    """Display a figure as an image, and close it.

    ``alt`` says what somebody who does not see it has to know; ``see``, one sentence below it, what to look for.
    """
    content, kind = io.BytesIO(), "svg+xml"
    figure.savefig(content, format="svg", metadata={"Date": None})
    if content.tell() > LARGEST_SVG:
        content, kind = io.BytesIO(), "png"
        figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    data = base64.b64encode(content.getvalue()).decode()
    source = f"data:image/{kind};base64,{data}"
    image = f'<img src="{source}" alt="{escape(alt)}" style="max-width: 100%; background: white">'
    display(HTML(f'{image}<p class="see">{escape(see)}</p>'))


def banner(document: Mapping[str, Any]) -> None:
    """Say in a visible box that a result (a file with its stamp) was computed on simulated data; nothing for real data."""
    if not document["provenance"]["real"]:
        box = "border-left: 4px solid #c05000; padding: 0.6em 1em; margin: 0.5em 0; background: #fff4e8; color: #222"
        display(HTML(f'<div role="note" style="{box}">{SYNTHETIC}</div>'))


def play(waveform: np.ndarray, sample_rate: int, label: str) -> None:
    """Show a player for a short mono excerpt (samples,), compressed to MP3 inside the page, which every browser plays.

    What is heard is :func:`dsaml.audio.playback.for_playback`; ``sample_rate`` in Hz; ``label`` names it for screen readers.
    """
    content = io.BytesIO()
    encode_playback(content, waveform, sample_rate)
    data = base64.b64encode(content.getvalue()).decode()
    display(HTML(f'<audio controls aria-label="{escape(label)}" src="data:audio/mpeg;base64,{data}"></audio>'))
