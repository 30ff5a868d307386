"""The adapter's convolutions on a CPU: what the blocks of :mod:`dsaml.model.dsaml` compute, up to rounding, several times faster.

Why it is the same:

- Block 1 convolves one channel along time, with zeros around it, so its output's statistics follow from four sums over its input:
  of x, and of x(t) x(t + lag) at lags of 0, 1 and 2. With them its normalisation goes into the kernel, before the convolution.
- Each of its values lies in one window of the pooling. A window of 2 x 2 sees 4 x 2 values of the input: one matrix product.
- Block 2's statistics are sums over its output. Normalisation and ReLU keep the order of a channel's values (where ``norm.weight``
  is negative, its kernel changes sign), so the maximum comes first and leaves them a quarter of the work.

Slices pass in chunks that stay in the cache, channels last, each core at chunks of its own. Only block 2's pooled values are kept;
the backward pass computes the rest again. It is written out, which saves its graph and half of its passes over memory; where it is
differentiated itself, torch derives both from the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 20  # slices that are computed together: their largest layer takes 4 MB
POOLING = ([2, 2], [2, 2], [1, 1])  # size, stride, padding


def slice_features(adapter: Any, x: Tensor) -> Tensor:
    """Both blocks and the 1 x 1 convolution: (..., N, t, m) -> (..., N, 1, t', m').

    Parameters
    ----------
    adapter : nn.Module
        :class:`dsaml.model.dsaml.ImagebindAdapter`; its weights have a leading ``tasks`` dimension where ``x`` has one.
    x : Tensor
        Log-mel slices.
    """
    norms, last = (adapter.block1.norm, adapter.block2.norm), adapter.conv1x1
    weights = [w for block in (adapter.block1, adapter.block2) for w in (*block.conv.parameters(), *block.norm.parameters())]
    weights += [last.weight, last.bias]
    if last.weight.dim() == 4:
        return _one_task(*norms, x, *weights)
    return torch.stack([_one_task(*norms, *task) for task in zip(x, *weights, strict=True)])


def _one_task(norm1: Any, norm2: Any, x: Tensor, *weights: Tensor) -> Tensor:
    kernel1, bias1, weight1, offset1, kernel2, bias2, weight2, offset2, last, last_bias = weights
    kernel, values = kernel1.flatten(1), len(x) * (x.shape[1] + 2) * (x.shape[2] + 2)  # (8, 3)
    statistics = _first_statistics(x, kernel, values) if norm1.training else None
    scale, shift = _normalisation(norm1, statistics, values, bias1, weight1, offset1)
    kernel = kernel * scale.unsqueeze(1)
    rows = torch.stack((F.pad(kernel, (0, 1)), F.pad(kernel, (1, 0))))  # (2, 8, 4): the two rows of a window, from its 4 times
    same = torch.eye(2, dtype=x.dtype)  # each of its two columns from one mel
    product = torch.einsum("rct,mn->tmnrc", rows, same).reshape(8, -1)  # (4 times * 2 mels, 2 columns * 2 rows * 8)

    sign = torch.where(weight2 < 0, -1.0, 1.0).to(x.dtype)
    kernel2, centre, statistics = kernel2 * sign[:, None, None, None], torch.zeros_like(bias2), None
    values = len(x) * _pooled(x.shape[1]) * _pooled(x.shape[2])
    if norm2.training:
        with torch.no_grad():  # a value near the mean: what is centred has squares that keep their digits
            few = x[:: -(-len(x) // 8)]
            total = _convolutions(few, product, shift, kernel2, None, sums=True)[1]
            centre = total * (len(x) / len(few) / values)
    work, back = (partial(function, sums=norm2.training) for function in (_convolutions, _convolutions_backward))
    pooled, *sums = _InChunks.apply(work, back, x, product, shift, kernel2, -centre)
    if norm2.training:
        mean, squares = (part / values for part in sums)
        statistics = (mean + centre) * sign, squares - mean.square()
    scale, shift = _normalisation(norm2, statistics, values, bias2, weight2, offset2)
    scale = scale * sign
    return _InChunks.apply(_last, None, pooled, scale, shift + centre * scale, last, last_bias)[0]


def _pooled(size: int) -> int:
    """Rows or columns after block 1, whose convolution adds 2."""
    return (size + 2) // 2 + 1


def _first_statistics(x: Tensor, kernel: Tensor, values: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel that block 1 convolves, without its bias, from the input alone."""
    total, row = torch.zeros(4, dtype=torch.float64), x.shape[2]
    for place in _places(x):
        part = F.pad(x[place].double(), (0, 0, 0, 2)).flatten()  # two rows of zeros between any two slices
        lags = (torch.dot(part[lag:], part[: len(part) - lag]) for lag in (0, row, 2 * row))
        total = total + torch.stack((part.sum(), *lags))
    mean, wide = total[0] / values, kernel.double()
    at_lag = total[1:] / values - mean.square()
    covariance = torch.stack((at_lag, at_lag[[1, 0, 1]], at_lag[[2, 1, 0]]))  # (3, 3), of the values under the kernel
    return (mean * wide.sum(1)).to(x.dtype), ((wide @ covariance) * wide).sum(1).to(x.dtype)


