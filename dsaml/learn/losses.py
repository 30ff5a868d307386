"""Losses. Every function keeps leading ``tasks`` dimensions: one value for each task."""

from __future__ import annotations

import torch
from torch import Tensor

from dsaml.config import PCC_EPS, ModelConfig
from dsaml.model.dsaml import Output


def sequence_scores(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """CCC (biased variances), PCC and RMSE along time.

    Parameters
    ----------
    prediction, target : Tensor, shape (..., T, 2)

    Returns
    -------
    ccc, pcc, rmse : Tensor, shape (..., 2)
    """
    mean_p, mean_t = prediction.mean(-2), target.mean(-2)  # (..., 2)
    centred_p, centred_t = prediction - mean_p.unsqueeze(-2), target - mean_t.unsqueeze(-2)
    covariance = (centred_p * centred_t).mean(-2)
    var_p, var_t = centred_p.square().mean(-2), centred_t.square().mean(-2)
    tiny = torch.finfo(prediction.dtype).tiny
    ccc = 2 * covariance / (var_p + var_t + (mean_p - mean_t).square()).clamp_min(tiny)
    # the square root's slope is infinite at zero: a constant sequence would give a NaN gradient
    pcc = covariance / ((var_p * var_t).clamp_min(PCC_EPS**3).sqrt() + PCC_EPS / prediction.shape[-2])
    rmse = (prediction - target).square().mean(-2).clamp_min(tiny).sqrt()
    return ccc, pcc, rmse


def score_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - mean over {arousal, valence} x {CCC, PCC, 1 - RMSE}, per sequence, averaged over the batch (released code).

    ``prediction`` and ``target`` are (..., B, T, 2); the result is (...).
    """
    ccc, pcc, rmse = sequence_scores(prediction, target)  # (..., B, 2)
    return 1 - ((ccc + pcc + 1 - rmse) / 3).mean((-1, -2))


def mse_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: (..., B, T, 2) -> (...)."""
    return (prediction - target).square().mean((-1, -2, -3))


def diagonal_attention_loss(output: Output, alpha: float, beta: float) -> Tensor:
    """Eq. 3 on the last layer's maps, averaged over heads and batch; an ablated scale adds nothing. Shape (...)."""
    loss = output.prediction.new_zeros(())
    for maps, goal in ((output.attention_local, alpha), (output.attention_global, beta)):
        if maps is not None:
            last = maps[..., -1, :, :, :].mean((-3, -4))  # (..., B, layers, heads, T, T) -> (..., T, T)
            loss = loss + (last.diagonal(dim1=-2, dim2=-1) - goal).square().mean(-1)
    return loss


def total_loss(output: Output, target: Tensor, kind: str, config: ModelConfig) -> Tensor:
    """Regression loss ("score" or "mse") plus the weighted diagonal attention loss. Shape (...)."""
    regression = score_loss if kind == "score" else mse_loss
    half = output.prediction.dtype == torch.bfloat16  # under autocast
    loss = regression(output.prediction.float() if half else output.prediction, target)
    if config.attention_loss_weight:
        loss = loss + config.attention_loss_weight * diagonal_attention_loss(output, config.alpha, config.beta)
    return loss
