"""The adapter's convolution blocks, faster: the same numbers up to rounding, which a test holds to."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dsaml.model.layers import BatchNorm2d, Conv2d


class FastBlock(nn.Module):
    """What a block of convolution, batch normalisation, ReLU and 2 x 2 max-pooling computes, in the way that suits its input.

    ReLU and maximum change places: the same result, and ReLU has a quarter of the work. Pooling runs several times faster with
    channels last. With fixed statistics (eval mode) the normalisation is part of the convolution's weights. In training on a
    large batch the activations are computed again in the backward pass instead of kept.

    Parameters
    ----------
    block : nn.Module
        Has ``conv`` and ``norm`` (:class:`dsaml.model.dsaml.ConvBlock`); both are shared with it, under the same names.
    """

    LARGE = 2**24  # activations of one layer; more of them are not kept

    conv: Conv2d
    norm: BatchNorm2d

    def __init__(self, block: Any):
        super().__init__()
        self.conv, self.norm = block.conv, block.norm

    def forward(self, x: Tensor) -> Tensor:
        """(..., N, in, t, m) -> (..., N, out, t', m')."""
        if self.conv.weight.dim() == 5:  # each task its own weights
            x = self.norm(self.conv(x))
            return _pool(x.flatten(0, -4)).unflatten(0, x.shape[:-3])
        if not self.norm.training:
            x = self._with_fixed_statistics(x)
        elif x[:, 0].numel() * self.conv.out_channels > self.LARGE and torch.is_grad_enabled():
            return self._in_less_memory(x)
        else:
            x = self.norm(self.conv(x))
        return _pool(x.contiguous(memory_format=torch.channels_last))

    def _with_fixed_statistics(self, x: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (channels,)
        bias = (conv.bias - norm.running_mean) * scale + norm.bias
        return F.conv2d(x, conv.weight * scale[:, None, None, None], bias, padding=conv.padding)

    def _in_less_memory(self, x: Tensor) -> Tensor:
        """With the batch's statistics; only the block's input is kept for the backward pass."""
        conv, norm = self.conv, self.norm

        def block(x: Tensor, kernel: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
            x = F.conv2d(x, kernel, shift, padding=conv.padding)
            statistics = torch.var_mean(x.detach(), (0, 2, 3))
            return _pool(F.batch_norm(x, None, None, weight, bias, True, 0.0, norm.eps)), *statistics

        weights = (conv.weight, conv.bias, norm.weight, norm.bias)
        x, var, mean = checkpoint(block, x, *weights, use_reentrant=False, preserve_rng_state=False)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var, norm.momentum)
        norm.num_batches_tracked += 1
        return x


def _pool(x: Tensor) -> Tensor:
    return F.relu(F.max_pool2d(x, 2, padding=1))
