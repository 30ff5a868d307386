"""The arena's rows: what a method hears, how it is built and trained, and where that is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from dsaml.arena.base import ArenaConfig, Backbone, Personalizer
from dsaml.arena.fit import continued, fit, train
from dsaml.arena.gradient import Maml
from dsaml.arena.inputs import DsamlBackbone, adapter_features, dsaml_features, log_mel_statistics
from dsaml.arena.low_rank import LowRank
from dsaml.arena.methods import METHODS
from dsaml.arena.prototypes import Prototypes
from dsaml.arena.world import Asked, World, make_worlds
from dsaml.data.base import without_short
from dsaml.errors import DsamlError
from dsaml.experiment.prepare import folder_name
from dsaml.experiment.progress import training_bar
from dsaml.experiment.recipes import DMER_MODEL
from dsaml.experiment.run import Experiment
from dsaml.io import write_bytes_atomically
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.training import cross_song_tasks
from dsaml.runtime.closure import code_digest

log = logging.getLogger(__name__)

SMALL, FROZEN, ADAPTER = "log-mel statistics", "DSAML's features, frozen", "DSAML's adapter, frozen"
WHOLE = "DSAML, end to end"
"""What methods hear: what a song's slices look like, through a small backbone; z_l and z' of DSAML, through the same backbone; what
DSAML's adapter makes of a slice before its linear layer, from which z_l and z' come; and DSAML itself, with the method as its
last layer."""
VALIDATION_SUPPORTS = 2  # support sets of each validation listener

Tuned = Mapping[str, Any]
"""Settings of training."""
EMPTY: Tuned = MappingProxyType({})
Row = tuple[str, str]
"""What it hears, and the method."""
ROWS: tuple[Row, ...] = (
    *((heard, name) for heard in (SMALL, FROZEN) for name in METHODS),
    *((ADAPTER, name) for name in (Maml.name, Prototypes.name, LowRank.name)),
    (WHOLE, LowRank.name),
)


def label(row: Row) -> str:
    """How a row is called in the result file."""
    return f"{row[1]} | {row[0]}"


def full_clips(experiment: Experiment) -> Experiment:
    """The experiment without songs that are shorter than a clip, which the arena's methods do not take; their number is logged.

    Models that were trained without these songs are kept apart from those of all songs.
    """
    data, songs, _ = without_short(experiment.dataset, experiment.store.steps)
    if data is experiment.dataset:
        return experiment
    if songs:
        log.warning("%d songs of fewer than %d labels are left out of the arena", songs, experiment.store.steps)
    folder = experiment.checkpoints.with_name(folder_name(data, experiment.features))
    return dataclasses.replace(experiment, dataset=data, checkpoints=folder)


def fitting_config(experiment: Experiment) -> ArenaConfig:
    """The arena's budget, with as many query songs in a task as half of the training listeners have, and no more than usual."""
    data, config = experiment.dataset, ArenaConfig()
    listed = set(data.split.songs["train"])
    counts = sorted(len(listed & data.tracks.get(who, {}).keys()) for who in data.split.annotators["train"])
    most = counts[len(counts) // 2] - config.training.support_songs if counts else 1
    if most >= config.training.query_songs:
        return config
    log.warning("tasks of %d support and %d query songs", config.training.support_songs, max(1, most))
    return dataclasses.replace(config, training=dataclasses.replace(config.training, query_songs=max(1, most)))


@dataclass(frozen=True)
class Arena:
    """What all methods share."""

    experiment: Experiment
    config: ArenaConfig = field(default_factory=ArenaConfig)

    def sent(self, row: Row) -> Arena:
        """What a worker needs of it: log-mels where DSAML itself is built; other rows read what they hear from disk."""
        return self if row[0] == WHOLE else dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, features={}))

    def worlds(self, heard: str, seed: int, parts: Sequence[str]) -> dict[str, World]:
        """The worlds of some parts, for a kind of features."""
        return make_worlds(self.experiment.dataset, self.inputs(heard, seed), self.experiment.store.steps, parts)

    def inputs(self, heard: str, seed: int) -> dict[str, Tensor]:
        """What stands for each song; computed once and kept. DSAML's features are those of its training with the same seed."""
        experiment, steps = self.experiment, self.experiment.store.steps
        start = "" if heard == SMALL else experiment.checkpoint(DMER_MODEL, seed).name
        name = hashlib.sha256(f"{heard} {steps} {start} {code_digest('dsaml.arena.inputs')}".encode()).hexdigest()[:20]
        file = experiment.checkpoints / f"arena-inputs-{name}.safetensors"
        if file.is_file():
            return load_file(file)
        if heard == SMALL:
            inputs = log_mel_statistics(experiment.features, steps)
        else:
            model = experiment.model(DMER_MODEL, seed)[0]
            if heard == ADAPTER:
                inputs = adapter_features(model, experiment.features, steps)
            else:
                inputs = dsaml_features(model, experiment.features, steps, context=heard == FROZEN)
        write_bytes_atomically(file, save({song: x.contiguous() for song, x in inputs.items()}))
        return inputs

    def build(self, row: Row, seed: int, train: World, tuned: Tuned = EMPTY) -> Personalizer:
        """A method with random weights, to be trained with the settings ``tuned`` (:meth:`ArenaConfig.tuned`)."""
        (heard, name), config = row, self.config.tuned(tuned)
        torch.manual_seed(seed)
        if heard == WHOLE:
            model = self.experiment.model(DMER_MODEL, seed)[0]
            backbone: torch.nn.Module = DsamlBackbone(model, train.mean, train.deviation, config)
        else:
            backbone = Backbone(train.x.shape[-1], config)
        return METHODS[name](backbone, config)

    def file(self, row: Row, seed: int, kind: str, tuned: Tuned = EMPTY) -> Path:
        """Where something of a row is kept: named by settings, code, and the DSAML that it starts from.

        What is trained depends on the method's own file, not on the others: a new method leaves theirs as it is.
        """
        start = "" if row[0] == SMALL else self.experiment.checkpoint(DMER_MODEL, seed).name
        modules = [METHODS[row[1]].__module__, "dsaml.arena.fit", "dsaml.arena.inputs"]
        modules += ["dsaml.experiment.arena"] if kind == "json" else []
        code = [code_digest(module) for module in modules]
        text = f"{kind} {row} {self.config.tuned(tuned)} {start} {code}"
        return self.experiment.checkpoints / f"arena-{hashlib.sha256(text.encode()).hexdigest()[:20]}-{seed}.{kind}"

    def train(self, row: Row, seed: int, tuned: Tuned = EMPTY) -> tuple[Personalizer, dict[str, Any]]:
        """A trained method and what its training tells; from its checkpoint where there is one. Sees nothing of the test part."""
        (heard, name), worlds = row, self.worlds(row[0], seed, ("train", "validation"))
        method = self.build(row, seed, worlds["train"], tuned)
        if start := METHODS[name].start:
            continued(method, self.train((heard, start), seed, tuned)[0])
        with self.options(row, seed, tuned) as options:
            history = fit(method, worlds["train"], self.held_out(worlds["validation"]), options)
        return method, {} if history is None else {"best_step": history.best_step, "validation": history.validation}

    def tried(self, row: Row, seed: int, tuned: Tuned, until: int) -> float:
        """What so many steps of a training come to on validation listeners; they are kept, and gone on from."""
        worlds = self.worlds(row[0], seed, ("train", "validation"))
        method = self.build(row, seed, worlds["train"], tuned)
        try:
            with self.options(row, seed, tuned) as options:
                until_then = dataclasses.replace(options, until=until)
                history = train(method, worlds["train"], self.held_out(worlds["validation"]), until_then)
        except DsamlError as error:  # diverged: a way to train that does not count
            log.warning("%s with %s: %s", label(row), dict(tuned), error)
            return -1.0
        return max(score for _, score in history.validation)

    def held_out(self, validation: World, songs: int = 1) -> list[Asked]:
        """Tasks of validation listeners, of so many support songs."""
        return validation.batches(cross_song_tasks(self.experiment.store, "validation", VALIDATION_SUPPORTS, songs))

    @contextmanager
    def options(self, row: Row, seed: int, tuned: Tuned) -> Iterator[TrainingOptions]:
        """How a row's training runs, with a progress bar."""
        with training_bar(f"{label(row)}, seed {seed}", 1, "step") as progress:
            file = self.file(row, seed, "pt", tuned)
            yield TrainingOptions(checkpoint=file, resume=True, progress=progress, seed=seed)
