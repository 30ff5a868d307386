"""A profile on a data set: features in memory, every trained model a checkpoint on disk.

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
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from joblib import Parallel, delayed

from dsaml.baselines import WAVEFORM_RATE, Baseline, BaselineConfig
from dsaml.batches import SongStore
from dsaml.config import AudioConfig, MetaConfig, Profile
from dsaml.datasets import Dataset, Split, load_dataset, synthetic
from dsaml.encoders import GlobalEncoder, make_encoder
from dsaml.errors import DsamlError
from dsaml.features import FeatureCache, Features, waveform_slices
from dsaml.loop import History, Run
from dsaml.model import DSAML
from dsaml.progress import counter, training_bar
from dsaml.recipes import Recipe, digest, recipes
from dsaml.training import train_maml, train_supervised
from dsaml.workers import end_with_parent

log = logging.getLogger(__name__)

TRAINING_CODE = ("batches", "layers", "loop", "losses", "maml", "model", "tasks", "training")


@dataclass(frozen=True)
class Experiment:
    """What a table is computed from.

    Attributes
    ----------
    features : mapping of song id to Features
    runs : Path
        Folder of the checkpoints, named by settings, data and training code.
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

    def model(self, name: str, seed: int) -> tuple[DSAML | Baseline, History]:
        """A model by name: trained now, or read from its checkpoint where it is finished."""
        recipe = self.recipes[name]
        model = self.model(recipe.start, seed)[0] if recipe.start else recipe.build(seed)
        config = recipe.training
        if config is None:
            return model, History()
        train = train_maml if isinstance(config, MetaConfig) else train_supervised
        per_step, unit = (
            (config.tasks_per_step, "task") if isinstance(config, MetaConfig) else (config.batch_size, "song")
        )
        slug = "".join(c if c.isalnum() else "-" for c in name.lower())
        file = self.runs / f"{slug}-{digest(self.recipes, name)}-{seed}.pt"
        with training_bar(f"{name}, seed {seed}", per_step, unit) as progress:
            run = dataclasses.replace(self.run, checkpoint=file, progress=progress)
            history = train(
                model, self.store_for(name), config, seed=seed, validate_every=self.profile.validate_every, run=run
            )
        return model, history

    def meta(self, name: str) -> MetaConfig:
        """How a model adapts to a listener: its own training's inner loop, or the profile's for one without MAML."""
        config = self.recipes[name].training
        if isinstance(config, MetaConfig):
            return config
        if isinstance(self.recipes[name].model, BaselineConfig):
            return dataclasses.replace(self.profile.meta, adapt="all", engine="learn2learn", tasks_at_once=1)
        return self.profile.meta


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
    total = hashlib.sha256(f"{profile.digest()} {features.encoder.fingerprint} {split}".encode())
    for song in songs:
        total.update(data.mean[song].values.tobytes())
        total.update(made[song].log_mel.numpy().tobytes())
    for name in TRAINING_CODE:
        total.update((Path(__file__).parent / f"{name}.py").read_bytes())
    runs = cache / "runs" / total.hexdigest()[:12]
    return Experiment(profile, dataclasses.replace(data, split=split), made, runs)


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
    """Processes for independent jobs; they end with this one."""
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs", category=UserWarning)
    return Parallel(n_jobs=workers, initializer=end_with_parent, initargs=(os.getpid(),))


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
