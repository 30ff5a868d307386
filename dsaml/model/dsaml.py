"""DSAML, in the paper's own words; reads top to bottom like Figures 2 and 3.

The way of the data::

    log-mel slices -> ImagebindAdapter -> z_l
    audio -> frozen global encoder     -> z_g
    sigmoid(z_l + z_g) -> DualScaleAttention (Eq. 1, 2) -> SequencePredictor (BiLSTM) -> prediction

Every shape may have a leading ``tasks`` dimension (see :mod:`dsaml.model.layers`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsaml.config import ModelConfig
from dsaml.errors import DsamlError
from dsaml.model.layers import BatchNorm2d, BiLSTM, Conv2d, Dropout, LayerNorm, Linear
from dsaml.runtime import fast_adapter


@dataclass
class Output:
    """What the model returns."""

    prediction: Tensor  # (B, T, 2), arousal and valence
    attention_local: Tensor | None  # (B, layers, heads, T, T); None where this scale is ablated
    attention_global: Tensor | None  # the same
    context: Tensor  # (B, T, D), z' of the paper, the input of the sequence predictor


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, 2 x 2 max-pooling: (..., N, in, t, m) -> (..., N, out, t', m')."""

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int], padding: tuple[int, int]):
        super().__init__()
        self.conv = Conv2d(channels_in, channels_out, kernel, padding=padding)
        self.norm = BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)))
        return F.max_pool2d(x.flatten(0, -4), 2, padding=1).unflatten(0, x.shape[:-3])


