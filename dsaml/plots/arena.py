"""Figures of the arena: all methods, how much evidence they need, and whether they know when they are wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS
from dsaml.plots.style import PALETTE, legend_below, panels

MARKERS = "osD^vP*X"
LINES = (
    *("no adaptation", "shift", "MAML (the paper)", "neural process"),
    *("Meta-SGD", "ridge head (R2D2)", "listener prototypes", "low-rank Bayesian listener"),
)
"""Methods whose need of evidence is drawn: fourteen lines could not be told apart."""


def arena(rows: Mapping[str, Any], heard: Mapping[str, str], method: Mapping[str, str], lines: Mapping[str, str]) -> Figure:
    """CCC with interval of every method, one colour for each kind of features.

    Parameters
    ----------
    rows : mapping of row to scores
    heard, method : mapping of row to what it hears, and to its method
    lines : mapping of row to words
        Rows that are drawn as vertical lines: floors and ceilings.
    """
    figure, axes = panels(0.5 * len(set(method.values())) + 1.4)
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        for k, (row, words) in enumerate(lines.items()):
            axis.axvline(rows[row][d]["ccc"]["mean"], color="0.35", ls=("-", "--", ":", "-.")[k % 4], lw=1.2, label=words)
        _intervals(axis, {row: rows[row][d]["ccc"] for row in method}, heard, method)
        axis.set_xlabel("CCC within songs")
    return _with_names(figure, axes, method)


def above(cells: Mapping[str, Any], heard: Mapping[str, str], method: Mapping[str, str]) -> Figure:
    """RMSE above that of no adaptation, paired, with interval (``{row: {dimension: cell}}``): what lies right of 0 does harm."""
    method = {row: name for row, name in method.items() if row in cells}
    figure, axes = panels(0.5 * len(set(method.values())) + 1.4)
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        axis.axvline(0, color="0.35", lw=1.2, label="no adaptation, same features")
        _intervals(axis, {row: cells[row][d] for row in method}, heard, method)
        axis.set_xlabel("RMSE above no adaptation")
    return _with_names(figure, axes, method)


def _intervals(axis: Axes, cells: Mapping[str, Any], heard: Mapping[str, str], method: Mapping[str, str]) -> None:
    """A mean with interval for every row: methods below each other, one colour for each kind of features."""
    methods, kinds, named = list(dict.fromkeys(method.values())), list(dict.fromkeys(heard.values())), set()
    for row, name in method.items():
        kind = kinds.index(heard[row])
        place, cell = methods.index(name) + 0.25 * (kind - (len(kinds) - 1) / 2), cells[row]
        axis.plot([cell["low"], cell["high"]], [place, place], color=PALETTE[kind], lw=2)
        axis.plot(cell["mean"], place, MARKERS[kind], color=PALETTE[kind], label=None if kind in named else heard[row])
        named.add(kind)
    axis.grid(axis="x", color="0.9")


def _with_names(figure: Figure, axes: Sequence[Axes], method: Mapping[str, str]) -> Figure:
    methods = list(dict.fromkeys(method.values()))
    axes[0].set_yticks(range(len(methods)), methods)
    axes[0].invert_yaxis()
    legend_below(figure, axes[0], columns=3)
    return figure


def evidence(evidence: Mapping[str, Any], rows: Sequence[str], names: Sequence[str]) -> Figure:
    """CCC against how much is known of the listener: from two seconds to five songs."""
    figure, axes = panels(3.6)
    places = np.arange(len(evidence))
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        for k, (row, name) in enumerate(zip(rows, names, strict=True)):
            cells = [scores[row][d]["ccc"] for scores in evidence.values()]
            style = {"color": PALETTE[k % 10], "marker": MARKERS[k % len(MARKERS)], "label": name}
            axis.plot(places, [cell["mean"] for cell in cells], **style)
            axis.fill_between(
                places, [c["low"] for c in cells], [c["high"] for c in cells], color=PALETTE[k % 10], alpha=0.12, lw=0
            )
        axis.set_xticks(places, list(evidence))
        axis.set_xlabel("annotated by the listener")
    axes[0].set_ylabel("CCC on other songs")
    legend_below(figure, axes[0], columns=3)
    return figure


def calibration(coverage: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """What intervals cover against what they promise: ``{row: {dimension: {promised: covered}}}``."""
    figure, axes = panels(4.2)
    for axis, d in zip(axes, DIMENSIONS, strict=True):
        axis.plot([0.45, 1], [0.45, 1], color="0.6", lw=1)
        for k, (row, covered) in enumerate(coverage.items()):
            promised = [float(share) for share in covered[d]]
            axis.plot(promised, list(covered[d].values()), marker=MARKERS[k], color=PALETTE[k], label=row)
        axis.set(xlabel="promised share", xlim=(0.45, 1), ylim=(0.3, 1))
    axes[0].set_ylabel("covered share of the labels")
    legend_below(figure, axes[0], columns=2)
    return figure
