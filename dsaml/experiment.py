"""A profile on a data set: features in memory, every trained model a checkpoint on disk.

A second call, or a call after a kill, trains only what is missing.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from dsaml.baselines import WAVEFORM_RATE, Baseline, BaselineConfig
from dsaml.batches import SongStore
from dsaml.closure import code_digest
from dsaml.config import AudioConfig, MetaConfig, Profile, SupervisedConfig
from dsaml.datasets import Dataset, Split, load_dataset, synthetic
from dsaml.encoders import GlobalEncoder, make_encoder
from dsaml.errors import DsamlError
from dsaml.features import FeatureCache, Features, waveform_slices
from dsaml.loop import History, Run
from dsaml.model import DSAML
from dsaml.progress import counter, training_bar
from dsaml.recipes import Recipe, digest, passes, recipes
from dsaml.training import train_maml, train_supervised

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """What a table is computed from.

    Attributes
    ----------
    features : mapping of song id to Features
    runs : Path
        Folder of the checkpoints, named by labels, features and code: see :func:`prepare`.
    run : Run
        Device, precision, logs of every training.
    """

    profile: Profile
    dataset: Dataset
    features: Mapping[str, Features]
    runs: Path
    run: Run = field(default_factory=lambda: Run(resume=True))

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Every model by name."""
        return recipes(self.profile)

    def inputs(self, name: str) -> Mapping[str, Features]:
        """What a model hears of each song: log-mels, or raw slices where it wants them."""
        model = self.recipes[name].model
        if isinstance(model, BaselineConfig) and model.raw:
            songs = {s: (self.dataset.songs[s], len(f.log_mel)) for s, f in self.features.items()}
            audio = dataclasses.replace(AudioConfig(), sample_rate=WAVEFORM_RATE)
            return waveform_slices(songs, audio, self.runs / "waveforms.safetensors")
        return self.features

    @property
    def store(self) -> SongStore:
        """The songs as 60-step sequences for DSAML, on the run's device."""
        return SongStore(self.dataset, self.features).to(self.run.device)

    def store_for(self, name: str) -> SongStore:
        """The same for any model by name."""
        return SongStore(self.dataset, self.inputs(name)).to(self.run.device)

    def checkpoint(self, name: str, seed: int) -> Path:
        """Where a model is kept: named by its recipe, all that it starts from, and how it is computed."""
        settings = f"{digest(self.recipes, name)} {self.profile.validate_every} {self.run.device} {self.run.precision}"
        slug = "".join(c if c.isalnum() else "-" for c in name.lower())
        return self.runs / f"{slug}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}-{seed}.pt"

    def song_passes(self, name: str, seed: int) -> int:
        """How many times a song went forward and backward through a model in training, its start included."""
        recipe, steps = self.recipes[name], len(self.model(name, seed)[1].loss)
        before = self.song_passes(recipe.start, seed) if recipe.start else 0
        return before + (passes(recipe.training, steps) if recipe.training else 0)

    def model(self, name: str, seed: int, adapted: bool = False) -> tuple[DSAML | Baseline, History]:
        """A model by name: trained now, or read from its checkpoint where it is finished.

        With ``adapted`` a model that is not meta-trained has the weights that were best after adaptation to validation
        listeners, not as they are.
        """
        recipe = self.recipes[name]
        model = self.model(recipe.start, seed)[0] if recipe.start else recipe.build(seed)
        config = recipe.training
        if config is None:
            return model, History()
        train: Callable[..., History] = train_maml
        if isinstance(config, SupervisedConfig):
            train = partial(train_supervised, adaptation=recipe.adaptation, adapted=adapted)
        per_step, unit = (
            (config.tasks_per_step, "task") if isinstance(config, MetaConfig) else (config.batch_size, "song")
        )
        file = self.checkpoint(name, seed)
        with training_bar(f"{name}, seed {seed}", per_step, unit) as progress:
            run = dataclasses.replace(self.run, checkpoint=file, progress=progress)
            history = train(
                model, self.store_for(name), config, seed=seed, validate_every=self.profile.validate_every, run=run
            )
        return model, history


