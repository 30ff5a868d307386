"""The authors' released layers and their MAML, written plainly: what ``bench --recipe released`` is measured against.

torch's own layers in torch's own memory layout; the encoder runs twice, under the local and under the global mask; one task after
the other, through learn2learn. The weights have the names of :class:`dsaml.model.dsaml.DSAML`, so both sides can hold the same.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.config import MetaConfig, ModelConfig
from dsaml.learn.losses import total_loss
from dsaml.learn.maml import Batch, mode
from dsaml.learn.reference import import_learn2learn
from dsaml.model.dsaml import Output

MASKED = -10_000.0  # outside of the band


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU, pooling."""

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int], padding: tuple[int, int]):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=padding)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.norm(self.conv(x))), 2, padding=1)


class Adapter(nn.Module):
    """(B, T, t, m) -> (B, T, D)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.block1, self.block2 = Block(1, 8, (3, 1), (2, 1)), Block(8, 16, (3, 3), (1, 1))
        self.conv1x1 = nn.Conv2d(16, 1, 1)
        time, mel = config.slice_shape
        time, mel = (time + 2) // 2 + 1, (mel + 2) // 2 + 1
        self.linear = nn.Linear((time // 2 + 1) * (mel // 2 + 1), config.dim)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.conv1x1(self.block2(self.block1(log_mel.flatten(0, 1).unsqueeze(1))))
        return self.linear(x.flatten(1).unflatten(0, log_mel.shape[:2]))


class EncoderLayer(nn.Module):
    """One layer of BERT with relative-key positions: x (B, T, D), mask (1, 1, T, T) -> the same, and maps (B, heads, T, T)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.head_dim, self.limit = config.heads, config.dim // config.heads, config.max_positions
        self.query, self.key, self.value, self.output = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.distance = nn.Parameter(torch.randn(2 * self.limit - 1, self.head_dim))
        self.norm1 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.up, self.down = nn.Linear(config.dim, config.feed_forward), nn.Linear(config.feed_forward, config.dim)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)  # (B, heads, T, head_dim)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        index = torch.arange(x.shape[1])
        positions = F.embedding(index[:, None] - index[None, :] + self.limit - 1, self.distance)  # (T, T, head_dim)
        scores = query @ key.transpose(-1, -2) + torch.einsum("bhld,lrd->bhlr", query, positions)
        attention = F.softmax(scores / math.sqrt(self.head_dim) + mask, -1)
        mixed = (self.dropout(attention) @ value).transpose(1, 2).flatten(2)  # (B, T, D)
        x = self.norm1(x + self.dropout(self.output(mixed)))
        return self.norm2(x + self.dropout(self.down(F.gelu(self.up(x))))), attention


class Encoder(nn.Module):
    """Both scales, one after the other: z (B, T, D) -> z' (B, T, D) and their maps (B, layers, heads, T, T)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.contexts = (config.context_local, config.context_global)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        index, outputs, maps = torch.arange(z.shape[1]), [], []
        for context in self.contexts:
            mask = ((index[:, None] - index[None, :]).abs() > context).to(z.dtype) * MASKED
            x, every = z, []
            for layer in self.layers:
                x, attention = layer(x, mask[None, None])
                every.append(attention)
            outputs.append(x)
            maps.append(torch.stack(every, 1))
        return torch.sigmoid(outputs[0] + outputs[1]), *maps


class Predictor(nn.Module):
    """(B, T, D) -> (B, T, 2)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        units = config.dim // 4
        self.lstm = nn.LSTM(config.dim, units, batch_first=True, bidirectional=True)
        self.hidden, self.output = nn.Linear(2 * units, units), nn.Linear(units, 2)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.dropout(self.hidden(self.lstm(x)[0])))


class ReleasedDSAML(nn.Module):
    """The whole model, for :func:`dsaml.config.released` settings."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.adapter, self.fusion = Adapter(config), nn.Linear(config.dim, config.dim)
        self.attention, self.predictor = Encoder(config), Predictor(config)

    def forward(self, log_mel: Tensor, global_embedding: Tensor) -> Output:
        z = self.fusion(torch.sigmoid(self.adapter(log_mel) + global_embedding))
        context, attention_local, attention_global = self.attention(z)
        return Output(self.predictor(context), attention_local, attention_global, context)


def adapted(model: nn.Module, support: Batch, config: MetaConfig) -> nn.Module:
    """A clone of the model after ``config.inner_steps`` first-order steps on one task's support set."""
    learner = import_learn2learn().algorithms.MAML(model, lr=config.inner_lr, first_order=True).clone()
    with mode(learner, config.inner_mode):
        for _ in range(config.inner_steps):
            output = learner(support.x, support.global_embedding)
            learner.adapt(total_loss(output, support.target, config.loss, model.config))
    return learner


def meta_step(model: nn.Module, support: Batch, query: Batch, config: MetaConfig) -> None:
    """Gradients of one meta-step, task after task."""
    model.zero_grad(set_to_none=True)
    for number in range(len(support)):
        learner, task = adapted(model, support[number], config), query[number]
        with mode(learner, config.query_mode):
            loss = total_loss(learner(task.x, task.global_embedding), task.target, config.loss, model.config)
            (loss / len(support)).backward()
