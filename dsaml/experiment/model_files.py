"""Trained models as one safetensors file: weights, and in its header the settings that they need.

A header is text that anyone may have written: every field is checked before anything is built from it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from dsaml.audio.recording import HIGHEST_RATE, LOWEST_RATE
from dsaml.config import AudioConfig, ModelConfig, Profile
from dsaml.errors import DsamlError, require_file
from dsaml.io import load_weights, pack_tensors, read_tensors, write_bytes_atomically
from dsaml.model.dsaml import DSAML

LARGEST = 1 << 20  # of any whole number in a header: sizes, steps, samples
MOST_LAYERS = 256


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


@contextmanager
def model_file(path: Path, advice: str) -> Iterator[tuple[dict[str, Tensor], dict[str, str], dict[str, Any]]]:
    """Tensors and header of a model's file, and what the header says of where it comes from.

    Raises
    ------
    DsamlError
        If the file is missing (``advice`` says what to do), damaged, or none of this package, which may turn out inside the block.
    """
    require_file(path, "model", advice)
    try:
        tensors, header = read_tensors(path)
        about = json.loads(header["about"])
        if not isinstance(about, dict) or not isinstance(about.get("seeds", []), list):
            raise ValueError("its header does not say where it comes from")
        yield tensors, header, about
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DsamlError(f"{path}: not a model of this package ({error}); give a .safetensors file that it wrote") from error


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
    with model_file(path, "train one with 'python -m dsaml train' or correct the path") as (weights, header, about):
        if kind := header.get("kind"):
            raise ValueError(f"it holds a {kind} model, which predict and personalize take")
        profile = read_profile(json.loads(header["profile"]))
        with torch.device("meta"):  # sizes are compared before memory is taken for them
            load_weights(DSAML(profile.model), weights, str(path))
    model = DSAML(profile.model)
    load_weights(model, weights, str(path))
    return model.eval(), profile, about


def read_profile(fields: Any) -> Profile:
    """A :class:`Profile` from the JSON of one.

    Raises
    ------
    ValueError
        If a field is missing, unknown, of another type, or out of any sensible range; says which.
    """
    if isinstance(fields, Mapping):  # files from before there was a choice
        fields = {"embeddings": "by-length", **fields}
    profile = read_settings(Profile, fields, "profile")
    _check_audio(profile.audio)
    _check_model(profile.model, profile.audio)
    return profile


def read_settings(kind: type, value: Any, name: str) -> Any:
    """One value of a given type, a dataclass of settings among them, from JSON; ValueError says what is wrong with it."""
    origin, wanted = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r}, no group of settings")
        if odd := sorted(set(hints) ^ set(value)):
            raise ValueError(f"{name}.{odd[0]} is {'missing' if odd[0] in hints else 'unknown'}")
        return kind(**{key: read_settings(hint, value[key], f"{name}.{key}") for key, hint in hints.items()})
    if origin in (Union, types.UnionType):  # of a kind and None
        return None if value is None else read_settings(wanted[0], value, name)
    if origin is Literal:
        if value not in wanted:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(map(str, wanted))}")
        return value
    if origin is tuple:
        each = [wanted[0]] * len(value) if wanted[-1] is ... and isinstance(value, list) else list(wanted)
        if not isinstance(value, list) or len(value) != len(each):
            raise ValueError(f"{name} is {value!r}, not a list of {len(wanted)} numbers")
        return tuple(read_settings(one, item, f"{name}[{n}]") for n, (one, item) in enumerate(zip(each, value, strict=True)))
    if kind is float and type(value) is int:
        return value
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}, which is no {'number' if kind is float else kind.__name__}")
    if kind is int and not 0 <= value <= LARGEST:
        raise ValueError(f"{name} is {value}, not from 0 to {LARGEST}")
    return value


def _check_audio(audio: AudioConfig) -> None:
    if not LOWEST_RATE <= audio.sample_rate <= HIGHEST_RATE:
        raise ValueError(f"its sample rate is {audio.sample_rate} Hz")
    if not 0.01 <= audio.step_seconds <= 60 or not 0 <= audio.label_start <= 86_400:
        raise ValueError(f"its steps of {audio.step_seconds} s begin at {audio.label_start} s")
    samples = round(audio.step_seconds * audio.sample_rate)
    sizes = (audio.hop_length, audio.n_mels, *audio.pool)
    if min(sizes) < 1 or not 16 <= audio.n_fft <= 2 * samples or audio.n_mels > audio.n_fft or audio.log_offset <= 0:
        raise ValueError("its spectrogram settings fit no slice of audio")


def _check_model(model: ModelConfig, audio: AudioConfig) -> None:
    if min(model.dim, model.heads, model.layers, model.feed_forward, model.max_positions, *model.slice_shape) < 1:
        raise ValueError("a size of its model is 0")
    if model.layers > MOST_LAYERS or not 0 <= model.dropout < 1 or model.layer_norm_eps <= 0:
        raise ValueError("its model has impossible settings")
    frames = round(audio.step_seconds * audio.sample_rate) // audio.hop_length + 1
    shape = (math.ceil(frames / audio.pool[0]), math.ceil(audio.n_mels / audio.pool[1]))
    if model.slice_shape != shape:
        raise ValueError(f"its model wants slices of {model.slice_shape}, its audio settings give {shape}")
