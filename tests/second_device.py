"""A second device for machines that have none: real numbers, a device of their own, and an error where devices are mixed.

Inside :func:`second_device` a tensor that is sent to ``DEVICE`` says that it is there, whatever is computed from it is there too,
and an operation that meets one of those and a tensor of the CPU fails, as on a GPU. (A number, and copying from one to the
other, are allowed, as there.) The numbers are computed by the CPU's kernels, so that they can be compared. Its recurrent kernels
are fused, and like cuDNN's they have a gradient only of what they were asked to compute for training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "lazy"  # a name that torch knows and no build of it computes on
COPIES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}


class Elsewhere(Tensor):
    """A tensor that says it is on ``DEVICE``; ``value`` holds its numbers."""

    value: Tensor

    @staticmethod
    def __new__(cls, value: Tensor) -> Elsewhere:
        layout = {"strides": value.stride(), "storage_offset": value.storage_offset(), "dtype": value.dtype}
        made = Tensor._make_wrapper_subclass(cls, value.shape, device=DEVICE, **layout)
        made.value = value
        return made

    def __reduce_ex__(self, protocol: int) -> Any:
        """Saved as what it is read again as: checkpoints are read to the CPU."""
        return self.value.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        raise AssertionError(f"{function}: a tensor of the second device outside of it")


class _Mixed(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = dict(named or {})
        tensors = [t for t in tree_leaves((arguments, named)) if isinstance(t, Tensor)]
        there = {id(t.value): t for t in tensors if isinstance(t, Elsewhere)}
        here = [t for t in tensors if not isinstance(t, Elsewhere) and t.dim()]
        if there and here and function not in COPIES:
            raise RuntimeError(f"{function}: tensors on {DEVICE} and of shape {tuple(here[0].shape)} on the CPU")
        device = named.get("device")
        elsewhere = bool(there) if device is None else torch.device(device).type == DEVICE
        if device is not None and elsewhere:
            named["device"] = torch.device("cpu")
        values = tree_map(lambda t: t.value if isinstance(t, Elsewhere) else t, (arguments, named))
        found = function(*values[0], **values[1])

        def back(one: Any) -> Any:
            if not isinstance(one, Tensor):
                return one
            return there.get(id(one)) if id(one) in there else Elsewhere(one) if elsewhere else one

        return tree_map(back, found)


class _Fused(torch.autograd.Function):
    """A recurrent layer in one piece, on the second device."""

    @staticmethod
    def forward(ctx: Any, kernel: Callable[[list[Tensor]], Tensor], train: bool, *tensors: Elsewhere) -> Elsewhere:
        with _disable_current_modes(), torch.enable_grad():
            values = [t.value.detach().requires_grad_() for t in tensors]
            out = kernel(values)
        ctx.kept, ctx.train = (values, out), train
        return Elsewhere(out.detach())

    @staticmethod
    def backward(ctx: Any, gradient: Elsewhere) -> Any:
        if not ctx.train:
            raise RuntimeError("RNN backward can only be called in training mode")
        values, out = ctx.kept
        with _disable_current_modes():
            return (None, None, *map(Elsewhere, torch.autograd.grad(out, values, gradient.value)))


def _fused(real: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.lstm`` or ``torch.gru``: as they are on the CPU, in one piece on the second device."""

    def layer(input: Tensor, hidden: Any, weights: list[Tensor], *settings: Any) -> Any:
        if not isinstance(input, Elsewhere):
            return real(input, hidden, weights, *settings)
        states = hidden if isinstance(hidden, tuple) else (hidden,)

        def kernel(tensors: list[Tensor]) -> Tensor:
            own = tuple(tensors[1 : 1 + len(states)])
            return real(tensors[0], own if isinstance(hidden, tuple) else own[0], tensors[1 + len(states) :], *settings)[0]

        return (_Fused.apply(kernel, settings[3], input, *states, *weights),)

    return layer


@contextmanager
def second_device() -> Iterator[str]:
    """Its name, while there is one."""
    with patch.object(torch, "lstm", _fused(torch.lstm)), patch.object(torch, "gru", _fused(torch.gru)), _Mixed():
        yield DEVICE
