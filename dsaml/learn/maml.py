"""MAML: adapt a copy of the model to one person on the support set, learn the starting point on the query set (Eq. 4).

All tasks of a batch run at once: the adapted weights carry a leading ``tasks`` dimension (see :mod:`dsaml.model.layers`).
:mod:`dsaml.learn.reference` has the inner loop of learn2learn, the library that the field knows; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dsaml.config import MetaConfig
from dsaml.errors import DsamlError
from dsaml.learn.losses import total_loss
from dsaml.model.dsaml import DSAML, Output

ADAPTED = {"all": ("",), "no-adapter": ("fusion.", "attention.", "predictor."), "head": ("predictor.",)}
"""How the names of the parameters begin that the inner loop changes; "head" is ANIL."""
FIRST_STAGE = {"all": "audio", "no-adapter": "local", "head": "context"}
"""The stage at which these parts of the model begin; what comes before is computed once for all tasks."""

Weights = dict[str, Tensor]
"""Adapted parameters by name, each with its usual shape behind a leading K: one set for each of K tasks."""


@dataclass
class Batch:
    """Songs of several tasks, stacked: K tasks, B songs each."""

    x: Tensor  # (K, B, T, ...), what the model takes at ``stage``
    global_embedding: Tensor  # (K, B, 1 or T, D)
    target: Tensor  # (K, B, T, 2), arousal and valence
    stage: str = "audio"  # how far x has come: "audio" is log-mel slices, "local" z_l, "context" z'
    there: Tensor | None = None  # (K, B, T), False where a shorter song is padded; None: all songs are of one length

    def __len__(self) -> int:
        """K."""
        return len(self.x)

    def __getitem__(self, tasks: int | slice) -> Batch:
        """Some of the tasks; a single one without the leading dimension."""
        return self.map(lambda part: part[tasks])

    def map(self, change: Callable[..., Tensor], *others: Batch) -> Batch:
        """The same change of every tensor, of several batches together."""
        rows = zip(*((b.x, b.global_embedding, b.target, b.there) for b in (self, *others)), strict=True)
        x, embedding, target, there = (None if parts[0] is None else change(*parts) for parts in rows)
        return Batch(x, embedding, target, self.stage, there)

    @property
    def inputs(self) -> tuple[Tensor, Tensor, str, Tensor | None]:
        """What a model is called with."""
        return self.x, self.global_embedding, self.stage, self.there


@contextmanager
def mode(model: nn.Module, name: Literal["train", "eval"]) -> Iterator[None]:
    """Dropout and batch statistics on ("train") or off ("eval") inside the block, and as before after it."""
    before = model.training
    model.train(name == "train")
    try:
        yield
    finally:
        model.train(before)


def stack(model: nn.Module, adapt: str, tasks: int) -> Weights:
    """One copy for each task of the parameters that the inner loop changes: views of the base parameters, no memory."""
    if adapt not in ADAPTED:
        raise DsamlError(f"adapt '{adapt}' is not known; choose one of: {', '.join(ADAPTED)}")
    changed = {name: p for name, p in model.named_parameters() if name.startswith(ADAPTED[adapt])}
    return {name: parameter.expand(tasks, *parameter.shape) for name, parameter in changed.items()}


def precompute(model: DSAML, batch: Batch, adapt: str) -> Batch:
    """Compute once what adaptation does not change: z_l for "no-adapter", z' for "head", nothing for "all"."""
    first, shape = FIRST_STAGE[adapt], batch.x.shape[:2]
    if batch.stage == first:
        return batch
    flat = batch.map(lambda part: part.flatten(0, 1))  # base weights, so no tasks dimension
    if flat.stage == "audio" and first != "audio":
        flat = replace(flat, x=model.local_features(flat.x), stage="local")
    if flat.stage == "local" and first == "context":
        flat = replace(flat, x=model(*flat.inputs).context, stage="context")
    if flat.stage != first:
        raise DsamlError(f"adapt '{adapt}' starts from '{first}', but the batch holds '{batch.stage}' features")
    return replace(batch, x=flat.x.unflatten(0, shape), stage=first)


def forward_tasks(model: nn.Module, weights: Weights, batch: Batch) -> Output:
    """Forward pass of all tasks with their own weights; ``batch`` comes from :func:`precompute`."""
    if len(batch) > 1:
        return functional_call(model, weights, batch.inputs)
    only = {name: weight.squeeze(0) for name, weight in weights.items()}  # one task: torch's own layers are faster
    only |= {name: buffer.clone() for name, buffer in model.named_buffers()}  # the base model's statistics stay its own
    output = functional_call(model, only, batch[0].inputs)
    return Output(*(None if part is None else part.unsqueeze(0) for part in vars(output).values()))


