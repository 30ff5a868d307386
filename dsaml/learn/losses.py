"""Losses. Every function keeps leading ``tasks`` dimensions: one value for each task."""

from __future__ import annotations

import torch
from torch import Tensor

from dsaml.config import PCC_EPS, ModelConfig
from dsaml.model.dsaml import Output


def mean_where(x: Tensor, there: Tensor | None, axis: int) -> Tensor:
    """Mean along an axis over what is there; all of it counts where ``there`` is None. 0 where nothing is."""
    if there is None:
        return x.mean(axis)
    return torch.where(there, x, 0).sum(axis) / there.sum(axis).clamp_min(1)


def sequence_scores(prediction: Tensor, target: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """CCC (biased variances), PCC and RMSE along time.

    Parameters
    ----------
    prediction, target : Tensor, shape (..., T, 2)
    there : Tensor, shape (..., T), optional
        False where a sequence has ended; what stands there does not count.

    Returns
    -------
    ccc, pcc, rmse : Tensor, shape (..., 2)
    """
    steps = prediction.shape[-2] if there is None else there.sum(-1, keepdim=True)
    if there is not None:
        there = there.unsqueeze(-1)
    mean_p, mean_t = mean_where(prediction, there, -2), mean_where(target, there, -2)  # (..., 2)
    centred_p, centred_t = prediction - mean_p.unsqueeze(-2), target - mean_t.unsqueeze(-2)
    covariance = mean_where(centred_p * centred_t, there, -2)
    var_p, var_t = mean_where(centred_p.square(), there, -2), mean_where(centred_t.square(), there, -2)
    tiny = torch.finfo(prediction.dtype).tiny
    ccc = 2 * covariance / (var_p + var_t + (mean_p - mean_t).square()).clamp_min(tiny)
    # the square root's slope is infinite at zero: a constant sequence would give a NaN gradient
    pcc = covariance / ((var_p * var_t).clamp_min(PCC_EPS**3).sqrt() + PCC_EPS / steps)
    rmse = mean_where((prediction - target).square(), there, -2).clamp_min(tiny).sqrt()
    return ccc, pcc, rmse


def score_loss(prediction: Tensor, target: Tensor, there: Tensor | None = None) -> Tensor:
    """1 - mean over {arousal, valence} x {CCC, PCC, 1 - RMSE}, per sequence, averaged over the batch (released code).

    ``prediction`` and ``target`` are (..., B, T, 2), ``there`` (..., B, T); the result is (...).
    """
    ccc, pcc, rmse = sequence_scores(prediction, target, there)  # (..., B, 2)
    return 1 - ((ccc + pcc + 1 - rmse) / 3).mean((-1, -2))


def mse_loss(prediction: Tensor, target: Tensor, there: Tensor | None = None) -> Tensor:
    """Mean squared error, of songs that count alike: (..., B, T, 2) -> (...)."""
    squared = (prediction - target).square()
    return squared.mean((-1, -2, -3)) if there is None else mean_where(squared, there.unsqueeze(-1), -2).mean((-1, -2))


def diagonal_attention_loss(output: Output, alpha: float, beta: float, there: Tensor | None = None) -> Tensor:
    """Eq. 3 on the last layer's maps, averaged over heads and batch; an ablated scale adds nothing. Shape (...)."""
    loss = output.prediction.new_zeros(())
    for maps, goal in ((output.attention_local, alpha), (output.attention_global, beta)):
        if maps is not None:
            last = maps[..., -1, :, :, :]  # (..., B, layers, heads, T, T) -> (..., B, heads, T, T)
            if there is None:
                loss = loss + (last.mean((-3, -4)).diagonal(dim1=-2, dim2=-1) - goal).square().mean(-1)
            else:  # at each step the songs that are there
                own = mean_where(last.mean(-3).diagonal(dim1=-2, dim2=-1), there, -2)  # (..., T)
                loss = loss + mean_where((own - goal).square(), there.any(-2), -1)
    return loss


def total_loss(output: Output, target: Tensor, kind: str, config: ModelConfig, there: Tensor | None = None) -> Tensor:
    """Regression loss ("score" or "mse") plus the weighted diagonal attention loss. Shape (...)."""
    regression = score_loss if kind == "score" else mse_loss
    half = output.prediction.dtype == torch.bfloat16  # under autocast
    loss = regression(output.prediction.float() if half else output.prediction, target, there)
    if config.attention_loss_weight:
        loss = loss + config.attention_loss_weight * diagonal_attention_loss(output, config.alpha, config.beta, there)
    return loss
