"""Supervised training and meta-training: two kinds of step for the one loop of :mod:`dsaml.learn.loop`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dsaml.config import MetaConfig, SupervisedConfig
from dsaml.data.annotations import MEAN
from dsaml.errors import DsamlError
from dsaml.learn import maml, reference
from dsaml.learn.batch_statistics import BatchStatistics
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import History, TrainingOptions, fit
from dsaml.learn.losses import sequence_scores, total_loss
from dsaml.learn.maml import Batch, InnerUpdate, adapt, meta_loss, mode, predict
from dsaml.learn.tasks import Task, TaskSampler
from dsaml.model.dsaml import DSAML
from dsaml.runtime.distributed import ranks, share

T = TypeVar("T")
Progress = Callable[[int, int], None]

ENGINES: dict[str, InnerUpdate] = {"stacked": maml.inner_update, "learn2learn": reference.inner_update}
"""Who takes the inner steps: all tasks at once, or one by one through the library."""


def engine(name: str) -> InnerUpdate:
    """One of ``ENGINES``.

    Raises
    ------
    DsamlError
        If there is no such engine.
    """
    if name not in ENGINES:
        raise DsamlError(f"engine '{name}' is not known; choose one of: {', '.join(ENGINES)}")
    return ENGINES[name]


def train_supervised(
    model: DSAML,
    store: SongStore,
    config: SupervisedConfig,
    options: TrainingOptions = TrainingOptions(),
    *,
    adaptation: MetaConfig | None = None,
    adapted: bool = False,
) -> History:
    """Plain training on averaged labels, or on every annotator's own (``config.labels``); validated on averaged labels.

    Under ``torchrun`` each process computes the whole step, with dropout of its own, and their mean counts.

    Parameters
    ----------
    model : DSAML
        Trained in place, on ``options.device``.
    adaptation : MetaConfig, optional
        How the model will adapt to a listener: it is then also validated as MAML is. With ``adapted`` it ends with the weights
        that were best by this second score.

    Raises
    ------
    DsamlError
        See :func:`dsaml.learn.loop.fit`.
    """
    model, audio = model.to(options.device), store.to(options.device)
    dataset, split = store.dataset, store.dataset.split
    pairs = [(MEAN, song) for song in split.songs["train"]]
    if config.labels == "annotator":
        people, songs = split.annotators["train"], split.songs["train"]
        pairs = [(who, song) for who in people for song in songs if song in dataset.tracks.get(who, {})]
        if not pairs:
            raise DsamlError(f"{dataset.root}: no labels of single annotators; train on averaged ones")
    with _inputs(model, audio, config.train_adapter) as store:
        held_out = store.batch([MEAN], [split.songs["validation"]])[0]
        labels = labels_of(held_out)
        tasks = [] if adaptation is None else validation_tasks(audio, adaptation)
        truth = query_labels(audio, tasks)

        def step_losses(step: int) -> Iterator[Tensor]:
            order = np.random.default_rng([options.seed, step]).permutation(len(pairs))
            people, songs = zip(*(pairs[i] for i in order[: config.batch_size]), strict=True)
            batch = store.batch(people, [[song] for song in songs]).map(lambda part: part.squeeze(1))  # one song in each row
            yield total_loss(model(*batch.inputs), batch.target, config.loss, model.config, batch.there) / ranks()[1]

        def validate() -> float:
            with torch.no_grad(), mode(model, "eval"):
                prediction = model(*held_out.inputs).prediction
            return mean_ccc([prediction.cpu()], [labels])

        def validate_adapted() -> float:
            ready = audio if adaptation.adapt == "all" else store.local(model)
            return mean_ccc(predict_tasks(model, ready, tasks, adaptation), truth)

        return fit(
            model,
            step_losses,
            {"validation": validate} | ({"adapted": validate_adapted} if tasks else {}),
            config,
            options,
            best_by="adapted" if adapted and tasks else "validation",
        )


def train_maml(model: DSAML, store: SongStore, config: MetaConfig, options: TrainingOptions = TrainingOptions()) -> History:
    """Meta-training (Eq. 4) on annotator tasks (Eq. 6) or random tasks on averaged labels (Eq. 5).

    Validated on the annotators held out for it, whatever the training tasks were: adapt to one song, score the others. Under
    ``torchrun`` each process computes its share of every step's tasks; the result is that of one process but for dropout,
    which each process draws for itself.

    Parameters
    ----------
    model : DSAML
        Trained in place, on ``options.device``.

    Raises
    ------
    DsamlError
        If annotators have too few songs for a task, no validation annotator has two songs, or see :func:`dsaml.learn.loop.fit`.
    """
    model, store = model.to(options.device), store.to(options.device)
    dataset, split = store.dataset, store.dataset.split
    rated = {MEAN: dataset.mean}
    if config.tasks == "annotator":
        rated = {who: dataset.tracks[who] for who in split.annotators["train"] if who in dataset.tracks}
    songs = set(split.songs["train"])
    tracks = {who: {song: track for song, track in every.items() if song in songs} for who, every in rated.items()}
    sampler = TaskSampler(tracks, config.tasks, config.support_songs, config.query_songs, options.seed)
    inner = engine(config.engine)
    held_out = validation_tasks(store, config)
    if not held_out:
        raise DsamlError(
            f"{dataset.root}: no validation annotator rated two songs, one for support and one for query; change the split"
        )
    with _inputs(model, store, config.train_adapter) as store:
        truth = query_labels(store, held_out)

        def step_losses(step: int) -> Iterator[Tensor]:
            tasks = sampler.batch(step, config.tasks_per_step)
            statistics = BatchStatistics(model, config)
            for part in chunks(share(tasks), config.tasks_at_once):
                query = store.query(part)
                yield meta_loss(model, store.support(part), query, config, inner).sum() / len(tasks)
                statistics.add(query)
            statistics.update(len(tasks))

        def validate() -> float:
            return mean_ccc(predict_tasks(model, store, held_out, config), truth)

        return fit(model, step_losses, {"validation": validate}, config, options)


@contextmanager
def _inputs(model: DSAML, store: SongStore, train_adapter: bool) -> Iterator[SongStore]:
    """What a model is trained on: the songs, or, where the adapter stays as it is, its features of them."""
    if train_adapter or model.adapter is None:
        yield store
        return
    model.adapter.requires_grad_(False)
    try:
        yield store.local(model)
    finally:
        model.adapter.requires_grad_(True)


def validation_tasks(store: SongStore, config: MetaConfig) -> list[Task]:
    """Fixed cross-song tasks of the validation annotators: two one-song support sets each, the rest as query.

    A model that adapts as a whole has one support set for each annotator, to keep validation short.
    """
    return cross_song_tasks(store, "validation", 1 if config.adapt == "all" else 2)


def cross_song_tasks(store: SongStore, part: str, supports: int, songs_per_support: int = 1) -> list[Task]:
    """Every annotator of a part, with evenly spread support songs of that part, each choice once; query is all their other songs.

    Songs count with their first ``store.steps`` labels, shorter ones with all; annotators without a query song are left out.
    """
    dataset = store.dataset
    tasks: list[Task] = []
    for who in dataset.split.annotators[part]:
        tracks = dataset.tracks.get(who, {})
        songs = [s for s in dataset.split.songs[part] if s in tracks]
        if len(songs) <= songs_per_support:
            continue
        offset = len(tasks)  # so that not everybody gets the same songs
        for k in range(supports):
            first = (offset + k * len(songs) // supports) % len(songs)
            chosen = tuple(songs[(first + j) % len(songs)] for j in range(songs_per_support))
            task = Task(who, chosen, tuple(s for s in songs if s not in chosen))
            if task not in tasks[offset:]:  # of two songs there are two choices, however many are asked for
                tasks.append(task)
    return tasks


def chunks(items: list[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def predict_tasks(
    model: DSAML,
    store: SongStore,
    tasks: list[Task],
    config: MetaConfig,
    progress: Progress = lambda done, total: None,
) -> list[Tensor]:
    """Adapt to each task's support set and predict its query songs: one (B, T, 2) tensor per task, on the CPU.

    ``progress`` is called with (tasks done, tasks in all).
    """
    steps = config.inner_steps
    return predict_along(model, store, tasks, config, (steps,), progress)[steps]


def predict_along(
    model: DSAML,
    store: SongStore,
    tasks: list[Task],
    config: MetaConfig,
    stops: Sequence[int],
    progress: Progress = lambda done, total: None,
) -> dict[int, list[Tensor]]:
    """The same after several numbers of inner steps, each going on from the one before."""
    done, predictions = 0, {stop: dict[int, Tensor]() for stop in stops}
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, task in enumerate(tasks):  # tasks of one batch have equally many songs
        by_size.setdefault((len(task.support), len(task.query)), []).append(index)
    for part in (part for indices in by_size.values() for part in chunks(indices, config.tasks_at_once)):
        chosen = [tasks[index] for index in part]
        support, query = store.support(chosen), store.query(chosen)
        weights, before = None, 0
        for stop in sorted(stops):
            weights = adapt(model, support, config, stop - before, weights, engine(config.engine))
            before = stop
            out = predict(model, weights, query, config).cpu()
            predictions[stop] |= dict(zip(part, out, strict=True))
        done += len(part)
        progress(done, len(tasks))
    return {stop: [found[index] for index in range(len(tasks))] for stop, found in predictions.items()}


def query_labels(store: SongStore, tasks: list[Task]) -> list[Tensor]:
    """The labels that :func:`predict_tasks` should have predicted, one (B, T, 2) per task; NaN where a song has ended."""
    return [labels_of(store.query([task])[0]) for task in tasks]


def labels_of(songs: Batch) -> Tensor:
    """Labels (B, T, 2) of one task's songs, on the CPU; NaN where a song has ended."""
    target = songs.target if songs.there is None else songs.target.masked_fill(~songs.there.unsqueeze(-1), torch.nan)
    return target.cpu()


def mean_ccc(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> float:
    """CCC per song, averaged over all songs and both dimensions; lists of (B, T, 2), B may differ, targets may end in NaN."""

    def each(prediction: Tensor, target: Tensor) -> Tensor:
        there = ~target[..., 0].isnan()
        return sequence_scores(prediction, target, None if there.all() else there)[0]

    return torch.cat([each(p, t) for p, t in zip(predictions, targets, strict=True)]).mean().item()
