"""The four models that the paper compares with: CRNN, DNN, MCRNN, DAMFF.

Re-implemented from what their publications tell; none has released code that this follows. Each docstring says what is
**inferred**. Two simplifications hold for all of them: they predict one value per 0.5 s label from the slice of audio that
belongs to it, as DSAML does, and they are trained with the same loss, steps and data as DSAML, so that the comparison is one
of models. Sizes are the publications' own; ``width`` scales them.

They take the same calls as :class:`dsaml.model.dsaml.DSAML` and ignore the global embedding. Under MAML all their weights adapt. Of
several tasks at once (:mod:`dsaml.model.layers`), the slices go through the convolutions task by task, which is as fast, and the
sequences together, step by step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from dsaml.errors import DsamlError
from dsaml.model.dsaml import Output
from dsaml.model.layers import BiGRU, BiLSTM, Linear

SAMPLES = 8000  # of a slice of 0.5 s at WAVEFORM_RATE
WAVEFORM_RATE = 16_000  # Hz; inferred: the raw-audio models' publications resample, to rates of this order


@dataclass(frozen=True)
class BaselineConfig:
    """Which baseline, how wide, and what it is given."""

    name: Literal["crnn", "dnn", "mcrnn", "damff"]
    width: float = 1.0  # 1 is the publication's size
    slice_shape: tuple[int, int] = (51, 128)  # (time, mel) of one log-mel slice
    samples: int = SAMPLES  # of one slice of raw audio
    dropout: float = 0.25  # inferred, for all four
    attention_loss_weight: float = 0.0  # there are no attention maps: Eq. 3 does not apply

    @property
    def raw(self) -> bool:
        """Whether the model hears raw audio instead of log-mels."""
        return self.name in ("dnn", "mcrnn")

    @property
    def heard(self) -> tuple[int, ...]:
        """Shape of one slice as the model hears it."""
        return (self.samples,) if self.raw else tuple(self.slice_shape)

    def of(self, size: int) -> int:
        """A layer's size at this width."""
        return max(2, round(size * self.width))


