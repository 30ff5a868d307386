"""Attention maps (Figure 4 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure


def maps(attention: Mapping[str, Any], kind: str = "mean_map") -> Figure:
    """Local and global maps of the last layer, with and without the diagonal attention loss (``attention.json``).

    ``kind`` is "mean_map", averaged over the test songs, or "song_map", those of one song.
    """
    figure, axes = plt.subplots(2, 2, figsize=(8, 7.4), sharex=True, sharey=True, layout="constrained")
    for row, (loss, label) in zip(axes, (("without", "without Eq. 3"), ("with", "with Eq. 3")), strict=True):
        for axis, scale in zip(row, ("local", "global"), strict=True):
            values = np.clip(np.array(attention[loss][scale][kind]), 1e-4, 1)
            extent = (15, 45, 45, 15)
            image = axis.imshow(values, norm=LogNorm(1e-3, 1), cmap="cividis", extent=extent)
            axis.set_title(f"{scale}, {label}\nmean diagonal {attention[loss][scale]['diagonal']:.2f}", fontsize=10)
    for axis in axes[1]:
        axis.set_xlabel("attended time (s)")
    for axis in axes[:, 0]:
        axis.set_ylabel("time of the prediction (s)")
    figure.colorbar(image, ax=axes, shrink=0.7, label="attention (log scale)")
    return figure
