"""From song ids to tensors: features and labels of whole tasks, stacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

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
        self._features = features  # a song is looked up when it is asked for: a mapping may read it from a file then
        self._wide = any(len(f.global_embedding) > 1 for f in features.values())  # full songs have one vector per step

    def _with(self, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> SongStore:
        """The same store with every song's tensors changed, now."""
        store = copy.copy(self)
        store._features = {song: Features(*change(*self.inputs(song))) for song in self._features}
        return store

    def to(self, device: str | torch.device) -> SongStore:
        """The same store with every tensor on a device: songs are moved once, not batch by batch."""
        return self if str(device) == "cpu" else self._with(lambda x, embedding: (x.to(device), embedding.to(device)))

    def local(self, model: DSAML) -> SongStore:
        """A store of z_l instead of log-mels, for what leaves the adapter as it is: computed once per song, and only once."""
        if self.stage == "local":
            return self
        with torch.no_grad(), mode(model, "eval"):
            store = self._with(lambda x, embedding: (model.local_features(x[None])[0], embedding))
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
        x, embedding = self._features[song].log_mel, self._features[song].global_embedding
        return x[: self.steps], (embedding.expand(len(x), -1) if self._wide else embedding)[: self.steps]

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
        inputs, embeddings = zip(*(self.inputs(song) for song in flat), strict=True)
        x = torch.stack(inputs).unflatten(0, shape)
        x = x.float() if x.dtype == torch.float16 else x  # raw audio is kept in half precision
        embedding = torch.stack(embeddings).unflatten(0, shape)
        return Batch(x, embedding, torch.tensor(np.array(labels), dtype=torch.float32).to(x.device), self.stage)

    def support(self, tasks: Sequence[Task]) -> Batch:
        """Support sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.support for t in tasks])

    def query(self, tasks: Sequence[Task]) -> Batch:
        """Query sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.query for t in tasks])
