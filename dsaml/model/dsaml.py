"""DSAML, in the paper's own words; reads top to bottom like Figures 2 and 3.

The way of the data::

    log-mel slices -> ImagebindAdapter -> z_l
    audio -> frozen global encoder     -> z_g
    sigmoid(z_l + z_g) -> DualScaleAttention (Eq. 1, 2) -> SequencePredictor (BiLSTM) -> prediction
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dsaml.config import ModelConfig, released
from dsaml.errors import DsamlError
from dsaml.model.layers import BatchNorm2d, BiLSTM, Conv2d, Dropout, LayerNorm, Linear


@dataclass
class Output:
    """What the model returns; every shape may have a leading ``tasks`` dimension (see :mod:`dsaml.model.layers`).

    Attributes
    ----------
    prediction : Tensor, shape (B, T, 2)
        Arousal, valence.
    attention_local, attention_global : Tensor, shape (B, layers, heads, T, T), or None where that scale is ablated
    context : Tensor, shape (B, T, D)
        z' of the paper, the input of the sequence predictor.
    """

    prediction: Tensor
    attention_local: Tensor | None
    attention_global: Tensor | None
    context: Tensor


def band_mask(steps: int, context: int, device: torch.device | None = None) -> Tensor:
    """Eq. 1: True where ``|i - j| <= context``. Shape (steps, steps)."""
    index = torch.arange(steps, device=device)
    return (index[:, None] - index[None, :]).abs() <= context


def sinusoidal_positions(steps: int, dim: int, device: torch.device | None = None) -> Tensor:
    """Fixed sine and cosine positions (Vaswani et al. 2017). Shape (steps, dim)."""
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10_000.0) / dim))
    angle = torch.arange(steps, device=device)[:, None] * rate  # (steps, dim / 2)
    return torch.stack((angle.sin(), angle.cos()), -1).flatten(1)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, ReLU, 2 x 2 max-pooling (Figure 3).

    ReLU and maximum change places: the same result, and ReLU has a quarter of the work. With fixed statistics (eval mode) the
    normalisation is part of the convolution's weights. Pooling runs several times faster with channels last.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int], padding: tuple[int, int]):
        super().__init__()
        self.conv = Conv2d(channels_in, channels_out, kernel, padding=padding)
        self.norm = BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.weight.dim() == 5:  # stacked weights
            x = self.norm(self.conv(x))
        elif self.norm.training:
            if x[..., :1, :, :].numel() * self.conv.out_channels > self.LARGE and torch.is_grad_enabled():
                return self._in_less_memory(x)
            x = self.norm(self.conv(x)).contiguous(memory_format=torch.channels_last)
        else:
            scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()  # (channels,)
            bias = (self.conv.bias - self.norm.running_mean) * scale + self.norm.bias
            x = F.conv2d(x, self.conv.weight * scale[:, None, None, None], bias, padding=self.conv.padding)
            x = x.contiguous(memory_format=torch.channels_last)
        pooled = F.relu(F.max_pool2d(x.flatten(0, -4), 2, padding=1))
        return pooled.unflatten(0, x.shape[:-3])

    LARGE = 2**24  # activations of one layer; more of them are computed again in the backward pass instead of kept

    def _in_less_memory(self, x: Tensor) -> Tensor:
        """The same with the batch's statistics; only the block's input is kept for the backward pass."""
        conv, norm = self.conv, self.norm

        def work(x: Tensor, kernel: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
            x = F.conv2d(x, kernel, shift, padding=conv.padding)
            statistics = torch.var_mean(x.detach(), (0, 2, 3))
            x = F.batch_norm(x, None, None, weight, bias, True, 0.0, norm.eps)
            return F.relu(F.max_pool2d(x, 2, padding=1)), *statistics

        weights = (conv.weight, conv.bias, norm.weight, norm.bias)
        x, var, mean = checkpoint(work, x, *weights, use_reentrant=False, preserve_rng_state=False)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var, norm.momentum)
        norm.num_batches_tracked += 1
        return x


class ImagebindAdapter(nn.Module):
    """Figure 3: two convolution blocks, a 1 x 1 convolution, and a linear layer to D; one log-mel slice at a time.

    Kernel sizes and channel counts are the released code's; the paper gives none.
    """

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
        x = log_mel.flatten(-4, -3).unsqueeze(-3)  # (..., B*T, 1, t, m)
        x = self.conv1x1(self.block2(self.block1(x)))  # (..., B*T, 1, t', m')
        return x.flatten(-3).unflatten(-2, log_mel.shape[-4:-2])

    def forward(self, log_mel: Tensor) -> Tensor:
        """(..., B, T, t, m) -> z_l (..., B, T, D)."""
        return self.linear(self.slice_features(log_mel))


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
        if config.positions == "relative-key":  # a learned vector for each distance l - r
            self.distance = nn.Parameter(torch.randn(2 * config.max_positions - 1, self.head_dim))
        else:
            self.register_parameter("distance", None)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(-3, -2)  # (..., heads, T, head_dim)

    def _distance_scores(self, query: Tensor) -> Tensor:
        steps, table = query.shape[-2], self.distance  # (2 max - 1, head_dim), or stacked (tasks, ...)
        limit = (table.shape[-2] + 1) // 2
        if steps > limit:
            raise DsamlError(
                f"a sequence of {steps} steps is longer than the {limit} of its position embeddings; use windows"
            )
        index = torch.arange(steps, device=query.device)
        gathered = table[..., index[:, None] - index[None, :] + limit - 1, :]  # (..., T, T, head_dim)
        if table.dim() == 2:
            return torch.einsum("...lc,lrc->...lr", query, gathered)
        return torch.einsum("k...lc,klrc->k...lr", query, gathered)

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

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """z (..., B, T, D) -> z' (..., B, T, D), local and global maps (..., B, layers, heads, T, T)."""
        config, steps = self.config, z.shape[-2]
        if config.positions == "sinusoidal":
            z = z * math.sqrt(config.dim) + sinusoidal_positions(steps, config.dim, z.device)
        contexts = [config.context_local] * config.local_attention + [config.context_global] * config.global_attention
        outside = torch.stack([~band_mask(steps, n, z.device) for n in contexts]).unsqueeze(1)  # (S, 1, T, T)
        bias = z.new_zeros(outside.shape).masked_fill(outside, -torch.inf)
        x = z.unsqueeze(-3)  # (..., B, 1, T, D): the first layer projects once for both scales, then it is S
        maps = []
        for layer in self.layers:
            x, attention = layer(x, bias)
            maps.append(attention)
        scales = list(torch.stack(maps, -4).unbind(-5))  # S x (..., B, layers, heads, T, T)
        out = x.sum(-3).sigmoid() if len(contexts) == 2 else x.squeeze(-3)
        local = scales.pop(0) if config.local_attention else None
        return out, local, scales.pop(0) if config.global_attention else None


