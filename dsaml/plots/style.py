"""How figures look and how a notebook shows them: alt text on every one, a banner above everything synthetic."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.figure import Figure

from dsaml.audio.recording import encode

PALETTE = sns.color_palette("colorblind")
DIMENSION_COLORS = {"arousal": PALETTE[3], "valence": PALETTE[0]}
LARGEST_SVG = 400_000  # bytes; a figure of more is shown as PNG

SYNTHETIC = (
    "<strong>Synthetic data.</strong> The songs and the listeners behind this page are simulated (the embedded corpus). "
    "It shows what the method does with listeners like these; it says nothing about real ones."
)


def show(figure: Figure, alt: str) -> None:
    """Display a figure as an image with alt text, and close it.

    Parameters
    ----------
    figure : Figure
    alt : str
        What somebody who does not see the figure has to know.
    """
    content, kind = io.BytesIO(), "svg+xml"
    figure.savefig(content, format="svg", metadata={"Date": None})
    if content.tell() > LARGEST_SVG:
        content, kind = io.BytesIO(), "png"
        figure.savefig(content, format="png", dpi=110)
    plt.close(figure)
    data = base64.b64encode(content.getvalue()).decode()
    source = f"data:image/{kind};base64,{data}"
    display(HTML(f'<img src="{source}" alt="{escape(alt)}" style="max-width: 100%; background: white">'))


def banner(document: Mapping[str, Any]) -> None:
    """Say in a visible box that a result was computed on simulated data; nothing for real data.

    Parameters
    ----------
    document : mapping
        A result file with its stamp.
    """
    if not document["provenance"]["real"]:
        box = "border-left: 4px solid #c05000; padding: 0.6em 1em; margin: 0.5em 0; background: #fff4e8; color: #222"
        display(HTML(f'<div role="note" style="{box}">{SYNTHETIC}</div>'))


def play(waveform: np.ndarray, sample_rate: int, label: str) -> None:
    """Show a player for a short mono excerpt, compressed to Ogg/Vorbis inside the page (about 10 kB per second).

    Parameters
    ----------
    waveform : ndarray, shape (samples,)
        Values beyond 1 are scaled down.
    sample_rate : int
        Hz.
    label : str
        What is heard, for screen readers.
    """
    content = io.BytesIO()
    scaled = waveform / max(1.0, float(np.abs(waveform).max()))
    encode(content, scaled, sample_rate, "OGG")
    data = base64.b64encode(content.getvalue()).decode()
    display(HTML(f'<audio controls aria-label="{escape(label)}" src="data:audio/ogg;base64,{data}"></audio>'))
