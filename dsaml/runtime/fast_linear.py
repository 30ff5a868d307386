"""``F.linear`` on a CPU through oneDNN: the same products, up to rounding, on AMD's processors twice as fast.

torch asks MKL for its float32 products, and MKL uses half of the vector width of a processor that is not Intel's. oneDNN, which
torch asks for its convolutions, uses all of it, and takes transposed matrices as they are.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: (..., in), (out, in), (out) -> (..., out)."""
    here = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    if not here or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    """Its gradients are such products again, with derivatives of their own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), needed, rows = ctx.saved_tensors, ctx.needs_input_grad, gradient.reshape(-1, gradient.shape[-1])
        return (
            _Linear.apply(gradient, weight.t(), None) if needed[0] else None,
            _Linear.apply(rows.t(), x.reshape(-1, x.shape[-1]).t(), None) if needed[1] else None,
            rows.sum(0) if needed[2] else None,
        )