def _normalisation(
    norm: Any, statistics: tuple[Tensor, Tensor] | None, values: int, bias: Tensor, weight: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel, from the batch's mean (without ``bias``) and variance or the running ones."""
    mean, var = norm.running_mean, norm.running_var
    if statistics is not None:
        mean, var = statistics[0] + bias, statistics[1]
        if norm.weight.dim() == 1:  # with each task its own weights, the running statistics stay the base model's
            norm.running_mean.lerp_(mean.detach(), norm.momentum)
            norm.running_var.lerp_(var.detach() * (values / (values - 1)), norm.momentum)
            norm.num_batches_tracked += 1
    scale = weight * (var + norm.eps).rsqrt()
    return scale, offset + (bias - mean) * scale


def _larger(pair: Tensor) -> Tensor:
    """(P, 2, k) -> (P, k); the first where both are equal, as in torch's pooling."""
    first, second = pair.unbind(1)
    return torch.where(second > first, second, first) if torch.is_grad_enabled() else torch.maximum(first, second)


def _larger_backward(gradient: Tensor, pair: Tensor) -> Tensor:
    """The gradient (P, k) of the larger goes to it, 0 to the other: (P, 2, k)."""
    first, second = pair.unbind(1)
    out = torch.empty_like(pair)
    torch.mul(gradient, torch.gt(second, first, out=torch.empty_like(gradient)), out=out[:, 1])
    torch.sub(gradient, out[:, 1], out=out[:, 0])
    return out


def _padded(x: Tensor) -> Tensor:
    """(n, t, m) with the zeros that convolution and pooling see, even and odd mels apart: (n, 2, 2 t' + 2, m')."""
    rows, columns = _pooled(x.shape[1]), _pooled(x.shape[2])
    padded = F.pad(x, (2, 2 * columns - 2 - x.shape[2], 3, 2 * rows - 1 - x.shape[1]))
    return padded.unflatten(2, (columns, 2)).movedim(3, 1)


def _first_block(x: Tensor, product: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows (8, P), their values (P, 2, 16), the larger column (P, 2, 8), normalised maximum (n * t', m' * 8)."""
    rows, columns, padded = _pooled(x.shape[1]), _pooled(x.shape[2]), _padded(x)
    windows = torch.stack([padded[:, mel, time : time + 2 * rows : 2] for time in range(4) for mel in range(2)]).flatten(1)
    four = (windows.T @ product).view(-1, 2, 2 * len(shift))
    places, lowest = four.view(len(x), rows, columns, 2, 2, -1), torch.finfo(x.dtype).min
    places[:, 0, :, :, 0] = lowest  # before the first row
    if x.shape[1] % 2 == 0:
        places[:, -1, :, :, 1] = lowest  # behind the last one
    two = _larger(four).view(-1, 2, len(shift))
    out = (_larger(two).view(len(x) * rows, -1) + shift.repeat(columns)).relu_()
    return windows, four, two, out


def _second_block(x: Tensor, first: Tensor, kernel: Tensor, centre: Tensor | None) -> tuple[Tensor, Tensor]:
    """The first block's result (n, 8, t', m'), and what block 2 convolves from it (n, 16, t', m')."""
    image = first.view(len(x), _pooled(x.shape[1]), _pooled(x.shape[2]), -1).permute(0, 3, 1, 2)
    return image, F.conv2d(image, kernel.contiguous(memory_format=torch.channels_last), centre, padding=1)


def _rows(x: Tensor) -> Tensor:
    """(n, C, t, m), channels last -> (n * t, m * C): rows long enough for fast arithmetic."""
    return x.permute(0, 2, 3, 1).flatten(2).flatten(0, 1)


def _over_rows(x: Tensor, channels: int) -> Tensor:
    """Sum of (rows, m * C) for each channel."""
    return x.sum(0).view(-1, channels).sum(0)


def _convolutions(
    x: Tensor, product: Tensor, shift: Tensor, kernel: Tensor, centre: Tensor | None, sums: bool
) -> tuple[Tensor, ...]:
    """Block 1 and block 2's convolution and maximum; with ``sums`` each channel's sum and sum of squares before that."""
    _, y = _second_block(x, _first_block(x, product, shift)[-1], kernel, centre)
    pooled, rows = F.max_pool2d(y, *POOLING), _rows(y)
    return (pooled, *(_over_rows(part, len(kernel)) for part in ((rows, rows * rows) if sums else ())))


def _convolutions_backward(
    needed: Any, gradients: Any, x: Tensor, product: Tensor, shift: Tensor, kernel: Tensor, centre: Tensor, sums: bool
) -> tuple[Tensor | None, ...]:
    """Its gradients, of ``x`` only where that needs one."""
    windows, four, two, first = _first_block(x, product, shift)
    image, y = _second_block(x, first, kernel, centre)
    index = torch.ops.aten.max_pool2d_with_indices(y, *POOLING)[1]
    g = torch.ops.aten.max_pool2d_with_indices_backward(gradients[0], y, *POOLING, [1, 1], False, index)
    if sums:
        each, square = (gradient.repeat(y.shape[3]) for gradient in gradients[1:])
        _rows(g).addcmul_(_rows(y), square, value=2).add_(each)
    same = [1, 1]
    g, g_kernel, _ = torch.ops.aten.convolution_backward(
        g, image, kernel, None, same, same, same, False, [0, 0], 1, [True, True, False]
    )
    g = torch.ops.aten.threshold_backward(_rows(g), first, 0)
    g_shift = _over_rows(g, len(shift))
    g = _larger_backward(g.view(len(two), -1), two)
    g = _larger_backward(g.view(len(four), -1), four).view(len(four), -1)  # (P, 32)
    g_x = None
    if needed[0]:
        padded, rows = torch.zeros_like(_padded(x)), _pooled(x.shape[1])
        for place, part in enumerate((product @ g.T).view(8, len(x), rows, -1)):
            padded[:, place % 2, place // 2 : place // 2 + 2 * rows : 2] += part
        g_x = padded.movedim(1, 3).flatten(2)[:, 3 : 3 + x.shape[1], 2 : 2 + x.shape[2]]  # without the padding
    return g_x, windows @ g, g_shift, g_kernel, None


def _last(x: Tensor, scale: Tensor, shift: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor]:
    """Block 2's normalisation and ReLU, the 1 x 1 convolution."""
    columns = x.shape[3]
    rows = torch.addcmul(shift.repeat(columns), _rows(x), scale.repeat(columns)).relu_()
    out = rows.view(-1, len(scale)) @ kernel.flatten() + bias
    return (out.view(len(x), 1, -1, columns),)


class _InChunks(torch.autograd.Function):
    """``work(x, *weights)``: its first result for every slice, sums of the others. Nothing is kept but what it is given."""

    @staticmethod
    def forward(ctx: Any, work: Any, back: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.work, ctx.back = work, back or partial(_gradients, work)
        ctx.save_for_backward(x, *weights)
        firsts, *others = zip(*_map(lambda place: work(x[place], *weights), _places(x)), strict=True)
        return (torch.cat(firsts), *(torch.stack(parts).sum(0) for parts in others))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, *weights), needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():  # somebody differentiates the gradient: all slices at once, with their graph
            return None, None, *_gradients(ctx.work, needed, gradients, x, *weights)
        found = _map(lambda place: ctx.back(needed, (gradients[0][place], *gradients[1:]), x[place], *weights), _places(x))
        of_x, *others = zip(*found, strict=True)
        total = [torch.stack(parts).sum(0) if need else None for parts, need in zip(others, needed[1:], strict=True)]
        return None, None, torch.cat(of_x) if needed[0] else None, *total


def _places(x: Tensor) -> list[slice]:
    """Chunks of the slices, an even number of them."""
    size = -(-len(x) // (2 * -(-len(x) // (2 * CHUNK))))
    return [slice(first, first + size) for first in range(0, len(x), size)]


def _map(work: Callable[[slice], Any], places: list[slice]) -> list[Any]:
    """``work(place)`` for every place, each core on its own: all cores on one chunk would wait for each other at every step."""
    cores = torch.get_num_threads()
    if cores == 1 or len(places) == 1:
        return [work(place) for place in places]
    torch.set_num_threads(1)  # new threads inherit it
    try:
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(torch.no_grad()(work), places))
    finally:
        torch.set_num_threads(cores)


def _gradients(work: Callable[..., Any], needed: Any, gradients: Any, *inputs: Tensor) -> list[Tensor | None]:
    """Of ``work``, with respect to the inputs that need one; with a graph where one is asked for."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [t.view_as(t) if create_graph else t.detach().requires_grad_(need) for t, need in zip(inputs, needed, strict=True)]
        wanted = [t for t, need in zip(own, needed, strict=True) if need]
        found = iter(torch.autograd.grad(work(*own), wanted, gradients, create_graph=create_graph))
    return [next(found) if need else None for need in needed]
