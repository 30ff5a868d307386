"""From song ids to tensors: features and labels of whole tasks, stacked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from dsaml.audio.features import Features
from dsaml.data.annotations import MEAN, Annotation
from dsaml.data.base import Dataset
from dsaml.errors import DsamlError
from dsaml.learn.maml import Batch, mode
from dsaml.learn.tasks import Task
from dsaml.model.dsaml import DSAML


class SongStore:
    """Features and labels of a data set's songs, ready to be stacked.

    A song that is shorter than a clip is padded: its last slice and its last label are repeated, so that batch statistics see
    nothing that is in no song, and :attr:`Batch.there` says where it has ended. Where every song fills a clip there is no mask.

    Parameters
    ----------
    features : mapping of song id to Features
        Log-mel slices (T, t, m) and global embeddings (1 or T, D).
    """

    def __init__(self, dataset: Dataset, features: Mapping[str, Features]):
        self.dataset, self.stage = dataset, "audio"
        self._take(dataset.clip_steps)
        self._features = features  # a song is looked up when it is asked for: a mapping may read it from a file then
        self._wide = any(len(f.global_embedding) > 1 for f in features.values())  # full songs have one vector per step

    def _with(self, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> SongStore:
        """The same store with every song's tensors changed, now."""
        store = copy.copy(self)
        store._features = {song: Features(*change(*self.inputs(song))) for song in self._features}
        return store

    def _take(self, steps: int) -> None:
        every = (self.dataset.mean, *self.dataset.tracks.values())
        self.steps, self.pads = steps, any(len(track) < steps for own in every for track in own.values())

    def clips_of(self, steps: int) -> SongStore:
        """The same store with other clips: so many steps of each song, from its first label on."""
        store = copy.copy(self)
        store._take(steps)
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
        """What the model takes at ``stage`` (T, ...), and the global embedding (1 or T, D); not padded."""
        x, embedding = self._features[song].log_mel, self._features[song].global_embedding
        return x[: self.steps], (embedding.expand(len(x), -1) if self._wide else embedding)[: self.steps]

    def _padded(self, x: Tensor) -> Tensor:
        """(T, ...) -> (steps, ...): the last one is repeated."""
        return x if len(x) == self.steps else torch.cat((x, x[-1:].expand(self.steps - len(x), *x.shape[1:])))

    def _row(self, annotator: str, song: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One song with one annotator's labels, padded: input, global embedding, labels, what is there (steps,)."""
        x, embedding = self.inputs(song)
        labels = torch.tensor(self.track(annotator, song).values[: self.steps], dtype=torch.float32)
        there = torch.arange(self.steps) < min(len(x), len(labels))
        embedding = self._padded(embedding) if len(embedding) > 1 else embedding
        return self._padded(x), embedding, self._padded(labels), there

    def batch(self, annotators: Sequence[str], songs: Sequence[Sequence[str]]) -> Batch:
        """One row of songs per annotator; all rows of the same length. Tensors are (K, B, ...)."""
        rows = [self._row(who, song) for who, row in zip(annotators, songs, strict=True) for song in row]
        shape = (len(songs), len(songs[0]))
        x, embedding, target, there = (torch.stack(parts).unflatten(0, shape) for parts in zip(*rows, strict=True))
        x = x.float() if x.dtype == torch.float16 else x  # raw audio is kept in half precision
        return Batch(x, embedding, target.to(x.device), self.stage, there.to(x.device) if self.pads else None)

    def support(self, tasks: Sequence[Task]) -> Batch:
        """Support sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.support for t in tasks])

    def query(self, tasks: Sequence[Task]) -> Batch:
        """Query sets of a batch of tasks."""
        return self.batch([t.annotator for t in tasks], [t.query for t in tasks])
