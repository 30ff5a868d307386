"""Supervised training and meta-training: two kinds of step for the one loop of :mod:`dsaml.learn.loop`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dsaml.config import MetaConfig, SupervisedConfig
from dsaml.data.annotations import MEAN
from dsaml.errors import DsamlError
from dsaml.learn import maml, reference
from dsaml.learn.batches import SongStore
from dsaml.learn.distributed import share
from dsaml.learn.loop import History, Run, fit
from dsaml.learn.losses import sequence_scores, total_loss
from dsaml.learn.maml import BatchStatistics, mode
from dsaml.learn.tasks import Task, TaskSampler
from dsaml.model.dsaml import DSAML

T = TypeVar("T")

ENGINES: dict[str, ModuleType] = {"stacked": maml, "learn2learn": reference}
"""The module whose ``meta_loss``, ``personalize`` and ``predict`` do MAML's work: all tasks at once, or one by one."""


def engine(name: str) -> ModuleType:
    """One of ``ENGINES``.

    Raises
    ------
    DsamlError
        If there is no such engine.
    """
    if name not in ENGINES:
        raise DsamlError(f"engine '{name}' is not known; choose one of: {', '.join(ENGINES)}")
    return ENGINES[name]


def mean_ccc(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    """CCC per song, averaged over all songs and both dimensions; lists of (B, T, 2), B may differ."""
    return torch.cat([sequence_scores(p, t)[0] for p, t in zip(predictions, targets, strict=True)]).mean().item()


def train_supervised(
    model: DSAML,
    store: SongStore,
    config: SupervisedConfig,
    *,
    seed: int,
    validate_every: int,
    run: Run | None = None,
    adaptation: MetaConfig | None = None,
    adapted: bool = False,
) -> History:
    """Plain training on averaged labels, or on every annotator's own (``config.labels``); validated on averaged labels.

    Parameters
    ----------
    model : DSAML
        Trained in place, on ``run.device``.
    seed : int
        Of songs and dropout.
    validate_every : int
        Steps.
    adaptation : MetaConfig, optional
        How the model will adapt to a listener: it is then also validated as MAML is, after adaptation to each validation
        annotator.
    adapted : bool
        Whether the model ends with the weights that were best by that second score.

    Raises
    ------
    DsamlError
        See :func:`dsaml.learn.loop.fit`.
    """
    run = run or Run()
    model, store = model.to(run.device), store.to(run.device)
    plain = store
    if not config.train_adapter:
        store = _leave_adapter(model, store)
    split = store.dataset.split.songs
    train, held_out = split["train"], split["validation"]
    labels = store.batch([MEAN], [held_out])
    pairs = [(MEAN, song) for song in train]
    if config.labels == "annotator":
        tracks, people = store.dataset.tracks, store.dataset.split.annotators["train"]
        pairs = [(who, song) for who in people for song in train if song in tracks.get(who, {})]
        if not pairs:
            raise DsamlError(f"{store.dataset.root}: no labels of single annotators; train on averaged ones")

    def step_losses(step: int) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, step])
        chosen = [pairs[i] for i in rng.permutation(len(pairs))[: config.batch_size]]
        batch = store.batch([who for who, _ in chosen], [[song] for _, song in chosen])
        x, embedding, target = (part.squeeze(1) for part in (batch.x, batch.global_embedding, batch.target))
        yield total_loss(model(x, embedding, store.stage), target, config.loss, model.config)

    def validate() -> float:
        with torch.no_grad(), mode(model, "eval"):
            return mean_ccc([model(labels.x[0], labels.global_embedding[0], store.stage).prediction], [labels.target[0]])

    second = None
    if adaptation is not None and (held := validation_tasks(plain, adaptation)):
        truth = query_labels(plain, held)

        def second() -> float:
            ready = plain if adaptation.adapt == "all" else store if store is not plain else plain.local(model)
            return mean_ccc(predict_tasks(model, ready, held, adaptation), truth)

    try:
        return fit(
            model,
            step_losses,
            validate,
            config,
            seed=seed,
            validate_every=validate_every,
            run=run,
            shared=False,
            validate_adapted=second,
            adapted=adapted and second is not None,
        )
    finally:
        _release_adapter(model)


def _leave_adapter(model: DSAML, store: SongStore) -> SongStore:
    """Take the adapter out of training; a store of its features, computed once per song."""
    if model.adapter is None:
        return store
    model.adapter.requires_grad_(False)
    return store.local(model)


