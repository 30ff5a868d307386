"""Figures of what comes back of a listener."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS


def tenths(columns: Sequence[tuple[str, Mapping[str, Any]]]) -> Figure:
    """In which tenth of a trait people are here (down) and there (across), by dimension.

    ``columns`` are a title and cells of :func:`dsaml.evaluate.traits.comebacks`, by dimension.
    """
    size = (2.5 * len(columns), 5.4)
    figure, axes = plt.subplots(2, len(columns), figsize=size, layout="constrained", squeeze=False)
    for row, dimension in enumerate(DIMENSIONS):
        for axis, (title, cells) in zip(axes[row], columns, strict=True):
            cell = cells[dimension]
            table = np.array([line.split() for line in cell["deciles"]], float)
            shade = axis.imshow(table / max(table.mean(), 1e-9), origin="lower", cmap="Greys", vmin=0, vmax=3)
            r = "none" if cell["r"] is None else f"{cell['r']:.2f}".replace("-", "−")
            axis.set_title(f"{title}\n{dimension}, r = {r}", fontsize=9)
            axis.set(xticks=[0, 9], xticklabels=["low", "high"], yticks=[0, 9], yticklabels=["low", "high"])
            axis.tick_params(labelsize=8, length=0)
    figure.colorbar(shade, ax=axes, label="pairs, beside an even spread", shrink=0.6)
    figure.supxlabel("there", fontsize=9)
    figure.supylabel("here", fontsize=9)
    return figure
