"""How time grows with size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dsaml.plots.style import PALETTE


def growth(scale: Mapping[str, Any]) -> Figure:
    """Seconds against each size, both axes logarithmic.

    Parameters
    ----------
    scale : mapping
        ``data/bench/scale.json``.
    """
    curves = scale["curves"]
    figure, axes = plt.subplots(2, 4, figsize=(11, 5), layout="constrained")
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        axis.loglog(curve["sizes"], curve["seconds"], "o-", color=PALETTE[0])
        axis.set(title=f"{name.replace('_', ' ')}\nexponent {curve['slopes']['seconds']:.2f}", ylabel="seconds")
        axis.set_xticks(curve["sizes"], curve["sizes"])
        axis.minorticks_off()
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    return figure
