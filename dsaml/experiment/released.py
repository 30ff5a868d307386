"""Checkpoints of the authors' released code: their names, and the model that they describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dsaml.config import released
from dsaml.errors import DsamlError, require_file
from dsaml.io import load_weights, read_weights
from dsaml.model.dsaml import DSAML

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


def read_released(path: str | Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of the released code (``epoch_N.pt``) by their names there; nothing in it is executed.

    Raises
    ------
    DsamlError
        If there is no such file, it is damaged, or it holds anything but a table of weights.
    """
    advice = "give a file that the released code saved, such as epoch_2000.pt"
    require_file(Path(path), "checkpoint", advice)
    return {name.removeprefix("module."): value for name, value in read_weights(Path(path), advice).items()}


def load_released(state_dict: Mapping[str, Tensor]) -> DSAML:
    """Build the ``released`` variant from weights under the released code's names.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        D, the numbers of layers and heads, the feed-forward width and the position limit are read off the shapes.

    Returns
    -------
    DSAML
        In eval mode.

    Raises
    ------
    DsamlError
        If weights are missing, unknown or of a wrong shape (all are listed), or no number of heads fits.
    """
    weights = {}
    for name, tensor in state_dict.items():
        for theirs, ours in RELEASED_NAMES:
            name = name.replace(theirs, ours)
        weights[name] = torch.as_tensor(tensor)
    needed = ("adapter.linear.weight", "attention.layers.0.up.weight", "attention.layers.0.distance")
    if absent := [name for name in needed if name not in weights or weights[name].dim() != 2]:
        raise DsamlError(f"released weights: no {', '.join(absent)} among {len(weights)} names; is this a checkpoint of DSAML?")
    dim, feed_forward = len(weights[needed[0]]), len(weights[needed[1]])
    limit, head_dim = weights[needed[2]].shape
    heads = dim // max(1, head_dim)
    if heads * head_dim != dim:
        raise DsamlError(f"released weights: {heads} heads of {head_dim} do not make D = {dim}; get the checkpoint again")
    layers = {name.split(".")[2] for name in weights if name.startswith("attention.layers.")}
    settings = dataclasses.replace(released(), dim=dim, heads=heads, layers=len(layers), feed_forward=feed_forward)
    model = DSAML(dataclasses.replace(settings, max_positions=(limit + 1) // 2))
    load_weights(model, weights, "released weights")
    return model.eval()
