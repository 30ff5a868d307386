"""MAML: adapt a copy of the model to one person on the support set, learn the starting point on the query set (Eq. 4).

All tasks of a batch run at once: the adapted weights carry a leading ``tasks`` dimension (see :mod:`dsaml.model.layers`).
:mod:`dsaml.learn.reference` does the same with learn2learn, the library that the field knows; a test holds the two together.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.learn.distributed import sum_over_ranks
from dsaml.learn.losses import total_loss
from dsaml.model.dsaml import DSAML, Output

STAGE = {"all": "audio", "no-adapter": "local", "head": "context"}
"""Where the adapted part of the model begins; everything before it is computed once for all tasks."""


@dataclass
class Batch:
    """Songs of several tasks, stacked.

    Attributes
    ----------
    x : Tensor, shape (K, B, T, ...)
        K tasks, B songs each; what the model takes at ``stage``.
    global_embedding : Tensor, shape (K, B, 1 or T, D)
    target : Tensor, shape (K, B, T, 2)
        Arousal, valence.
    stage : {"audio", "local", "context"}
        How far ``x`` has come: log-mel slices, z_l or z'.
    """

    x: Tensor
    global_embedding: Tensor
    target: Tensor
    stage: str = "audio"

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(self.x.to(device), self.global_embedding.to(device), self.target.to(device), self.stage)


@contextmanager
def mode(model: torch.nn.Module, name: Literal["train", "eval"]):
    """Dropout and batch statistics on ("train") or off ("eval") inside the block, and as before after it."""
    before = model.training
    model.train(name == "train")
    try:
        yield
    finally:
        model.train(before)


def adapted_names(model: DSAML, adapt: str) -> list[str]:
    """Names of the parameters that the inner loop changes: "all", "no-adapter" or "head" (ANIL)."""
    prefixes = {"all": ("",), "no-adapter": ("fusion.", "attention.", "predictor."), "head": ("predictor.",)}
    if adapt not in prefixes:
        raise DsamlError(f"adapt '{adapt}' is not known; choose one of: {', '.join(prefixes)}")
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes[adapt])]


def stack(model: DSAML, adapt: str, tasks: int) -> dict[str, Tensor]:
    """One copy of each adapted parameter per task, (K, ...): views of the base parameters, no memory."""
    parameters = dict(model.named_parameters())
    return {name: parameters[name].expand(tasks, *parameters[name].shape) for name in adapted_names(model, adapt)}


def enter(model: DSAML, batch: Batch, adapt: str) -> Batch:
    """Compute once what adaptation does not change: z_l for "no-adapter", z' for "head", nothing for "all"."""
    x, embedding, stage = batch.x, batch.global_embedding.flatten(0, 1), batch.stage
    if stage == "audio" and STAGE[adapt] != "audio":  # base weights, so no tasks dimension
        x, stage = model.local_features(x.flatten(0, 1)).unflatten(0, x.shape[:2]), "local"
    if stage == "local" and STAGE[adapt] == "context":
        x, stage = model(x.flatten(0, 1), embedding, stage="local").context.unflatten(0, x.shape[:2]), "context"
    if stage != STAGE[adapt]:
        raise DsamlError(f"adapt '{adapt}' starts from '{STAGE[adapt]}', but the batch holds '{stage}' features")
    return Batch(x, batch.global_embedding, batch.target, stage)


def run(model: DSAML, weights: dict[str, Tensor], batch: Batch) -> Output:
    """Forward pass of all tasks with their own weights; ``batch`` comes from :func:`enter`."""
    if len(batch.x) > 1:
        return functional_call(model, weights, (batch.x, batch.global_embedding, batch.stage))
    only = {name: weight.squeeze(0) for name, weight in weights.items()}  # one task: torch's own layers are faster
    only |= {name: buffer.clone() for name, buffer in model.named_buffers()}  # the base model's statistics stay its own
    output = functional_call(model, only, (batch.x[0], batch.global_embedding[0], batch.stage))
    return Output(*(None if part is None else part.unsqueeze(0) for part in vars(output).values()))


