"""The stress test: the embedded corpus' songs, heard by the continuous population of :mod:`dsaml.datasets.population`."""

from __future__ import annotations

from pathlib import Path

from dsaml.datasets import synthetic
from dsaml.datasets.base import Dataset


def load(root: str | Path) -> Dataset:
    """Load it; see :func:`dsaml.datasets.synthetic.load`."""
    return synthetic.load(root, "continuous")
