"""Supervised training and meta-training: one loop, two kinds of step."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsaml.annotations import MEAN
from dsaml.batches import SongStore
from dsaml.config import MetaConfig, SupervisedConfig
from dsaml.errors import DsamlError
from dsaml.losses import sequence_scores, total_loss
from dsaml.maml import engine, mode, predict
from dsaml.model import DSAML
from dsaml.results import write_bytes_atomically
from dsaml.tasks import Task, TaskSampler

log = logging.getLogger(__name__)


@dataclass
class History:
    """What a run did.

    Attributes
    ----------
    loss : list of float
        Training loss of each step.
    validation : list of (step, mean CCC over both dimensions)
    best_step : int
        Where validation was best; the weights of that step are the result.
    """

    loss: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0


@dataclass
class Run:
    """Where a run keeps its checkpoint, and whom it tells about progress."""

    checkpoint: Path | None = None  # written every ``save_every`` steps; None keeps everything in memory
    resume: bool = False  # continue from the checkpoint if there is one
    save_every: int = 50  # steps
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None


def best_device() -> str:
    """ "cuda" where there is a GPU, else "mps" on Apple silicon, else "cpu"."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _save(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_bytes_atomically(path, buffer.getvalue())
    except OSError as error:
        raise DsamlError(
            f"{path}: the checkpoint could not be written ({error.strerror}); the last good one is kept"
        ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint without executing code from it.

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise DsamlError(f"{path}: no such checkpoint; train first or correct the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DsamlError(
            f"{path}: not a checkpoint that can be read safely ({type(error).__name__}); train again"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise DsamlError(f"{path}: holds no model; was it written by 'python -m dsaml train'?")
    return state


def _fit(
    model: DSAML,
    step_loss: Callable[[int], Tensor],
    validate: Callable[[], float],
    config: SupervisedConfig | MetaConfig,
    validate_every: int,
    run: Run,
) -> History:
    """The loop both kinds of training share; leaves the best validated weights in ``model``."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    history, best, best_score, start = History(), None, -math.inf, 0
    if run.resume and run.checkpoint is not None and run.checkpoint.is_file():
        state = read_checkpoint(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        history, best, best_score, start = (
            History(**state["history"]),
            state["best"],
            state["best_score"],
            state["step"],
        )

    def save(step: int) -> None:
        if run.checkpoint is not None:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
            state |= {"history": vars(history), "best": best, "best_score": best_score, "step": step}
            _save(run.checkpoint, state)

    for step in range(start, config.steps):
        if config.schedule == "cosine":
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        model.train()
        loss = step_loss(step)
        if not torch.isfinite(loss):
            raise DsamlError(
                f"step {step}: the loss is {loss.item()}; lower the learning rate (the last checkpoint is kept)"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        history.loss.append(loss.item())
        run.progress(step + 1, config.steps, history.loss[-1])
        if (step + 1) % validate_every == 0 or step + 1 == config.steps:
            score = validate()
            history.validation.append((step + 1, score))
            if score > best_score:
                best_score, history.best_step = score, step + 1
                best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if (step + 1) % run.save_every == 0 or step + 1 == config.steps:
            save(step + 1)
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


def mean_ccc(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    """CCC per song, averaged over all songs and both dimensions; lists of (B, T, 2), B may differ."""
    return torch.cat([sequence_scores(p, t)[0] for p, t in zip(predictions, targets, strict=True)]).mean().item()


def train_supervised(
    model: DSAML, store: SongStore, config: SupervisedConfig, *, seed: int, validate_every: int, run: Run | None = None
) -> History:
    """Plain DMER training on averaged labels; validated on the averaged labels of the validation songs."""
    split = store.dataset.split.songs
    train, held_out = split["train"], split["validation"]
    labels = store.batch([MEAN], [held_out])

    def step_loss(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        songs = [train[i] for i in rng.permutation(len(train))[: config.batch_size]]
        batch = store.batch([MEAN], [songs])
        x, embedding, target = (part.squeeze(0) for part in (batch.x, batch.global_embedding, batch.target))
        return total_loss(model(x, embedding), target, config.loss, model.config)

    def validate() -> float:
        with torch.no_grad(), mode(model, "eval"):
            return mean_ccc([model(labels.x[0], labels.global_embedding[0]).prediction], [labels.target[0]])

    return _fit(model, step_loss, validate, config, validate_every, run or Run())


def validation_tasks(store: SongStore, supports: int = 2) -> list[Task]:
    """Fixed cross-song tasks of the validation annotators: ``supports`` one-song support sets each, the rest as query."""
    return cross_song_tasks(store, "validation", supports)


def cross_song_tasks(store: SongStore, part: str, supports: int, songs_per_support: int = 1) -> list[Task]:
    """Every annotator of a part, with evenly spread support songs of that part; query is all their other songs.

    Songs count with their first ``store.steps`` labels; shorter ones and annotators without a query song are left out.
    """
    dataset, tasks = store.dataset, []
    for who in dataset.split.annotators[part]:
        tracks = dataset.tracks.get(who, {})
        songs = [s for s in dataset.split.songs[part] if s in tracks and len(tracks[s]) >= store.steps]
        if len(songs) <= songs_per_support:
            continue
        offset = len(tasks)  # so that not everybody gets the same songs
        for k in range(supports):
            first = (offset + k * len(songs) // supports) % len(songs)
            chosen = tuple(songs[(first + j) % len(songs)] for j in range(songs_per_support))
            tasks.append(Task(who, chosen, tuple(s for s in songs if s not in chosen)))
    return tasks


def predict_tasks(
    model: DSAML,
    store: SongStore,
    tasks: list[Task],
    config: MetaConfig,
    steps: int | None = None,
    at_once: int = 16,
) -> list[Tensor]:
    """Adapt to each task's support set and predict its query songs: one (B, T, 2) tensor per task, on the CPU."""
    predictions: dict[int, Tensor] = {}
    by_size: dict[int, list[int]] = {}
    for index, task in enumerate(tasks):
        by_size.setdefault(len(task.query), []).append(index)  # tasks of one batch have equally many songs
    for indices in by_size.values():
        for first in range(0, len(indices), at_once):
            part = indices[first : first + at_once]
            chosen = [tasks[index] for index in part]
            weights = engine(config.engine).personalize(model, store.support(chosen), config, steps)
            out = predict(model, weights, store.query(chosen), config).cpu()
            predictions |= dict(zip(part, out, strict=True))
    return [predictions[index] for index in range(len(tasks))]


def query_labels(store: SongStore, tasks: list[Task]) -> list[Tensor]:
    """The labels that :func:`predict_tasks` should have predicted."""
    return [store.query([task]).target[0].cpu() for task in tasks]


def train_maml(
    model: DSAML, store: SongStore, config: MetaConfig, *, seed: int, validate_every: int, run: Run | None = None
) -> History:
    """Meta-training (Eq. 4) on annotator tasks (Eq. 6) or random tasks on averaged labels (Eq. 5).

    Validated on the annotators held out for it, whatever the training tasks were: adapt to one song, score the others.
    """
    dataset, split = store.dataset, store.dataset.split
    songs = set(split.songs["train"])
    if config.tasks == "annotator":
        sources = {who: dataset.tracks[who] for who in split.annotators["train"] if who in dataset.tracks}
    else:
        sources = {MEAN: dataset.mean}
    tracks = {who: {s: t for s, t in every.items() if s in songs} for who, every in sources.items()}
    sampler = TaskSampler(tracks, config.tasks, config.support_songs, config.query_songs, seed)
    fixed = model.adapter if not config.train_adapter else None
    if fixed is not None:
        fixed.requires_grad_(False)
        store = store.local(model)
    held_out = validation_tasks(store)
    if not held_out:
        raise DsamlError(
            f"{dataset.root}: no validation annotator rated two songs of {store.steps} steps; change the split"
        )
    truth = query_labels(store, held_out)

    def step_loss(step: int) -> Tensor:
        tasks = sampler.batch(step, config.tasks_per_step)
        return engine(config.engine).meta_loss(model, store.support(tasks), store.query(tasks), config).mean()

    def validate() -> float:
        return mean_ccc(predict_tasks(model, store, held_out, config), truth)

    history = _fit(model, step_loss, validate, config, validate_every, run or Run())
    if fixed is not None:
        fixed.requires_grad_(True)
    return history
