"""The adapter's convolutions on a CPU: what the blocks of :mod:`dsaml.model.dsaml` compute, up to rounding, several times faster.

Normalisation and ReLU keep the order of a channel's values (where ``norm.weight`` is negative, its kernel changes sign), so the
maximum comes first and leaves them a quarter of the work, at the start of the next convolution. Slices pass in chunks that
stay in the cache, channels last. Only pooled values are kept; the backward pass computes the rest again, chunk by chunk. The
batch's statistics are sums over all chunks.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**19  # activations of one layer that are computed together: 2 MB


def slice_features(adapter: Any, x: Tensor) -> Tensor:
    """Both blocks and the 1 x 1 convolution: (..., N, t, m) -> (..., N, 1, t', m').

    Parameters
    ----------
    adapter : nn.Module
        :class:`dsaml.model.dsaml.ImagebindAdapter`; its weights have a leading ``tasks`` dimension where ``x`` has one.
    x : Tensor
        Log-mel slices.
    """
    blocks, last = (adapter.block1, adapter.block2), adapter.conv1x1
    weights = [w for block in blocks for part in (block.conv, block.norm) for w in (part.weight, part.bias)]
    weights += [last.weight, last.bias]
    if last.weight.dim() == 4:
        return _one_task(blocks, x, *weights)
    return torch.stack([_one_task(blocks, *task) for task in zip(x, *weights, strict=True)])


def _one_task(blocks: tuple[Any, Any], x: Tensor, *weights: Tensor) -> Tensor:
    x, scale, shift = x.unsqueeze(-1).movedim(-1, -3), None, None  # (N, 1, t, m), channels last
    for block, own in zip(blocks, (weights[:4], weights[4:8]), strict=True):
        x, scale, shift = _block(block, x, scale, shift, *own)
    return _in_chunks(x, scale, shift, *weights[8:])[0]


def _block(
    block: Any,
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    kernel: Tensor,
    bias: Tensor,
    weight: Tensor,
    offset: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pooled values (N, out, t', m'), and the scale and the shift of each channel that normalise them."""
    norm, padding = block.norm, block.conv.padding
    sign = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
    kernel, bias, weight = kernel * sign[:, None, None, None], bias * sign, weight * sign
    if not norm.training:
        (x,) = _in_chunks(x, scale, shift, kernel, bias, padding=padding, pool=True)
        mean, var = norm.running_mean * sign, norm.running_var
    else:
        with torch.no_grad():  # a value near the mean: what is centred has squares that keep their digits
            few = _convolve(x[:: -(-len(x) // 8)], scale, shift, kernel, bias, padding)[0]
            centre = few.mean((0, 2, 3))
        x, total, squares = _in_chunks(x, scale, shift, kernel, bias - centre, padding=padding, pool=True, sums=True)
        count = len(x) * few[0, 0].numel()
        mean = total / count
        var = squares / count - mean.square()
        if norm.weight.dim() == 1:  # with each task its own weights, the running statistics stay the base model's
            norm.running_mean.lerp_((mean.detach() + centre) * sign, norm.momentum)
            norm.running_var.lerp_(var.detach() * (count / (count - 1)), norm.momentum)
            norm.num_batches_tracked += 1
    scale = weight * (var + norm.eps).rsqrt()
    return x, scale, offset - mean * scale


def _rows(x: Tensor) -> Tensor:
    """(N, C, t, m), channels last -> (N * t, m * C): rows long enough for fast arithmetic."""
    return x.permute(0, 2, 3, 1).flatten(2).flatten(0, 1)


def _convolve(
    x: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    kernel: Tensor,
    bias: Tensor,
    padding: Any = 0,
    pool: bool = False,
    sums: bool = False,
) -> tuple[Tensor, ...]:
    """ReLU(scale x + shift), convolution, maximum; with ``sums`` each channel's sum and sum of squares before the maximum."""
    if scale is not None and shift is not None:
        n, c, t, m = x.shape
        rows = torch.addcmul(shift.repeat(m), _rows(x), scale.repeat(m)).relu()
        x = rows.view(n, t, m, c).permute(0, 3, 1, 2)
    y = F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last), bias, padding=padding)
    if not pool:
        return (y,)
    pooled, rows = F.max_pool2d(y, 2, padding=1), _rows(y)
    parts = (rows, rows * rows) if sums else ()
    return (pooled, *(part.sum(0).view(-1, len(kernel)).sum(0) for part in parts))


def _in_chunks(x: Tensor, *weights: Tensor | None, **settings: Any) -> tuple[Tensor, ...]:
    """:func:`_convolve` of as many slices at a time as stay in the cache; sums are over all of them."""
    return _InChunks.apply(partial(_convolve, **settings), x, *weights)


class _InChunks(torch.autograd.Function):
    """``work(x, *weights)``: its first result for every slice, sums of the others. Nothing is kept but what it is given."""

    @staticmethod
    def forward(ctx: Any, work: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.work, ctx.size = work, max(1, CHUNK // (len(weights[2]) * x[0, 0].numel()))
        ctx.save_for_backward(x, *weights)
        out, sums = None, []
        for place in _places(x, ctx.size):
            first, *others = work(x[place], *weights)
            if out is None:
                shape = (len(x), *first.shape[1:])
                out = torch.empty(shape, dtype=first.dtype, memory_format=torch.channels_last)
            out[place] = first
            sums.append(others)
        return (out, *(torch.stack(parts).sum(0) for parts in zip(*sums, strict=True)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():  # somebody differentiates the gradient: all slices at once, with their graph
            return None, *_gradients(ctx.work, inputs, needed, gradients, create_graph=True)
        x, *weights = inputs
        total: list[Tensor | None] = [torch.empty_like(x) if needed[0] else None]
        total += [torch.zeros_like(weight) if need else None for weight, need in zip(weights, needed[1:], strict=True)]
        for place in _places(x, ctx.size):
            found = _gradients(ctx.work, (x[place], *weights), needed, (gradients[0][place], *gradients[1:]))
            for number, gradient in enumerate(found):
                if gradient is not None and number:
                    total[number] += gradient
                elif gradient is not None:
                    total[0][place] = gradient
        return None, *total


def _places(x: Tensor, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, len(x), size)]


def _gradients(work: Any, inputs: Any, needed: Any, gradients: Any, create_graph: bool = False) -> list[Tensor | None]:
    """Of ``work``, with respect to the inputs that need one."""
    with torch.enable_grad():
        own = [
            t if t is None else t.view_as(t) if create_graph else t.detach().requires_grad_(need)
            for t, need in zip(inputs, needed, strict=True)
        ]
        wanted = [t for t, need in zip(own, needed, strict=True) if need]
        found = iter(torch.autograd.grad(work(*own), wanted, gradients, create_graph=create_graph))
    return [next(found) if need else None for need in needed]
