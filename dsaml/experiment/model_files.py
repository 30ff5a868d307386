"""Trained models as one safetensors file: weights, and in its header the settings that they need."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from dsaml.config import Profile
from dsaml.errors import DsamlError, require_file
from dsaml.experiment.headers import read_profile
from dsaml.io import pack_tensors, read_tensors, write_bytes_atomically
from dsaml.model.dsaml import DSAML
from dsaml.model.weights import load_weights


def save_model(path: str | Path, model: DSAML, profile: Profile, about: dict[str, Any]) -> Path:
    """Write a model.

    Parameters
    ----------
    path : path
        Ends in ``.safetensors``.
    model : DSAML
    profile : Profile
        Everything that prediction and personalization need: inputs, encoder, inner loop.
    about : dict
        Where it comes from: the stamp of the training run, or whom it is personalized for.
    """
    path = Path(path)
    header = {"profile": json.dumps(dataclasses.asdict(profile)), "about": json.dumps(about)}
    write_bytes_atomically(path, pack_tensors(model.state_dict(), header))
    return path


def load_model(path: str | Path) -> tuple[DSAML, Profile, dict[str, Any]]:
    """Read a model that :func:`save_model` wrote; nothing in the file is executed.

    Returns
    -------
    model : DSAML
        In eval mode.
    profile : Profile
    about : dict

    Raises
    ------
    DsamlError
        If the file is missing, damaged, or no model of this package.
    """
    path = Path(path)
    require_file(path, "model", "train one with 'python -m dsaml train' or correct the path")
    try:
        weights, header = read_tensors(path)
        profile, about = read_profile(json.loads(header["profile"])), json.loads(header["about"])
        if not isinstance(about, dict) or not isinstance(about.get("seeds", []), list):
            raise ValueError("its header does not say where it comes from")
        with torch.device("meta"):  # sizes are compared before memory is taken for them
            load_weights(DSAML(profile.model), weights, str(path))
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DsamlError(
            f"{path}: not a model of this package ({error}); give a .safetensors file that it wrote"
        ) from error
    model = DSAML(profile.model)
    load_weights(model, weights, str(path))
    return model.eval(), profile, about