def _release_adapter(model: DSAML) -> None:
    if model.adapter is not None:
        model.adapter.requires_grad_(True)


def validation_tasks(store: SongStore, config: MetaConfig) -> list[Task]:
    """Fixed cross-song tasks of the validation annotators: two one-song support sets each, the rest as query.

    A model that adapts as a whole has one support set for each annotator, to keep validation short.
    """
    return cross_song_tasks(store, "validation", 1 if config.adapt == "all" else 2)


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
    model: DSAML, store: SongStore, tasks: list[Task], config: MetaConfig, steps: int | None = None
) -> list[Tensor]:
    """Adapt to each task's support set and predict its query songs: one (B, T, 2) tensor per task, on the CPU."""
    steps = config.inner_steps if steps is None else steps
    return predict_along(model, store, tasks, config, (steps,))[steps]


def predict_along(
    model: DSAML, store: SongStore, tasks: list[Task], config: MetaConfig, stops: Sequence[int]
) -> dict[int, list[Tensor]]:
    """The same after several numbers of inner steps, each going on from the one before."""
    work = engine(config.engine)
    predictions: dict[int, dict[int, Tensor]] = {stop: {} for stop in stops}
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, task in enumerate(tasks):  # tasks of one batch have equally many songs
        by_size.setdefault((len(task.support), len(task.query)), []).append(index)
    for indices in by_size.values():
        for part in chunks(indices, config.tasks_at_once):
            chosen = [tasks[index] for index in part]
            support, query = store.support(chosen), store.query(chosen)
            weights, before = None, 0
            for stop in sorted(stops):
                weights = work.personalize(model, support, config, stop - before, weights)
                before = stop
                out = work.predict(model, weights, query, config).cpu()
                predictions[stop] |= dict(zip(part, out, strict=True))
    return {stop: [found[index] for index in range(len(tasks))] for stop, found in predictions.items()}


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def query_labels(store: SongStore, tasks: list[Task]) -> list[Tensor]:
    """The labels that :func:`predict_tasks` should have predicted."""
    return [store.query([task]).target[0].cpu() for task in tasks]


def train_maml(
    model: DSAML, store: SongStore, config: MetaConfig, *, seed: int, validate_every: int, run: Run | None = None
) -> History:
    """Meta-training (Eq. 4) on annotator tasks (Eq. 6) or random tasks on averaged labels (Eq. 5).

    Validated on the annotators held out for it, whatever the training tasks were: adapt to one song, score the others. Under
    ``torchrun`` each process computes its share of every step's tasks; the result is that of one process but for dropout,
    which each process draws for itself.

    Parameters
    ----------
    model : DSAML
        Trained in place, on ``run.device``.
    seed : int
        Of tasks and dropout.
    validate_every : int
        Steps.

    Raises
    ------
    DsamlError
        If annotators have too few songs for a task, no validation annotator has two songs, or see :func:`dsaml.learn.loop.fit`.
    """
    run = run or Run()
    model, store = model.to(run.device), store.to(run.device)
    dataset, split = store.dataset, store.dataset.split
    songs = set(split.songs["train"])
    if config.tasks == "annotator":
        sources = {who: dataset.tracks[who] for who in split.annotators["train"] if who in dataset.tracks}
    else:
        sources = {MEAN: dataset.mean}
    tracks = {who: {s: t for s, t in every.items() if s in songs} for who, every in sources.items()}
    sampler = TaskSampler(tracks, config.tasks, config.support_songs, config.query_songs, seed)
    if not config.train_adapter:
        store = _leave_adapter(model, store)
    held_out = validation_tasks(store, config)
    if not held_out:
        raise DsamlError(
            f"{dataset.root}: no validation annotator rated two songs of {store.steps} steps; change the split"
        )
    truth = query_labels(store, held_out)

    def step_losses(step: int) -> Iterator[Tensor]:
        tasks = sampler.batch(step, config.tasks_per_step)
        statistics = BatchStatistics(model, config)
        for part in chunks(share(tasks), config.tasks_at_once):
            support, query = store.support(part), store.query(part)
            yield engine(config.engine).meta_loss(model, support, query, config).sum() / len(tasks)
            statistics.add(query)
        statistics.update(len(tasks))

    def validate() -> float:
        return mean_ccc(predict_tasks(model, store, held_out, config), truth)

    try:
        return fit(model, step_losses, validate, config, seed=seed, validate_every=validate_every, run=run)
    finally:
        _release_adapter(model)