def prepare(
    profile: Profile,
    cache: Path,
    dataset: str = "synthetic",
    root: Path | None = None,
    encoder: GlobalEncoder | None = None,
    workers: int = 2,
) -> Experiment:
    """A data set with its features; by default the embedded corpus, which is made under ``cache`` if it is not there.

    Songs without audio are left out, with a count in the log.

    Raises
    ------
    DsamlError
        If the data set or its audio is unusable.
    """
    started = time.perf_counter()
    if root is None:
        with counter("corpus") as progress:
            root = synthetic.synthesize(cache / "corpus", workers=workers, progress=progress)
    data = load_dataset(dataset, root)
    features = FeatureCache(cache / "features", profile.audio, encoder or make_encoder(profile, None))
    wanted = [song for part in data.split.songs.values() for song in part if song in data.mean]
    songs = {
        s: (data.songs[s], len(data.mean[s])) for s in wanted if s in data.songs and data.songs[s].audio is not None
    }
    if len(songs) < len(wanted):
        log.warning(
            "%d of %d songs have no audio under %s and are left out", len(wanted) - len(songs), len(wanted), root
        )
    split = Split(
        {part: tuple(s for s in ids if s in songs) for part, ids in data.split.songs.items()}, data.split.annotators
    )
    if empty := [part for part, ids in split.songs.items() if not ids]:
        raise DsamlError(
            f"{root}: no song with audio and labels in the part {', '.join(empty)}; 'check' lists what is missing"
        )
    with counter("features") as progress:
        made = features.fill(songs, workers, progress)
    log.info("features of %d songs: %.0f s", len(songs), time.perf_counter() - started)
    data = dataclasses.replace(data, split=split)
    runs = cache / "runs" / f"{content_digest(data, made)[:8]}-{code_digest('dsaml.experiment')[:8]}"
    return Experiment(profile, data, made, runs)


def content_digest(data: Dataset, features: Mapping[str, Features]) -> str:
    """SHA-256 of everything in the data that a number can depend on: split, every label of everybody, true curves, features.

    The version of torch counts too: its kernels round.
    """
    total = hashlib.sha256(f"{torch.__version__} {data.name} {data.real} {data.split}".encode())
    sources = {"mean": {"": data.mean}, "tracks": data.tracks, "oracle": data.oracle}
    for kind, people in sources.items():
        for who in sorted(people):
            for song in sorted(people[who]):
                track = people[who][song]
                total.update(f"{kind}\0{who}\0{song}\0{track.values.shape}".encode())
                total.update(track.times.tobytes() + np.ascontiguousarray(track.values).tobytes())
    for song in sorted(features):
        for tensor in (features[song].log_mel, features[song].global_embedding):
            total.update(f"{song}\0{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def use_one_core() -> None:
    """Settings of a worker process: two processes of one thread use two cores best.

    Where the C library is glibc, freed memory stays with the process: a training step frees and takes the same hundreds of
    megabytes, and getting them back from the kernel page by page costs up to a quarter of the step.
    """
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes


def _train(experiment: Experiment, name: str, seed: int) -> None:
    use_one_core()
    started = time.perf_counter()
    history = experiment.model(name, seed)[1]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds = time.perf_counter() - started
    if seconds > 3:  # not merely read
        log.info("%s, seed %d: %.0f s, best validation at step %d", name, seed, seconds, history.best_step)


def parallel(workers: int) -> Parallel:
    """Processes for independent jobs."""
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    return Parallel(n_jobs=workers)


def train_all(experiment: Experiment, wanted: Iterable[tuple[str, int]], workers: int = 2) -> None:
    """Train the (model, seed) pairs that are not on disk yet, ``workers`` at a time; first those that others start from."""
    every, waiting, ready = experiment.recipes, set(wanted), set()
    while missing := {(every[n].start, seed) for n, seed in waiting if every[n].start} - waiting:
        waiting |= missing
    while waiting:
        stage = {(n, seed) for n, seed in waiting if every[n].start is None or (every[n].start, seed) in ready}
        parallel(workers)(delayed(_train)(experiment, name, seed) for name, seed in sorted(stage))
        ready |= stage
        waiting -= stage
