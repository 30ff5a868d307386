"""Figures of the subjective study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS
from dsaml.plots.style import DIMENSION_COLORS, PALETTE, over_time, panels


def mean_ranks(analysis: Mapping[str, Any], reference: str) -> Figure:
    """Figure 6: mean rank of each method with its 95 % interval, and stars against ``reference`` (paired t-tests)."""
    figure, axes = panels(4, sharex=False)
    for axis, dimension in zip(axes, DIMENSIONS, strict=True):
        part = analysis[dimension]
        names = list(part["methods"])
        for k, name in enumerate(names):
            cell = part["methods"][name]
            low, high = cell["bootstrap_interval"]
            color = PALETTE[0] if name == reference else "0.65"
            axis.bar(k, cell["mean_rank"], color=color, width=0.65)
            axis.plot([k, k], [low, high], color="black", lw=1.6)
            pair = next((p for p in part["pairs"] if {p["a"], p["b"]} == {name, reference} and name != reference), None)
            if pair:
                axis.text(k, high + 0.08, pair["stars"], ha="center")
        axis.set_xticks(range(len(names)), [n.replace(" ", "\n", 1) for n in names], fontsize=8)
        axis.set_ylim(0, len(names) + 0.2)
    axes[0].set_ylabel("mean rank (1 = fits best)")
    return figure


def power(curves: Mapping[str, Mapping[int, float]], marks: Sequence[int] = (22,)) -> Figure:
    """Power against the number of participants, one line per effect; dotted lines at ``marks`` and at 80 %."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for k, (name, points) in enumerate(curves.items()):
        axis.plot(list(points), list(points.values()), color=PALETTE[k], label=name)
    axis.axhline(0.8, color="0.6", ls=":")
    for n in marks:
        axis.axvline(n, color="0.6", ls=":")
    axis.set(xlabel="participants", ylabel="power", ylim=(0, 1.02))
    axis.legend(frameon=False, fontsize=9)
    return figure


def class_curves(times: np.ndarray, curves: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> Figure:
    """Everybody's curves (P, T, 2) of one song over time (T,) in s, their mean and one standard deviation, (T, 2) each."""
    figure, axes = over_time(3.2)
    for d, axis in enumerate(axes):
        color = list(DIMENSION_COLORS.values())[d]
        axis.plot(times, curves[..., d].T, color="0.45", lw=0.7, alpha=0.6)
        axis.fill_between(times, (mean - sd)[:, d], (mean + sd)[:, d], color=color, alpha=0.2, lw=0)
        axis.plot(times, mean[:, d], color=color, lw=2.5)
    return figure
