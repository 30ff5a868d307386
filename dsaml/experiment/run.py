"""A profile on a data set: every trained model a checkpoint on disk.

A second call, or a call after a kill, trains only what is missing.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dsaml.audio.features import Features, raw_slices
from dsaml.baselines import WAVEFORM_RATE, Baseline, BaselineConfig
from dsaml.config import AudioConfig, MetaConfig, Profile
from dsaml.data import Dataset
from dsaml.experiment.progress import training_bar
from dsaml.experiment.recipes import Recipe, digest, passes, recipes
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import History, TrainingOptions
from dsaml.learn.training import train_maml, train_supervised
from dsaml.model.dsaml import DSAML
from dsaml.runtime.workers import end_with_parent, side_by_side

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Experiment:
    """What a table is computed from."""

    profile: Profile
    dataset: Dataset
    features: Mapping[str, Features]  #: by song id
    checkpoints: Path  #: their folder, named by labels, features and code: see :func:`prepare`
    #: device, precision, logs of every training; seed and validations are each recipe's and the profile's
    options: TrainingOptions = TrainingOptions(resume=True)

    @property
    def workers(self) -> int:
        """Processes that train and score side by side; the numbers do not depend on how many there are."""
        return side_by_side(self.options.device)

    @cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Every model by name."""
        return recipes(self.profile)

    def inputs(self, name: str) -> Mapping[str, Features]:
        """What a model hears of each song: log-mels, or raw slices where it wants them."""
        model = self.recipes[name].model
        if isinstance(model, BaselineConfig) and model.raw:
            songs = {s: (self.dataset.songs[s], len(f.log_mel)) for s, f in self.features.items()}
            audio = AudioConfig(sample_rate=WAVEFORM_RATE, label_start=self.profile.audio.label_start)
            return raw_slices(songs, audio, self.checkpoints / "waveforms.safetensors")
        return self.features

    @property
    def store(self) -> SongStore:
        """The songs as 60-step sequences for DSAML, on the device of the options."""
        return SongStore(self.dataset, self.features).to(self.options.device)

    def store_for(self, name: str) -> SongStore:
        """The same for any model by name."""
        return SongStore(self.dataset, self.inputs(name)).to(self.options.device)

    def checkpoint(self, name: str, seed: int) -> Path:
        """Where a model is kept: named by its recipe, all that it starts from, and how it is computed."""
        computed = f"{self.profile.validate_every} {self.options.device} {self.options.precision}"
        settings = f"{digest(self.recipes, name)} {computed}"
        slug = "".join(c if c.isalnum() else "-" for c in name.lower())
        return self.checkpoints / f"{slug}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}-{seed}.pt"

    def song_passes(self, name: str, seed: int) -> int:
        """How many times a song went forward and backward through a model in training, its start included."""
        recipe, steps = self.recipes[name], len(self.model(name, seed)[1].loss)
        before = self.song_passes(recipe.start, seed) if recipe.start else 0
        return before + passes(recipe.training, steps)

    def model(self, name: str, seed: int, adapted: bool = False) -> tuple[DSAML | Baseline, History]:
        """A model by name: trained now, or read from its checkpoint where it is finished.

        With ``adapted`` a model that is not meta-trained has the weights that were best after adaptation to validation
        listeners, not as they are.
        """
        recipe, config = self.recipes[name], self.recipes[name].training
        model = self.model(recipe.start, seed)[0] if recipe.start else recipe.build(seed)
        if isinstance(config, MetaConfig):
            train, per_step = train_maml, (config.tasks_per_step, "task")
        else:
            train, per_step = partial(train_supervised, adaptation=recipe.adaptation, adapted=adapted), (config.batch_size, "song")
        with training_bar(f"{name}, seed {seed}", *per_step) as progress:
            own = {"checkpoint": self.checkpoint(name, seed), "seed": seed, "validate_every": self.profile.validate_every}
            options = dataclasses.replace(self.options, progress=progress, **own)
            return model, train(model, self.store_for(name), config, options)


def use_one_core() -> None:
    """Settings of a worker process: as many processes of one thread as there are cores use them best.

    Where the C library is glibc, freed memory stays with the process: a training step frees and takes the same hundreds of
    megabytes, and getting them back from the kernel page by page costs up to a quarter of the step.
    """
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block gets a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD, bytes


def train_one(experiment: Experiment, name: str, seed: int) -> None:
    """Train a model that is not on disk yet, in a process of one thread."""
    use_one_core()
    started = time.perf_counter()
    history = experiment.model(name, seed)[1]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    seconds = time.perf_counter() - started
    if seconds > 3:  # not merely read
        log.info("%s, seed %d: %.0f s, best validation at step %d", name, seed, seconds, history.best_step)


def parallel(workers: int) -> Parallel:
    """Processes for independent jobs; they end with this one."""
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    return Parallel(n_jobs=workers, initializer=end_with_parent, initargs=(os.getpid(),))


def train_all(experiment: Experiment, wanted: Iterable[tuple[str, int]], workers: int | None = None) -> None:
    """Train the (model, seed) pairs that are not on disk yet, ``workers`` at a time; first those that others start from.

    By default the experiment's own number of workers.
    """
    every, waiting, ready = experiment.recipes, set(wanted), set()
    while missing := {(every[n].start, seed) for n, seed in waiting if every[n].start} - waiting:
        waiting |= missing
    while waiting:
        startable = {(n, seed) for n, seed in waiting if every[n].start is None or (every[n].start, seed) in ready}
        jobs = (delayed(train_one)(experiment, name, seed) for name, seed in sorted(startable))
        parallel(workers or experiment.workers)(jobs)
        ready |= startable
        waiting -= startable
