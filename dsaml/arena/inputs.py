"""What the methods hear: statistics of log-mels, or DSAML's own features; frozen, or trained with the method."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dsaml.arena.base import ArenaConfig
from dsaml.audio.features import Features
from dsaml.errors import DsamlError
from dsaml.learn.maml import mode
from dsaml.model.dsaml import DSAML


def log_mel_statistics(features: Mapping[str, Features], steps: int) -> dict[str, Tensor]:
    """Mean and standard deviation over time of each band of each slice: (T, 2 mel) by song."""
    return {song: slice_statistics(f.log_mel[:steps].float()) for song, f in features.items()}


def slice_statistics(log_mel: Tensor) -> Tensor:
    """Mean and standard deviation over time of each band of each slice: (T, time, mel) -> (T, 2 mel)."""
    return torch.cat((log_mel.mean(1), log_mel.std(1)), -1)


@torch.no_grad()
def dsaml_features(model: DSAML, features: Mapping[str, Features], steps: int, *, context: bool) -> dict[str, Tensor]:
    """z_l beside z' (``context``), or beside z_g, from which z' can be computed: (T, 2 D) by song."""
    out = {}
    with mode(model, "eval"):
        for song, f in features.items():
            local = model.local_features(f.log_mel[None, :steps].float())  # (1, T, D)
            embedding = f.global_embedding[None, :steps]  # (1, 1 or T, D)
            second = model(local, embedding, "local").context if context else embedding.expand_as(local)
            out[song] = torch.cat((local, second), -1)[0]
    return out


@torch.no_grad()
def adapter_features(model: DSAML, features: Mapping[str, Features], steps: int) -> dict[str, Tensor]:
    """What DSAML's adapter makes of each slice before its linear layer to D: (T, features) by song."""
    if model.adapter is None:
        raise DsamlError("arena: this DSAML has no adapter")
    with mode(model, "eval"):
        return {song: model.adapter.slice_features(f.log_mel[None, :steps].float())[0] for song, f in features.items()}


class DsamlBackbone(nn.Module):
    """DSAML's dual-scale attention in place of the small backbone, trained with the method; the adapter stays as it is.

    Parameters
    ----------
    model : DSAML
        The weights that training starts from; copied.
    mean, deviation : Tensor, shape (2 D,)
        Of z_l and z_g: the model wants them as they were before they were standardized.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: DSAML, mean: Tensor, deviation: Tensor, config: ArenaConfig):
        super().__init__()
        self.model = copy.deepcopy(model)
        self.model.adapter, self.model.predictor = None, None
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.norm = nn.LayerNorm(2 * model.config.dim)
        self.last = nn.Linear(2 * model.config.dim, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """z_l beside z_g, standardized (..., T, 2 D) -> (..., T, H)."""
        local, embedding = (x * self.deviation + self.mean).flatten(0, -3).chunk(2, -1)  # (B, T, D) each
        context = self.model.attention(self.model.fuse(local, embedding))[0]
        return self.last(self.norm(torch.cat((local, context), -1))).unflatten(0, x.shape[:-2])