def task_losses(model: DSAML, weights: Weights, batch: Batch, config: MetaConfig) -> Tensor:
    """Loss of each task with its own weights: shape (K,)."""
    return total_loss(forward_tasks(model, weights, batch), batch.target, config.loss, model.config, batch.there)


def inner_update(
    model: DSAML, weights: Weights, support: Batch, config: MetaConfig, steps: int, second_order: bool = False
) -> Weights:
    """The operator U^k of Eq. 4: k gradient steps on the support set, for all tasks at once.

    Parameters
    ----------
    weights : dict of Tensor
        From :func:`stack`; not changed.
    support : Batch
        From :func:`precompute`.
    steps : int
        k. With 0 the weights come back as they are.
    second_order : bool
        Keep the graph of the inner gradients.

    Returns
    -------
    dict of Tensor
        Adapted weights, differentiable with respect to the base parameters.
    """
    with mode(model, config.inner_mode):
        if not second_order:
            return _descend_at_once(model, weights, support, config, steps)
        for _ in range(steps):
            loss = task_losses(model, weights, support, config).sum()
            gradients = torch.autograd.grad(loss, tuple(weights.values()), create_graph=True)
            weights = {
                name: torch.sub(weight, gradient, alpha=config.inner_lr)
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
    return weights


def _descend_at_once(model: DSAML, weights: Weights, support: Batch, config: MetaConfig, steps: int) -> Weights:
    """First-order steps: each weight moves as soon as its gradient is there, which is then forgotten."""
    weights = {name: weight.clone() for name, weight in weights.items()}
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}  # the same memory, no past

    @torch.no_grad()
    def move(leaf: Tensor) -> None:
        leaf.sub_(leaf.grad, alpha=config.inner_lr)
        leaf.grad = None

    for leaf in leaves.values():
        leaf.register_post_accumulate_grad_hook(move)
    for _ in range(steps):
        task_losses(model, leaves, support, config).sum().backward(inputs=list(leaves.values()))
    return weights


InnerUpdate = Callable[..., Weights]
"""A function with the arguments and the result of :func:`inner_update`."""


def meta_loss(model: DSAML, support: Batch, query: Batch, config: MetaConfig, inner: InnerUpdate = inner_update) -> Tensor:
    """Query loss after adaptation, for each task: shape (K,). Its mean is what the outer optimizer descends (Eq. 4).

    In first-order MAML nothing flows through the support set: adapter features of the support songs are detached.
    """
    with mode(model, config.query_mode):
        if support.stage != FIRST_STAGE[config.adapt]:  # what adaptation leaves alone: all songs in one pass
            songs, every = support.x.shape[1], support.map(lambda *parts: torch.cat(parts, 1), query)
            every = precompute(model, every, config.adapt)
            support, query = every.map(lambda part: part[:, :songs]), every.map(lambda part: part[:, songs:])
        if not config.second_order:
            support = replace(support, x=support.x.detach())
        weights = stack(model, config.adapt, len(support))
        weights = inner(model, weights, support, config, config.inner_steps, config.second_order)
        return task_losses(model, weights, query, config)


def adapt(
    model: DSAML,
    support: Batch,
    config: MetaConfig,
    steps: int | None = None,
    start: Weights | None = None,
    inner: InnerUpdate = inner_update,
) -> Weights:
    """Adapt to each task's support set for prediction: detached weights, all modes as ``config`` names them.

    By default ``config.inner_steps`` steps. With ``start``, what an earlier call returned, adaptation goes on from there.
    """
    with mode(model, config.test_mode):
        with torch.no_grad():
            support = precompute(model, support, config.adapt)
        weights = stack(model, config.adapt, len(support))
        if start is not None:
            weights = {name: weight.requires_grad_() for name, weight in start.items()}
        weights = inner(model, weights, support, config, config.inner_steps if steps is None else steps)
        return {name: weight.detach() for name, weight in weights.items()}


@torch.no_grad()
def predict(model: DSAML, weights: Weights, batch: Batch, config: MetaConfig) -> Tensor:
    """Arousal and valence (K, B, T, 2) with each task's own weights, in ``config.test_mode``."""
    with mode(model, config.test_mode):
        return forward_tasks(model, weights, precompute(model, batch, config.adapt)).prediction
