"""A small data set in memory: labels follow one feature of the audio, up or down by listener."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dsaml.audio.features import Features
from dsaml.config import MetaConfig, ModelConfig, SupervisedConfig
from dsaml.data import Dataset, Song, Split
from dsaml.data.annotations import Annotation
from dsaml.learn.batches import SongStore

STEPS = 12
MODEL = ModelConfig(dim=8, heads=2, layers=1, feed_forward=16, dropout=0.1, slice_shape=(3, 4))
SUPERVISED = SupervisedConfig(steps=12, batch_size=4, learning_rate=1e-3)
META = MetaConfig(
    steps=12,
    tasks_per_step=3,
    tasks_at_once=2,
    query_songs=3,
    inner_steps=2,
    inner_lr=0.05,
    adapt="no-adapter",
    train_adapter=False,
    learning_rate=1e-3,
)


@pytest.fixture
def store() -> SongStore:
    """The small data set of :func:`make_store`."""
    return make_store()


def make_store(steps: int = STEPS) -> SongStore:
    """24 songs of 12 steps, 6 listeners in two camps; an oracle without noise."""
    rng = np.random.default_rng(0)
    parts = {"train": range(12), "validation": range(12, 18), "test": range(18, 24)}
    songs = {part: tuple(f"s{k:02d}" for k in ids) for part, ids in parts.items()}
    annotators = {part: tuple(f"{part}-{k}" for k in range(2)) for part in parts}
    times = 15 + 0.5 * np.arange(steps)
    features, mean, tracks, oracle = {}, {}, {}, {"all": {}}
    for part, ids in songs.items():
        for song in ids:
            control = np.cumsum(rng.normal(size=steps)) * 0.2
            noise = rng.normal(0, 0.1, (steps, *MODEL.slice_shape))
            log_mel = torch.tensor(control[:, None, None] + noise, dtype=torch.float32)
            features[song] = Features(
                log_mel, torch.randn(1, MODEL.dim, generator=torch.Generator().manual_seed(len(features)))
            )
            for who, sign in zip(annotators[part], (1, -1), strict=True):
                curve = np.stack([0.3 * control, np.tanh(sign * control)], 1).clip(-1, 1)
                oracle.setdefault(who, {})[song] = Annotation(song, who, times, curve)
                noisy = (curve + rng.normal(0, 0.05, curve.shape)).clip(-1, 1)
                tracks.setdefault(who, {})[song] = Annotation(song, who, times, noisy)
            values = np.mean([tracks[who][song].values for who in annotators[part]], 0)
            mean[song] = Annotation(song, "all", times, values)
            oracle["all"][song] = Annotation(song, "all", times, np.stack([0.3 * control, 0 * control], 1))
    listed = {song: Song(song, None) for ids in songs.values() for song in ids}
    dataset = Dataset("synthetic", False, Path("memory"), listed, mean, tracks, Split(songs, annotators), (), oracle)
    return SongStore(dataset, features).clips_of(steps)
