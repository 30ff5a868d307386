"""Data sets: every loader gives the same :class:`Dataset` of songs, annotations and a split."""

from dsaml.data.base import Dataset, Song, Split, load_dataset
from dsaml.data.findings import Exclusion

__all__ = ["Dataset", "Exclusion", "Song", "Split", "load_dataset"]
