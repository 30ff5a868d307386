"""Trained models as one safetensors file, weights and a header with the settings that they need; checkpoints of the released code.

A header is text that anyone may have written: every field is checked before anything is built from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
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
from dsaml.config import PAPER, AudioConfig, ModelConfig, Profile, adjusted, released
from dsaml.errors import DsamlError, require_file
from dsaml.io import load_weights, pack_tensors, read_tensors, read_weights, write_bytes_atomically
from dsaml.model.dsaml import DSAML

LARGEST = 1 << 20  # of any whole number in a header: sizes, steps, samples
MOST_LAYERS = 256
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


def save_model(path: str | Path, model: DSAML, profile: Profile, about: dict[str, Any]) -> Path:
    """Write a model with everything that prediction and personalization need: inputs, encoder, inner loop.

    ``about`` says where it comes from: the stamp of the training run, or whom it is personalized for.
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
    """Read a model (in eval mode), its profile and where it comes from, as :func:`save_model` wrote them; nothing is executed.

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
    """The ``released`` variant (in eval mode) with weights under the released code's names; its sizes are read off their shapes.

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


def import_released(checkpoint: Path, out: Path, encoder: str) -> Profile:
    """Write a checkpoint of the authors' released code as a model file; gives the profile that stands in it.

    The profile is the paper's with the ``released`` variant, and the sizes that the checkpoint has.

    Raises
    ------
    DsamlError
        See :func:`read_released` and :func:`load_released`; or if ``out`` does not end in ``.safetensors``.
    """
    if out.suffix != ".safetensors":
        raise DsamlError(f"{out}: a model file ends in .safetensors; choose another name")
    weights = read_released(checkpoint)
    try:
        model = load_released(weights)
    except DsamlError as error:
        raise DsamlError(f"{checkpoint}: {error}") from error
    profile = dataclasses.replace(adjusted(PAPER, encoder, "released"), model=model.config)
    about = {"released_checkpoint": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    save_model(out, model, profile, about)
    return profile