class Slices(nn.Module, ABC):
    """Features of single slices: ``maps`` of convolutions, a fully connected layer (N, ...) -> (N, units), dropout."""

    dense: nn.Linear

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)

    @abstractmethod
    def maps(self, x: Tensor) -> Tensor:
        """(N, 1, ...) -> (N, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.dense(self.maps(x.unsqueeze(1)).flatten(1))))


class Baseline(nn.Module, ABC):
    """What all four share: features of each slice, a recurrent part over the sequence, two outputs."""

    adapter = None  # no part of it is shared with DSAML's
    slices: Slices

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.config, self.dropout = config, nn.Dropout(config.dropout)

    def augmented(self, x: Tensor) -> Tensor:
        """What is heard in training."""
        return x

    @abstractmethod
    def sequence(self, features: Tensor, there: Tensor | None) -> Tensor:
        """([K,] B, T, features) -> ([K,] B, T, 2); ``there`` as in :meth:`forward`."""

    def forward(
        self, x: Tensor, global_embedding: Tensor | None = None, stage: str = "audio", there: Tensor | None = None
    ) -> Output:
        """Arousal and valence of each step.

        Parameters
        ----------
        x : Tensor
            Log-mel slices (B, T, time, mel), or raw slices (B, T, samples) for "dnn" and "mcrnn". One more leading dimension
            for K tasks with their own weights.
        there : Tensor, shape ([K,] B, T), optional
            False from a song's end on, as in :meth:`dsaml.model.dsaml.DSAML.forward`.

        Raises
        ------
        DsamlError
            If the slices have another shape.
        """
        want = self.config.heard
        got = tuple(x.shape[-len(want) :])
        if got != want or x.dim() < len(want) + 2:
            raise DsamlError(f"{self.config.name} wants slices of {want}, got {got}")
        features = self.local_features(self.augmented(x) if self.training else x)
        return Output(self.sequence(features, there), None, None, features)

    def local_features(self, x: Tensor) -> Tensor:
        """([K,] B, T, ...) -> ([K,] B, T, features): what knows one slice at a time."""
        if x.dim() == len(self.config.heard) + 2:
            return self.slices(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        names, stacked = zip(*self.slices.named_parameters(), strict=True)
        features = []
        for task, *own in zip(x.flatten(1, 2), *(weight.unbind() for weight in stacked), strict=True):
            lent = dict(zip(names, own, strict=True))
            lent |= {name: buffer.clone() for name, buffer in self.slices.named_buffers()}  # the base model's stay its own
            features.append(functional_call(self.slices, lent, task))
        return torch.stack(features).unflatten(1, x.shape[1:3])


class CRNNSlices(Slices):
    """(N, time, mel) -> (N, units)."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        filters = config.of(8)
        self.conv, self.norm = nn.Conv2d(1, filters, 3, padding=1), nn.BatchNorm2d(filters)
        self.dense = nn.Linear(filters * (config.slice_shape[1] // 8), config.of(8))

    def maps(self, x: Tensor) -> Tensor:
        return F.relu(F.max_pool2d(self.norm(self.conv(x)), (1, 8))).mean(2)  # (N, filters, mel / 8)


class CRNN(Baseline):
    """Stacked convolutional and recurrent network (Malik et al. 2017).

    From the publication: log-mel bands; one convolution layer of 8 filters of 3 x 3 with batch normalisation; a fully connected
    layer of 8 units; then a branch for arousal and one for valence, each a bidirectional GRU of 8 units, a fully connected layer
    and a maximum over two linear outputs; few parameters. Inferred: the maximum over mel bands is replaced by pooling in
    groups of 8 bands, and the slice is averaged over its frames, because labels are coarser here than their frames.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        units = config.of(8)
        self.slices = CRNNSlices(config)
        self.branches = nn.ModuleList(BiGRU(units, units) for _ in range(2))
        self.hidden = nn.ModuleList(Linear(2 * units, units) for _ in range(2))
        self.outputs = nn.ModuleList(Linear(units, 2) for _ in range(2))

    def sequence(self, features: Tensor, there: Tensor | None) -> Tensor:
        branches = zip(self.branches, self.hidden, self.outputs, strict=True)
        columns = [output(self.dropout(hidden(recurrent(features, there)))).amax(-1) for recurrent, hidden, output in branches]
        return torch.stack(columns, -1)  # each the maximum of two


class DNNSlices(Slices):
    """(N, samples) -> (N, units)."""

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        filters = config.of(16)
        self.conv, self.norm = nn.Conv1d(1, filters, 64, stride=16), nn.BatchNorm1d(filters)
        self.dense = nn.Linear(filters * (((config.samples - 64) // 16 + 1) // 25), config.of(24))

    def maps(self, x: Tensor) -> Tensor:
        return torch.log1p(F.avg_pool1d(F.relu(self.norm(self.conv(x))), 25))  # (N, filters, frames / 25)


class DNN(Baseline):
    """Raw waveform, convolution, recurrent layer (Orjesek et al. 2019).

    From the publication: the raw signal without preprocessing; a one-dimensional convolution; fully connected layers applied to
    each step; a bidirectional GRU; a maximum over linear outputs. Inferred: 16 filters of 64 samples at a hop of 16, their energy
    averaged in 25 ms, and the number of units (24).
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        units = config.of(24)
        self.slices = DNNSlices(config)
        self.recurrent = BiGRU(units, units)
        self.output = Linear(2 * units, 4)

    def sequence(self, features: Tensor, there: Tensor | None) -> Tensor:
        hidden = self.dropout(self.recurrent(features, there))
        return self.output(hidden).unflatten(-1, (2, 2)).amax(-1)  # of each dimension the maximum of two


class MCRNNSlices(Slices):
    """(N, samples) -> (N, units)."""

    VIEWS = (32, 128, 512)  # samples: 2, 8 and 32 ms

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        filters = config.of(12)
        self.views = nn.ModuleList(nn.Conv1d(1, filters, size, stride=size // 4) for size in self.VIEWS)
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters) for _ in self.VIEWS)
        self.dense = nn.Linear(2 * filters * len(self.VIEWS), config.of(32))

    def maps(self, x: Tensor) -> Tensor:
        energies = [F.relu(norm(view(x))) for view, norm in zip(self.views, self.norms, strict=True)]  # (N, filters, frames)
        return torch.cat([torch.log1p(part) for e in energies for part in (e.mean(-1), e.amax(-1))], -1)


class MCRNN(Baseline):
    """Multi-view convolutional recurrent network (He and Ferguson 2020).

    From the publication: raw audio seen by several parallel convolutions with filters of different lengths ("views"), joined, then
    two bidirectional LSTM layers; data augmentation. Inferred: three views with filters of 32, 128 and 512 samples at a hop of a
    quarter, 12 filters each, 32 units; augmentation is a random gain within 6 dB and a random polarity for each song in training.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        units = config.of(32)
        self.slices = MCRNNSlices(config)
        self.first, self.second = BiLSTM(units, units), BiLSTM(2 * units, units)
        self.output = Linear(2 * units, 2)

    def sequence(self, features: Tensor, there: Tensor | None) -> Tensor:
        return self.output(self.dropout(self.second(self.dropout(self.first(features, there)), there)))

    def augmented(self, x: Tensor) -> Tensor:
        gain = 10 ** ((torch.rand(*x.shape[:-2], 1, 1, device=x.device) - 0.5) * 12 / 20)  # +- 6 dB
        return x * (gain * (torch.randint(0, 2, gain.shape, device=x.device) * 2 - 1))  # ([K,] B, T, samples)


class DAMFFSlices(Slices):
    """(N, time, mel) -> (N, units)."""

    SIZES = (3, 5, 7)

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        channels = config.of(8)
        shapes = [(size, 1) for size in self.SIZES] + [(1, size) for size in self.SIZES]
        self.scales = nn.ModuleList(nn.Conv2d(1, channels, s, padding=(s[0] // 2, s[1] // 2)) for s in shapes)
        total = channels * len(shapes)
        self.norm = nn.BatchNorm2d(total)
        self.squeeze, self.excite = nn.Linear(total, max(2, total // 4)), nn.Linear(max(2, total // 4), total)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.merge = nn.Conv2d(total, channels, 1)
        cells = (config.slice_shape[0] // 4) * (config.slice_shape[1] // 8)
        self.dense = nn.Linear(channels * cells, config.of(64))

    def maps(self, x: Tensor) -> Tensor:
        each = [F.max_pool2d(scale(x).contiguous(memory_format=torch.channels_last), 2) for scale in self.scales]
        maps = F.relu(self.norm(torch.cat(each, 1)))  # (N, scales * channels, time / 2, mel / 2)
        pooled = torch.stack((maps.mean((2, 3)), maps.amax((2, 3))))  # (2, N, channels)
        maps = maps * self.excite(F.relu(self.squeeze(pooled))).sum(0).sigmoid()[..., None, None]
        maps = maps * self.spatial(torch.stack((maps.mean(1), maps.amax(1)), 1)).sigmoid()
        return F.max_pool2d(F.relu(self.merge(maps)), (2, 4))


class DAMFF(Baseline):
    """Dual-attention multi-scale feature fusion (Zhang et al. 2023).

    From the publication: log-mel slices; parallel convolutions of several sizes along time and along frequency; their maps fused
    with channel attention and spatial attention; a bidirectional LSTM. Inferred: sizes 3, 5 and 7 along each axis, 8 channels
    each, a channel bottleneck of a quarter, a 7 x 7 spatial map, 64 units.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        units = config.of(64)
        self.slices = DAMFFSlices(config)
        self.recurrent = BiLSTM(units, units // 2)
        self.output = Linear(units // 2 * 2, 2)

    def sequence(self, features: Tensor, there: Tensor | None) -> Tensor:
        return self.output(self.dropout(self.recurrent(features, there)))


BASELINES: dict[str, type[Baseline]] = {"crnn": CRNN, "dnn": DNN, "mcrnn": MCRNN, "damff": DAMFF}


def make_baseline(config: BaselineConfig) -> Baseline:
    """The model that a configuration describes, with random weights.

    Raises
    ------
    DsamlError
        If there is no such baseline.
    """
    if config.name not in BASELINES:
        raise DsamlError(f"model '{config.name}' does not exist; choose one of: {', '.join(BASELINES)}")
    return BASELINES[config.name](config)
