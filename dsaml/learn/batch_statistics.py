"""The running batch statistics of a model whose tasks each normalise with their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsaml.config import MetaConfig
from dsaml.learn.maml import Batch, mode
from dsaml.model.dsaml import DSAML
from dsaml.runtime.distributed import sum_over_ranks


class BatchStatistics:
    """What one meta-step tells about the base model's batch statistics, where everything adapts (``adapt="all"``).

    Each task's mean and variance count alike, whatever chunk or process computed it, and together they are one update: the
    result depends on neither. Without it the statistics that ``test_mode="eval"`` reads would stay as they were initialised.
    """

    def __init__(self, model: DSAML, config: MetaConfig):
        wanted = config.adapt == "all" and config.query_mode == "train"
        self.model = model
        self.norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)] if wanted else []
        self.total: Tensor | None = None  # of this process's tasks: (mean, variance) of every layer in turn

    def _now(self) -> Tensor:
        return torch.cat([part for norm in self.norms for part in (norm.running_mean, norm.running_var)])

    @torch.no_grad()
    def add(self, query: Batch) -> None:
        """Count the tasks of a chunk, with the base weights; the model stays as it is."""
        if not self.norms:
            return
        before = [(norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in self.norms]
        try:
            for norm in self.norms:
                norm.momentum = 1.0  # a pass leaves the statistics of its own batch
            with mode(self.model, "train"):
                for x in query.x:
                    self.model.local_features(x)
                    self.total = self._now() + (0 if self.total is None else self.total)
        finally:
            for norm, (momentum, buffers) in zip(self.norms, before, strict=True):
                norm.momentum = momentum
                for buffer, value in zip(norm.buffers(), buffers, strict=True):
                    buffer.copy_(value)

    @torch.no_grad()
    def update(self, tasks: int) -> None:
        """Move the running statistics once, towards the mean over all ``tasks`` of the step, in all processes."""
        if self.total is None:
            return
        moved = torch.lerp(self._now(), sum_over_ranks(self.total) / tasks, self.norms[0].momentum)
        for norm, part in zip(self.norms, moved.split([2 * norm.num_features for norm in self.norms]), strict=True):
            norm.running_mean.copy_(part[: norm.num_features])
            norm.running_var.copy_(part[norm.num_features :])
            norm.num_batches_tracked += 1