class ImagebindAdapter(nn.Module):
    """Figure 3: two convolution blocks, a 1 x 1 convolution, and a linear layer to D; one log-mel slice at a time.

    Kernel sizes and channel counts are the released code's; the paper gives none. On a CPU :mod:`dsaml.runtime.fast_adapter`
    computes what the blocks do, unless ``fast`` is False.
    """

    fast = True

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.block1 = ConvBlock(1, 8, (3, 1), (2, 1))
        self.block2 = ConvBlock(8, 16, (3, 3), (1, 1))
        self.conv1x1 = Conv2d(16, 1, 1)
        time, mel = config.slice_shape
        time, mel = ((time + 2) // 2 + 1, (mel + 2) // 2 + 1)  # after block 1: convolution +2, pooling // 2 + 1
        self.features = (time // 2 + 1) * (mel // 2 + 1)  # 14 x 34 = 476 for 51 x 128
        self.linear = Linear(self.features, config.dim)

    def slice_features(self, log_mel: Tensor) -> Tensor:
        """(..., B, T, t, m) -> (..., B, T, features), before the linear layer."""
        x = log_mel.flatten(-4, -3)  # (..., B*T, t, m)
        if self.fast and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            x = fast_adapter.slice_features(self, x)  # (..., B*T, 1, t', m')
        else:
            x = self.conv1x1(self.block2(self.block1(x.unsqueeze(-3))))
        return x.flatten(-3).unflatten(-2, log_mel.shape[-4:-2])

    def forward(self, log_mel: Tensor) -> Tensor:
        """(..., B, T, t, m) -> z_l (..., B, T, D)."""
        return self.linear(self.slice_features(log_mel))


def band_mask(steps: int, context: int, device: torch.device | None = None) -> Tensor:
    """Eq. 1: True where ``|i - j| <= context``. Shape (steps, steps)."""
    index = torch.arange(steps, device=device)
    return (index[:, None] - index[None, :]).abs() <= context


def sinusoidal_positions(steps: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Fixed sine and cosine positions (Vaswani et al. 2017). Shape (steps, dim)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10_000.0) / dim))
    angle = torch.arange(steps, device=device)[:, None] * rate  # (steps, dim / 2)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, layer norm after each (post-LN). The softmax is written out: the maps are wanted."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads, self.head_dim = config.heads, config.dim // config.heads
        self.query, self.key, self.value, self.output = (Linear(config.dim, config.dim) for _ in range(4))
        self.norm1 = LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.up, self.down = Linear(config.dim, config.feed_forward), Linear(config.feed_forward, config.dim)
        self.norm2 = LayerNorm(config.dim, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        self.distance = None
        if config.positions == "relative-key":  # a learned vector for each distance l - r
            self.distance = nn.Parameter(torch.randn(2 * config.max_positions - 1, self.head_dim))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(-3, -2)  # (..., heads, T, head_dim)

    def _distance_scores(self, query: Tensor) -> Tensor:
        steps, table = query.shape[-2], self.distance  # (2 max - 1, head_dim), or stacked (tasks, ...)
        limit = (table.shape[-2] + 1) // 2
        if steps > limit:
            raise DsamlError(f"a sequence of {steps} steps is longer than the {limit} of its position embeddings; use windows")
        index = torch.arange(steps, device=query.device)
        gathered = table[..., index[:, None] - index[None, :] + limit - 1, :]  # (..., T, T, head_dim)
        return torch.einsum("...lc,lrc->...lr" if table.dim() == 2 else "k...lc,klrc->k...lr", query, gathered)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """x (..., S or 1, T, D), bias (S, 1, T, T) -> x (..., S, T, D), attention (..., S, heads, T, T)."""
        query, key, value = self._split(self.query(x)), self._split(self.key(x)), self._split(self.value(x))
        query = query / math.sqrt(self.head_dim)
        scores = query @ key.mT
        if self.distance is not None:
            scores = scores + self._distance_scores(query)
        attention = (scores + bias).softmax(-1)  # (..., S, heads, T, T)
        mixed = self.dropout(attention) @ value  # (..., heads, T, head_dim)
        mixed = self.output(mixed.transpose(-3, -2).flatten(-2))
        x = self.norm1(x + self.dropout(mixed))
        return self.norm2(x + self.dropout(self.down(F.gelu(self.up(x))))), attention


class DualScaleAttention(nn.Module):
    """One transformer with shared parameters under a local and a global band mask; z' = sigmoid(z'_l + z'_g) (Eq. 1, 2).

    Both scales run as one doubled batch; the first layer's projections, which know no mask, are shared. With one scale ablated
    its partner's output is z', without a sigmoid.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.layers))

    def forward(self, z: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """z (..., B, T, D) -> z' (..., B, T, D), local and global maps (..., B, layers, heads, T, T)."""
        config, steps = self.config, z.shape[-2]
        if config.positions == "sinusoidal":
            z = z * math.sqrt(config.dim) + sinusoidal_positions(steps, config.dim, z.device)
        scales = {"local": config.context_local} if config.local_attention else {}
        scales |= {"global": config.context_global} if config.global_attention else {}
        outside = torch.stack([~band_mask(steps, n, z.device) for n in scales.values()]).unsqueeze(1)  # (S, 1, T, T)
        if there is not None:  # no step of a song looks at what comes after its end
            padding = ~there[..., None, None, None, :] & ~band_mask(steps, 0, z.device)  # padding has itself to look at
            outside = outside | padding  # (..., B, S, 1, T, T)
        bias = z.new_zeros(outside.shape).masked_fill(outside, -torch.inf)
        x, layers = z.unsqueeze(-3), []  # (..., B, 1, T, D): the first layer projects once for both scales, then it is S
        for layer in self.layers:
            x, attention = layer(x, bias)
            layers.append(attention)
        maps = dict(zip(scales, torch.stack(layers, -4).unbind(-5), strict=True))  # each (..., B, layers, heads, T, T)
        out = x.sum(-3).sigmoid() if len(scales) == 2 else x.squeeze(-3)
        return out, maps.get("local"), maps.get("global")


class SequencePredictor(nn.Module):
    """BiLSTM and two fully connected layers: (..., T, D) -> (..., T, 2), arousal and valence, no activation."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        units = config.dim // 4
        self.lstm = BiLSTM(config.dim, units)
        self.hidden, self.output = Linear(2 * units, units), Linear(units, 2)
        self.dropout = Dropout(config.dropout)

    def forward(self, context: Tensor, there: Tensor | None = None) -> Tensor:
        return self.output(self.dropout(self.hidden(self.lstm(context, there))))


class DSAML(nn.Module):
    """The whole model.

    Parameters
    ----------
    config : ModelConfig
        Sizes, ablations and variant; ``ModelConfig()`` is the paper's, :func:`dsaml.config.released` the released code's.
    """

    def __init__(self, config: ModelConfig = ModelConfig()):
        super().__init__()
        self.config = config
        self.adapter = ImagebindAdapter(config) if config.adapter else None
        self.fusion = Linear(config.dim, config.dim) if config.fusion_linear else None
        self.attention = DualScaleAttention(config)
        self.predictor = SequencePredictor(config)

    def local_features(self, log_mel: Tensor) -> Tensor:
        """z_l (..., B, T, D); zeros where the adapter is ablated."""
        if self.adapter is None:
            return log_mel.new_zeros(*log_mel.shape[:-2], self.config.dim)
        return self.adapter(log_mel)

    def fuse(self, local: Tensor, global_embedding: Tensor) -> Tensor:
        """z = sigmoid(z_l + z_g): (..., B, T, D)."""
        z = (local + global_embedding).sigmoid()
        return z if self.fusion is None else self.fusion(z)

    def forward(
        self, x: Tensor, global_embedding: Tensor | None = None, stage: str = "audio", there: Tensor | None = None
    ) -> Output:
        """Predict arousal and valence for each step.

        Parameters
        ----------
        x : Tensor
            Log-mel slices (B, T, 51, 128) at stage "audio"; z_l (B, T, D) at "local"; z' (B, T, D) at "context". From the
            later stages on a caller goes on who has computed the earlier ones.
        global_embedding : Tensor, shape (B, 1, D) or (B, T, D)
            z_g; not used from stage "context" on.
        there : Tensor, shape (B, T), optional
            False from a song's end on, where songs of different lengths are padded; what is predicted there means nothing.

        Raises
        ------
        DsamlError
            If a shape does not fit the configuration.
        """
        if stage == "context":
            return Output(self.predictor(x, there), None, None, x)
        want, got = tuple(self.config.slice_shape), tuple(x.shape[-2:])
        if stage == "audio" and got != want:
            raise DsamlError(f"log-mel slices are {got}, the model wants {want}")
        width = None if global_embedding is None else global_embedding.shape[-1]
        if width != self.config.dim:
            raise DsamlError(f"the global embedding has width {width}, the model wants {self.config.dim}; use one encoder")
        local = self.local_features(x) if stage == "audio" else x
        context, attention_local, attention_global = self.attention(self.fuse(local, global_embedding), there)
        return Output(self.predictor(context, there), attention_local, attention_global, context)
