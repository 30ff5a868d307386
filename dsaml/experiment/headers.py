"""Settings read from a file that anyone may have written: every field is checked before anything is built from it."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dsaml.audio.recording import HIGHEST_RATE, LOWEST_RATE
from dsaml.config import AudioConfig, ModelConfig, Profile

LARGEST = 1 << 20  # of any whole number in a header: sizes, steps, samples
MOST_LAYERS = 256


def read_profile(fields: Any) -> Profile:
    """A :class:`Profile` from the JSON of one.

    Raises
    ------
    ValueError
        If a field is missing, unknown, of another type, or out of any sensible range; says which.
    """
    profile = _read(Profile, fields, "profile")
    _check_audio(profile.audio)
    _check_model(profile.model, profile.audio)
    return profile


def _read(kind: type, value: Any, name: str) -> Any:
    """One value of a given type, or ValueError."""
    origin, wanted = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = [option for option in wanted if option is not type(None)]
        return None if value is None and len(inner) < len(wanted) else _read(inner[0], value, name)
    if origin is Literal:
        if value not in wanted:
            raise ValueError(f"{name} is {value!r}, not one of {', '.join(map(str, wanted))}")
        return value
    if origin is tuple:
        each = [wanted[0]] * len(value) if wanted[-1] is ... and isinstance(value, list) else list(wanted)
        if not isinstance(value, list) or len(value) != len(each):
            raise ValueError(f"{name} is {value!r}, not a list of {len(wanted)} numbers")
        return tuple(_read(one, item, f"{name}[{n}]") for n, (one, item) in enumerate(zip(each, value, strict=True)))
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, name)
    if kind is float and type(value) is int:
        return value
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{name} is {value!r}, which is no {'number' if kind is float else kind.__name__}")
    if kind is int and not 0 <= value <= LARGEST:
        raise ValueError(f"{name} is {value}, not from 0 to {LARGEST}")
    return value


def _read_dataclass(kind: type, value: Any, name: str) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {value!r}, no group of settings")
    if odd := sorted(set(hints) ^ set(value)):
        raise ValueError(f"{name}.{odd[0]} is {'missing' if odd[0] in hints else 'unknown'}")
    return kind(**{key: _read(hint, value[key], f"{name}.{key}") for key, hint in hints.items()})


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
