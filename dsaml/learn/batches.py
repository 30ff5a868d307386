"""From song ids to tensors: features and labels of whole tasks, stacked."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dsaml.audio.features import Features
from dsaml.config import CLIP_STEPS
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset
from dsaml.errors import DsamlError
from dsaml.learn.maml import Batch, mode
from dsaml.learn.tasks import Task
from dsaml.model.dsaml import DSAML


class SongStore:
    """Features and labels of a data set's songs, ready to be stacked.

    Parameters
    ----------
    dataset : Dataset
    features : mapping of song id to Features
        Log-mel slices (T, t, m) and global embeddings (1 or T, D).
    steps : int
        Steps taken from each song, from its first label on; 60 is a clip.
    """

    def __init__(self, dataset: Dataset, features: Mapping[str, Features], steps: int = CLIP_STEPS):
        self.dataset, self.steps, self.stage = dataset, steps, "audio"
        self._inputs = {song: f.log_mel[:steps] for song, f in features.items()}
        wide = any(len(f.global_embedding) > 1 for f in features.values())  # full songs have one vector per step
        self._embeddings = {
            song: (f.global_embedding.expand(len(f.log_mel), -1) if wide else f.global_embedding)[:steps]
            for song, f in features.items()
        }

    def to(self, device: str | torch.device) -> SongStore:
        """The same store with every tensor on a device: songs are moved once, not batch by batch."""
        store = copy.copy(self)
        store._inputs = {song: x.to(device) for song, x in self._inputs.items()}
        store._embeddings = {song: x.to(device) for song, x in self._embeddings.items()}
        return store

    def local(self, model: DSAML) -> SongStore:
        """A store of z_l instead of log-mels, for what leaves the adapter as it is: computed once per song, and only once."""
        if self.stage == "local":
            return self
        store = copy.copy(self)
        with torch.no_grad(), mode(model, "eval"):
            store._inputs = {song: model.local_features(x[None])[0] for song, x in self._inputs.items()}
        store.stage = "local"
        return store

    def track(self, annotator: str, song: str) -> Annotation:
        """One annotator's labels of one song ("all": the averaged label).

        Raises
        ------
        DsamlError
            If there are none.
        """
        source = self.dataset.mean if annotator == MEAN else self.dataset.tracks.get(annotator, {})
        if song not in source:
            raise DsamlError(f"{self.dataset.root}: annotator {annotator} has no labels for song {song}")
        return source[song]

    def inputs(self, song: str) -> tuple[Tensor, Tensor]:
        """What the model takes at ``stage`` (T, ...), and the global embedding (1 or T, D)."""
        return self._inputs[song], self._embeddings[song]

    def _labels(self, annotator: str, song: str) -> np.ndarray:
        values = self.track(annotator, song).values[: self.steps]
        if len(values) < self.steps:
            raise DsamlError(
                f"{self.dataset.root}: song {song} has {len(values)} labels, fewer than {self.steps} steps"
            )
        return values

    def batch(self, annotators: Sequence[str], songs: Sequence[Sequence[str]]) -> Batch:
        """One row of songs per annotator; all rows of the same length. Tensors are (K, B, ...)."""
        labels = [[self._labels(who, song) for song in row] for who, row in zip(annotators, songs, strict=True)]
        flat, shape = [song for row in songs for song in row], (len(songs), len(songs[0]))
        x = torch.stack([self._inputs[song] for song in flat]).unflatten(0, shape)
        x = x.float() if x.dtype == torch.float16 else x  # raw audio is kept in half precision
        embedding = torch.stack([self._embeddings[song] for song in flat]).unflatten(0, shape)
        return Batch(x, embedding, torch.tensor(np.array(labels), dtype=torch.float32).to(x.device), self.stage)

    def support(self, tasks: Sequence[Task]) -> Batch:
        """Support sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.support for t in tasks])

    def query(self, tasks: Sequence[Task]) -> Batch:
        """Query sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.query for t in tasks])