class SequencePredictor(nn.Module):
    """BiLSTM and two fully connected layers: (..., T, D) -> (..., T, 2), arousal and valence, no activation."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        units = config.dim // 4
        self.lstm = BiLSTM(config.dim, units)
        self.hidden, self.output = Linear(2 * units, units), Linear(units, 2)
        self.dropout = Dropout(config.dropout)

    def forward(self, context: Tensor) -> Tensor:
        return self.output(self.dropout(self.hidden(self.lstm(context))))


class DSAML(nn.Module):
    """The whole model.

    Parameters
    ----------
    config : ModelConfig
        Sizes, ablations and variant; ``ModelConfig()`` is the paper's, :func:`dsaml.config.released` the released code's.
    """

    STAGES = ("audio", "local", "context")

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

    def forward(self, x: Tensor, global_embedding: Tensor | None = None, stage: str = "audio") -> Output:
        """Predict arousal and valence for each step.

        Parameters
        ----------
        x : Tensor
            Log-mel slices (B, T, 51, 128) for stage "audio"; z_l (B, T, D) for "local"; z' (B, T, D) for "context". The
            later stages let adaptation compute once what it does not change.
        global_embedding : Tensor, shape (B, 1, D) or (B, T, D)
            z_g; not used from stage "context" on.

        Raises
        ------
        DsamlError
            If a shape does not fit the configuration.
        """
        if stage == "context":
            return Output(self.predictor(x), None, None, x)
        if stage == "audio" and tuple(x.shape[-2:]) != tuple(self.config.slice_shape):
            raise DsamlError(
                f"log-mel slices are {tuple(x.shape[-2:])}, the model wants {tuple(self.config.slice_shape)}"
            )
        if global_embedding is None or global_embedding.shape[-1] != self.config.dim:
            got = None if global_embedding is None else global_embedding.shape[-1]
            raise DsamlError(
                f"the global embedding has width {got}, the model wants {self.config.dim}; use one encoder"
            )
        local = self.local_features(x) if stage == "audio" else x
        context, attention_local, attention_global = self.attention(self.fuse(local, global_embedding))
        return Output(self.predictor(context), attention_local, attention_global, context)


RELEASED_NAMES = (  # (the released code's, ours), applied in this order
    ("spectrogram_feature_extractor.feature_extractor.0.", "adapter.block1."),
    ("spectrogram_feature_extractor.feature_extractor.1.", "adapter.block2."),
    ("spectrogram_feature_extractor.conv1x1.", "adapter.conv1x1."),
    ("fusion_model.spectrogram_feature_project.", "adapter.linear."),
    ("fusion_model.fusion_project.", "fusion."),
    ("multi_scale_attention.encoder.encoder.layer.", "attention.layers."),
    (".attention.attention.distance_embedding.weight", ".distance"),
    (".attention.attention.", "."),
    (".attention.output.dense.", ".OUTPUT."),  # in capitals until ".output.dense." is taken by the feed-forward part
    (".attention.output.LayerNorm.", ".norm1."),
    (".intermediate.dense.", ".up."),
    (".output.dense.", ".down."),
    (".output.LayerNorm.", ".norm2."),
    (".OUTPUT.", ".output."),
    (".bn.", ".norm."),
    ("sequence_predict_model.bilstm.", "predictor.lstm."),
    ("sequence_predict_model.layers.0.", "predictor.hidden."),
    ("sequence_predict_model.layers.2.", "predictor.output."),
)


def load_released(state_dict: Mapping[str, Tensor], num_heads: int) -> DSAML:
    """Build the ``released`` variant from weights under the released code's names.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        D, the number of layers, the feed-forward width and the position limit are read off the shapes.
    num_heads : int
        The one size that no shape tells.

    Returns
    -------
    DSAML
        In eval mode.

    Raises
    ------
    DsamlError
        If weights are missing, unknown or of a wrong shape (all are listed), or ``num_heads`` does not fit.
    """
    weights = {}
    for name, tensor in state_dict.items():
        for theirs, ours in RELEASED_NAMES:
            name = name.replace(theirs, ours)
        weights[name] = torch.as_tensor(tensor)
    layers = {name.split(".")[2] for name in weights if name.startswith("attention.layers.")}
    needed = ("adapter.linear.weight", "attention.layers.0.up.weight", "attention.layers.0.distance")
    if absent := [name for name in needed if name not in weights]:
        raise DsamlError(
            f"released weights: no {', '.join(absent)} among {len(weights)} names; is this a checkpoint of DSAML?"
        )
    limit, head_dim = weights["attention.layers.0.distance"].shape
    dim = weights["adapter.linear.weight"].shape[0]
    if num_heads * head_dim != dim:
        raise DsamlError(
            f"released weights: {num_heads} heads of {head_dim} do not make D = {dim}; num_heads is {dim // head_dim}"
        )
    config = released(
        dim=dim,
        heads=num_heads,
        layers=len(layers),
        feed_forward=weights["attention.layers.0.up.weight"].shape[0],
        max_positions=(limit + 1) // 2,
    )
    model = DSAML(config)
    load_weights(model, weights, "released weights")
    return model.eval()


SHOWN = 20  # weights named in one message


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """``load_state_dict`` with one sentence that counts missing, unknown and mis-shaped weights and lists the first.

    Raises
    ------
    DsamlError
        If anything does not fit; the model is then unchanged.
    """
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in weights]
    problems += [f"unknown {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, want {tuple(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise DsamlError(f"{source}: does not fit this model: {'; '.join(problems[:SHOWN])}{more}")
    if next(model.parameters()).device.type != "meta":
        model.load_state_dict(dict(weights))


def parameter_table(model: DSAML) -> dict[str, int]:
    """Trainable parameters by part of Figure 2, and their sum under "total"."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    return parts | {"total": sum(parts.values())}
