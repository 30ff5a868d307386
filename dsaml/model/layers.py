"""Layers whose weights may carry one more leading dimension: a different set of weights for each task.

MAML adapts one copy of the model per task. Written with these layers, a single forward pass serves all tasks at once:
an activation is ``(tasks, batch, ...)`` and each adapted weight ``(tasks, *its usual shape)``. With ordinary weights they
are torch's own layers, and activations have no ``tasks`` dimension.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dsaml.runtime import fast_linear


class Linear(nn.Linear):
    """``nn.Linear``; with a weight of (tasks, out, in), input (tasks, ..., in) gives output (tasks, ..., out)."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return fast_linear.linear(input, self.weight, self.bias)
        flat = input.flatten(1, -2)  # (tasks, rows, in)
        out = torch.baddbmm(self.bias.unsqueeze(1), flat, self.weight.mT)  # (tasks, rows, out)
        return out.view(*input.shape[:-1], out.shape[-1])


class Dropout(nn.Dropout):
    """``nn.Dropout`` from uniform numbers, which a CPU draws in half the time of its Bernoulli ones."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        keep = torch.rand(input.shape, device=input.device) >= self.p  # kept for the backward pass: a byte each
        return torch.where(keep, input, 0) * (1 / (1 - self.p))


class LayerNorm(nn.LayerNorm):
    """``nn.LayerNorm`` over the last dimension; weight and bias may be (tasks, dim)."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(input)
        shape = (self.weight.shape[0], *(1,) * (input.dim() - 2), self.weight.shape[1])
        normal = F.layer_norm(input, self.normalized_shape, eps=self.eps)
        return normal * self.weight.view(shape) + self.bias.view(shape)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d``; with a weight of (tasks, out, in, h, w), input (tasks, batch, in, H, W), through grouped convolution."""

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 4:
            return super().forward(input)
        tasks = self.weight.shape[0]
        merged = input.transpose(0, 1).flatten(1, 2)  # (batch, tasks * in, H, W)
        weight, bias = self.weight.flatten(0, 1), self.bias.flatten()
        out = F.conv2d(merged, weight, bias, self.stride, self.padding, self.dilation, groups=tasks)
        return out.unflatten(1, (tasks, -1)).transpose(0, 1)  # (tasks, batch, out, H, W)


class BatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``; weight and bias may be (tasks, channels), then statistics are each task's own in train mode.

    With stacked weights the running statistics are read (eval mode) but never updated: they belong to the base model.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.weight.dim() == 1:
            return super().forward(input)
        tasks = self.weight.shape[0]
        merged = input.transpose(0, 1).flatten(1, 2)  # (batch, tasks * channels, H, W)
        mean = var = None
        if not self.training:
            mean, var = self.running_mean.repeat(tasks), self.running_var.repeat(tasks)
        out = F.batch_norm(merged, mean, var, self.weight.flatten(), self.bias.flatten(), self.training, eps=self.eps)
        return out.unflatten(1, (tasks, -1)).transpose(0, 1)


class _BothWays(nn.RNNBase):
    """One bidirectional layer, batch first; parameters under torch's own names, stacked ones allowed.

    With ordinary weights this is torch's fused layer. With stacked weights the recurrence is written out: both directions of
    all tasks advance together, one batched matrix product per time step. It has second derivatives, which cuDNN's does not.

    Where sequences of a batch end early, each direction reads its own steps alone: the backward one begins at the sequence's end.
    """

    weight_ih_l0: Tensor
    weight_ih_l0_reverse: Tensor
    weight_hh_l0: Tensor
    weight_hh_l0_reverse: Tensor
    bias_ih_l0: Tensor
    bias_ih_l0_reverse: Tensor
    bias_hh_l0: Tensor
    bias_hh_l0_reverse: Tensor
    _torch: Callable[..., Tensor]  # the fused layer
    _advance: Callable[[Tensor, Tensor, Tensor, Sequence[Tensor | None]], list[Tensor]]  # the recurrence

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size, batch_first=True, bidirectional=True)  # type: ignore[call-arg, arg-type]

    def forward(self, input: Tensor, there: Tensor | None = None) -> Tensor:
        """(..., T, input_size) -> (..., T, 2 * hidden_size); ``there`` (..., T) is False where a sequence has ended."""
        out = (self._written_out if self.weight_hh_l0.dim() == 3 else self._fused)(input, there)
        return out.view(*input.shape[:-1], 2 * self.hidden_size)

    def _fused(self, input: Tensor, there: Tensor | None) -> Tensor:
        flat = input.flatten(0, -3)  # (rows, T, in)
        zero = flat.new_zeros(2, flat.shape[0], self.hidden_size)
        weights = [getattr(self, name) for name in self._flat_weights_names]  # torch's list misses functional_call's
        train = torch.is_grad_enabled()  # not dropout's mode: cuDNN has no gradient of what it computed for use alone
        settings = (True, 1, 0.0, train, True)  # biases, layers, dropout between them, training, both ways
        with warnings.catch_warnings():  # adapted weights are no single block; cuDNN copies them, and says so at every call
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            if there is None:
                return self._torch((flat,), zero, weights, *settings, True)  # batch first
            lengths = there.flatten(0, -2).sum(-1).cpu()
            packed = pack_padded_sequence(flat, lengths, batch_first=True, enforce_sorted=False)
            out = self._torch(packed[:2], zero, weights, *settings)
        return pad_packed_sequence(PackedSequence(out, *packed[1:]), batch_first=True, total_length=flat.shape[1])[0]

    def _written_out(self, input: Tensor, there: Tensor | None) -> Tensor:
        w_in = torch.stack((self.weight_ih_l0, self.weight_ih_l0_reverse), 1).flatten(0, 1)  # (tasks * 2, G, in)
        w_hidden = torch.stack((self.weight_hh_l0, self.weight_hh_l0_reverse), 1).flatten(0, 1).mT
        b_in = torch.stack((self.bias_ih_l0, self.bias_ih_l0_reverse), 1)  # (tasks, 2, G)
        b_hidden = torch.stack((self.bias_hh_l0, self.bias_hh_l0_reverse), 1)
        bias = torch.stack((b_in, b_hidden)).flatten(1, 2).unsqueeze(2)  # (2, tasks * 2, 1, G)
        flat = input.flatten(1, -3)  # (tasks, rows, T, in)
        both = torch.stack((flat, flat.flip(2)), 1).flatten(0, 1)  # (tasks * 2, rows, T, in): the second runs backwards
        gates = torch.bmm(both.flatten(1, 2), w_in.mT).unflatten(1, flat.shape[1:3])  # (tasks * 2, rows, T, G)
        kept: Sequence[Tensor | None] = [None] * gates.shape[2]
        if there is not None:  # (tasks * 2, rows, 1) for each step: no state comes out of what is not there
            kept = torch.stack((there, there.flip(-1)), 1).flatten(0, 1).flatten(1, -2).unsqueeze(-1).unbind(2)
        states = self._advance(gates, w_hidden, bias, kept)  # T x (tasks * 2, rows, hidden)
        out = torch.stack(states, 2).unflatten(0, (-1, 2))  # (tasks, 2, rows, T, hidden)
        return torch.cat((out[:, 0], out[:, 1].flip(2)), -1)  # (tasks, rows, T, 2 * hidden)


class BiLSTM(_BothWays, nn.LSTM):
    """Long short-term memory, both ways: (..., T, input_size) -> (..., T, 2 * hidden_size)."""

    def _torch(self, inputs: Any, zero: Tensor, *settings: Any) -> Tensor:
        kernel: Callable[..., Any] = torch.lstm
        return kernel(*inputs, (zero, zero), *settings)[0]

    def _advance(self, gates: Tensor, w_hidden: Tensor, bias: Tensor, kept: Sequence[Tensor | None]) -> list[Tensor]:
        gates = gates + bias.sum(0).unsqueeze(1)  # (tasks * 2, rows, T, 4H)
        hidden = cell = gates.new_zeros(*gates.shape[:2], self.hidden_size)
        states = []
        for gate, keep in zip(gates.unbind(2), kept, strict=True):
            i, f, g, o = torch.baddbmm(gate, hidden, w_hidden).chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell.tanh()
            if keep is not None:
                cell, hidden = cell * keep, hidden * keep
            states.append(hidden)
        return states


class BiGRU(_BothWays, nn.GRU):
    """Gated recurrent units, both ways: (..., T, input_size) -> (..., T, 2 * hidden_size)."""

    def _torch(self, inputs: Any, zero: Tensor, *settings: Any) -> Tensor:
        kernel: Callable[..., Any] = torch.gru
        return kernel(*inputs, zero, *settings)[0]

    def _advance(self, gates: Tensor, w_hidden: Tensor, bias: Tensor, kept: Sequence[Tensor | None]) -> list[Tensor]:
        size = 2 * self.hidden_size
        gates = gates + bias[0].unsqueeze(1)
        hidden = gates.new_zeros(*gates.shape[:2], self.hidden_size)
        states = []
        for gate, new, keep in zip(gates[..., :size].unbind(2), gates[..., size:].unbind(2), kept, strict=True):
            inside = torch.baddbmm(bias[1], hidden, w_hidden)  # (tasks * 2, rows, 3H)
            reset, update = (gate + inside[..., :size]).sigmoid().chunk(2, -1)
            new = torch.addcmul(new, reset, inside[..., size:]).tanh()
            hidden = torch.lerp(new, hidden, update)
            if keep is not None:
                hidden = hidden * keep
            states.append(hidden)
        return states
