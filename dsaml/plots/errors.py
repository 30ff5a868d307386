"""Where predictions go wrong: along the song, from listener to listener, with the number of annotated songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS
from dsaml.plots.style import PALETTE, legend_below, panels

STYLES = ("-", "--", ":", "-.")


def along_the_song(errors: Mapping[str, Any], times: Sequence[float]) -> Figure:
    """RMSE of each method at each second, over all listeners and songs: ``by_time`` of ``errors.json``; times in s."""
    figure, axes = panels(3.2)
    for d, axis in enumerate(axes):
        for k, (name, values) in enumerate(errors.items()):
            axis.plot(times, np.array(values)[:, d], STYLES[k % 4], color=PALETTE[k], lw=2, label=name)
        axis.set(xlabel="time in the song (s)", ylim=(0, None))
    axes[0].set_ylabel("RMSE")
    legend_below(figure, axes[0], columns=2)
    return figure


def from_listener_to_listener(errors: Mapping[str, Any], method: str, other: str) -> Figure:
    """One dot per listener: mean CCC of two methods, ``by_annotator`` of ``errors.json``; above the line ``method`` is better."""
    figure, axes = panels(4.2)
    for d, axis in enumerate(axes):
        x, y = (np.array([values[d] for values in errors[name].values()]) for name in (other, method))
        axis.plot([-1, 1], [-1, 1], color="0.6", lw=1)
        axis.plot(x, y, "o", color=PALETTE[0], alpha=0.8)
        axis.set(xlabel=f"{other}: CCC", xlim=(-0.3, 1), ylim=(-0.3, 1), aspect="equal")
    axes[0].set_ylabel("CCC of MAML, annotator tasks")
    return figure


def with_more_songs(rows: Mapping[str, Any], labels: Mapping[int, str]) -> Figure:
    """Mean CCC and 95 % interval against the number of annotated songs.

    ``rows`` are those of ``pdmer.json``, ``labels`` the rows' names by numbers of songs.
    """
    figure, axes = panels(3.2)
    for d, axis in zip(DIMENSIONS, axes, strict=True):
        songs = [n for n, label in labels.items() if label in rows]
        cells = [rows[labels[n]][d]["ccc"] for n in songs]
        axis.plot(songs, [c["mean"] for c in cells], "o-", color=PALETTE[0])
        low, high = ([c[end] for c in cells] for end in ("low", "high"))
        axis.fill_between(songs, low, high, color=PALETTE[0], alpha=0.2, lw=0)
        axis.set(xlabel="annotated songs of the listener", xticks=songs)
    axes[0].set_ylabel("CCC on other songs")
    return figure