def inner_update(
    model: DSAML,
    weights: dict[str, Tensor],
    support: Batch,
    config: MetaConfig,
    steps: int | None = None,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """The operator U^k of Eq. 4: k gradient steps on the support set, for all tasks at once.

    Parameters
    ----------
    weights : dict of Tensor
        From :func:`stack`; not changed.
    support : Batch
        From :func:`enter`.
    steps : int, optional
        k; by default ``config.inner_steps``. With 0 the weights come back as they are.
    create_graph : bool
        Keep the graph of the inner gradients: second-order MAML.

    Returns
    -------
    dict of Tensor
        Adapted weights, differentiable with respect to the base parameters.
    """
    with mode(model, config.inner_mode):
        for step in range(config.inner_steps if steps is None else steps):
            loss = total_loss(run(model, weights, support), support.target, config.loss, model.config)
            gradients = torch.autograd.grad(loss.sum(), tuple(weights.values()), create_graph=create_graph)
            descend = (
                torch.sub if step == 0 or create_graph else Tensor.sub_
            )  # what nobody looks back at is overwritten
            weights = {
                name: descend(weight, gradient, alpha=config.inner_lr)  # one pass over the memory
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
    return weights


def meta_loss(model: DSAML, support: Batch, query: Batch, config: MetaConfig) -> Tensor:
    """Query loss after adaptation, for each task: shape (K,). Its mean is what the outer optimizer descends (Eq. 4).

    In first-order MAML nothing flows through the support set: adapter features of the support songs are detached.
    """
    with mode(model, config.query_mode):
        if STAGE[config.adapt] != support.stage:  # what adaptation leaves alone: all songs in one pass
            songs = support.x.shape[1]
            every_x = torch.cat((support.x, query.x), 1)
            every_global = torch.cat((support.global_embedding, query.global_embedding), 1)
            every = enter(model, Batch(every_x, every_global, query.target, query.stage), config.adapt)
            support = Batch(every.x[:, :songs], support.global_embedding, support.target, every.stage)
            query = Batch(every.x[:, songs:], query.global_embedding, query.target, every.stage)
        if not config.second_order:
            support = Batch(support.x.detach(), support.global_embedding, support.target, support.stage)
        weights = stack(model, config.adapt, support.x.shape[0])
        weights = inner_update(model, weights, support, config, create_graph=config.second_order)
        return total_loss(run(model, weights, query), query.target, config.loss, model.config)


class BatchStatistics:
    """What one meta-step tells about the base model's batch statistics, where each task normalises with its own (``adapt="all"``).

    Each task's mean and variance count alike, whatever chunk or process computed it, and together they are one update: the
    result depends on neither. Without it the statistics that ``test_mode="eval"`` reads would stay as they were initialised.
    """

    def __init__(self, model: DSAML, config: MetaConfig):
        wanted = config.adapt == "all" and config.query_mode == "train"
        self.model = model
        self.norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] if wanted else []
        self.total: Tensor | None = None  # of this process's tasks: (mean, variance) of every layer in turn

    def _flat(self) -> Tensor:
        return torch.cat([part for norm in self.norms for part in (norm.running_mean, norm.running_var)])

    def _put(self, flat: Tensor) -> None:
        parts = iter(flat.split([norm.num_features for norm in self.norms for _ in range(2)]))
        for norm in self.norms:
            norm.running_mean.copy_(next(parts))
            norm.running_var.copy_(next(parts))

    @torch.no_grad()
    def add(self, query: Batch) -> None:
        """Count the tasks of a chunk, with the base weights."""
        if not self.norms or query.stage != "audio":
            return
        before = self._flat()
        settings = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in self.norms]
        try:
            for norm in self.norms:
                norm.momentum = 1.0  # a pass leaves the statistics of its own batch
            with mode(self.model, "train"):
                for x in query.x:
                    self.model.local_features(x)
                    self.total = self._flat() + (0 if self.total is None else self.total)
        finally:
            for norm, (momentum, batches) in zip(self.norms, settings, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(batches)
            self._put(before)

    @torch.no_grad()
    def update(self, tasks: int) -> None:
        """Move the running statistics once, towards the mean over all ``tasks`` of the step, in all processes."""
        if self.total is None:
            return
        self._put(torch.lerp(self._flat(), sum_over_ranks(self.total) / tasks, self.norms[0].momentum))
        for norm in self.norms:
            norm.num_batches_tracked += 1


def personalize(
    model: DSAML,
    support: Batch,
    config: MetaConfig,
    steps: int | None = None,
    start: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Adapt to each task's support set for prediction: detached weights (K, ...), all modes as ``config`` names them.

    With ``start``, what an earlier call returned, adaptation goes on from there.
    """
    with mode(model, config.test_mode):
        with torch.no_grad():
            entered = enter(model, support, config.adapt)
        weights = stack(model, config.adapt, support.x.shape[0])
        if start is not None:
            weights = {name: weight.requires_grad_() for name, weight in start.items()}
        return {name: w.detach() for name, w in inner_update(model, weights, entered, config, steps).items()}


@torch.no_grad()
def predict(model: DSAML, weights: dict[str, Tensor], batch: Batch, config: MetaConfig) -> Tensor:
    """Arousal and valence (K, B, T, 2) with each task's own weights, in ``config.test_mode``."""
    with mode(model, config.test_mode):
        return run(model, weights, enter(model, batch, config.adapt)).prediction
