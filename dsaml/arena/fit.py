"""How every method of the arena is trained, chosen and asked: the same tasks, steps and selection for all."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsaml.arena.base import ArenaConfig, Personalizer, Prediction
from dsaml.arena.world import Asked, World
from dsaml.errors import DsamlError
from dsaml.learn.loop import History, TrainingOptions
from dsaml.learn.loop import fit as descend
from dsaml.learn.losses import sequence_scores


def draw_tasks(world: World, config: ArenaConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Songs of one meta-step, and tasks of as many listeners who rated enough of them as a step has tasks.

    Returns
    -------
    songs : Tensor, shape (songs,)
        Their places in the world.
    listeners : Tensor, shape (K,)
    chosen : Tensor, shape (K, support + query songs)
        Places in ``songs``.

    Raises
    ------
    DsamlError
        If nobody has enough songs for a task.
    """
    need, rated = config.training.support_songs + config.training.query_songs, world.rated.numpy()
    if rated.sum(1).max() < need:
        raise DsamlError(f"arena: no listener rated the {need} songs of a task; ask for fewer query songs")
    count = min(config.songs_per_step, len(world.songs))
    while True:  # where few listeners rated few songs, a draw can be in vain
        songs = rng.permutation(len(world.songs))[:count]
        able = [(k, np.flatnonzero(row)) for k, row in enumerate(rated[:, songs]) if row.sum() >= need]
        if able:
            break
        count = min(2 * count, len(world.songs))
    able = [able[k] for k in sorted(rng.permutation(len(able))[: config.training.tasks_per_step])]
    chosen = np.stack([rng.permutation(places)[:need] for _, places in able])
    return torch.from_numpy(songs), torch.tensor([k for k, _ in able]), torch.from_numpy(chosen)


def step_loss(method: Personalizer, world: World, seed: int, step: int) -> Tensor:
    """What a step of meta-training descends; its songs and tasks follow from ``seed`` and ``step``."""
    config = method.config
    songs, listeners, chosen = draw_tasks(world, config, np.random.default_rng([seed, step]))
    x = world.x[songs]
    h = method.encode(x + config.noise * torch.randn_like(x))[chosen]  # (K, songs, T, H)
    y, supports = world.y[listeners[:, None], songs[chosen]], config.training.support_songs
    return method.loss(h[:, :supports], y[:, :supports], h[:, supports:], y[:, supports:])


def train(method: Personalizer, world: World, held_out: Sequence[Asked], options: TrainingOptions) -> History:
    """Meta-train a method in place on the tasks of a world; it ends with its best weights on ``held_out``.

    Parameters
    ----------
    held_out : sequence of Asked
        Tasks of validation listeners.
    options : TrainingOptions
        Its seed is that of songs, tasks and dropout.
    """
    options = dataclasses.replace(options, validate_every=method.config.validate_every)
    return descend(
        method,
        lambda step: [step_loss(method, world, options.seed, step)],
        {"validation": lambda: mean_ccc(method, held_out)},
        method.config.training,
        options,
    )


def fit(method: Personalizer, world: World, held_out: Sequence[Asked], options: TrainingOptions) -> History | None:
    """:func:`train` a method, let it learn what it learns in closed form, and choose its settings on ``held_out``.

    Returns
    -------
    History or None
        None where the method takes the weights that it has (:attr:`Personalizer.start`).
    """
    history = None if method.start else train(method, world, held_out, options)
    method.eval()
    with torch.no_grad():
        method.prepare(method.encode(world.x), world.y)
        method.settle(held_out)
    choose(method, held_out)
    return history


def ask(method: Personalizer, asked: Sequence[Asked], labels: int | None = None) -> list[Prediction]:
    """Answers to tasks, of whose support songs the first ``labels`` are known, or all."""
    training = method.training
    method.eval()
    with torch.no_grad():
        answers = [
            method.predict(method.adapt(support, part.y[..., :labels, :]), query)
            for (support, query), part in zip(method.heard(asked), asked, strict=True)
        ]
    method.train(training)
    return answers


def mean_ccc(method: Personalizer, asked: Sequence[Asked], labels: int | None = None) -> float:
    """CCC of a method's answers, averaged over listeners, songs and dimensions."""
    answers = zip(ask(method, asked, labels), asked, strict=True)
    return torch.cat([sequence_scores(a.mean, part.target)[0].flatten() for a, part in answers]).mean().item()


def choose(
    method: Personalizer, asked: Sequence[Asked], labels: int | None = None
) -> list[tuple[dict[str, Any], float]]:
    """Keep the settings of ``method.grid`` that are best on validation tasks; returns what each one scored."""
    tried = []
    for settings in method.grid:
        method.settings = dict(settings)
        tried.append((settings, mean_ccc(method, asked, labels)))
    method.settings = dict(max(tried, key=lambda pair: pair[1])[0])
    return tried


def continued(method: Personalizer, start: Personalizer) -> Personalizer:
    """A method with the weights of another one, as far as both have them."""
    state = method.state_dict()
    method.load_state_dict(state | {name: copy.deepcopy(t) for name, t in start.state_dict().items() if name in state})
    return method
