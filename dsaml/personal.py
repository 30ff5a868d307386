"""One song, one person: predict the curve of an audio file, and make a model one's own from one annotated song."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dsaml.audio import log_mel_slices, slice_times
from dsaml.config import AudioConfig
from dsaml.encoders import GlobalEncoder, windows_for
from dsaml.errors import DsamlError, require_file
from dsaml.export import load_model, save_model
from dsaml.features import Features
from dsaml.maml import Batch, mode, personalize
from dsaml.recording import listen
from dsaml.results import write_bytes_atomically
from dsaml.windows import WINDOW, predict_song

COLUMNS = ("time_s", "arousal", "valence")
SHORTEST = 10  # steps; a curve below 5 s says too little about a person


def song_features(path: Path, config: AudioConfig, encoder: GlobalEncoder, steps: int | None = None) -> Features:
    """Features of any audio file from ``config.label_start`` on, without a cache.

    Raises
    ------
    DsamlError
        If the file cannot be decoded or is too short.
    """
    waveform = listen(path, config.sample_rate)
    try:
        log_mel = log_mel_slices(waveform, config, steps)
    except DsamlError as error:
        raise DsamlError(f"{path}: {error}") from error
    windows, index = windows_for(len(log_mel) <= WINDOW, len(log_mel), config, hop_seconds=2.0)
    return Features(log_mel, encoder.embed(waveform, config.sample_rate, windows)[index])


def predict_file(song: Path, checkpoint: Path, encoder_of: Any, start: float = 0.0) -> pd.DataFrame:
    """Arousal and valence of an audio file at 2 Hz.

    Parameters
    ----------
    song : path
        MP3, WAV, FLAC or OGG.
    checkpoint : path
        A model of :mod:`dsaml.export`, personalized or not.
    encoder_of : callable
        From a Profile to its global encoder.
    start : float
        First predicted second. The data sets begin at 15 s.

    Returns
    -------
    DataFrame
        Columns ``time_s, arousal, valence``; values on the scale that the model was trained on ([-1, 1] for DEAM).
    """
    model, profile, _ = load_model(checkpoint)
    config = dataclasses.replace(profile.audio, label_start=start)
    features = song_features(song, config, encoder_of(profile))
    with mode(model, "eval"):
        curve = predict_song(lambda x, g: model(x, g).prediction, features).numpy()
    return pd.DataFrame(np.column_stack((slice_times(len(curve), config), curve)), columns=list(COLUMNS))


def write_curve(path: Path, curve: pd.DataFrame) -> None:
    """Write a curve as CSV with the columns ``time_s, arousal, valence``."""
    write_bytes_atomically(path, curve.to_csv(index=False, float_format="%.4f").encode())


def read_curve(path: Path) -> pd.DataFrame:
    """Read one listener's curve of one song.

    Raises
    ------
    DsamlError
        If the file is missing, lacks a column, holds something else than numbers, or its times do not increase.
    """
    require_file(path, "file", f"give a CSV with the columns {','.join(COLUMNS)}")
    try:
        curve = pd.read_csv(path)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise DsamlError(
            f"{path}: not a CSV file ({str(error).splitlines()[0]}); save it as comma-separated text"
        ) from error
    if missing := [name for name in COLUMNS if name not in curve.columns]:
        raise DsamlError(f"{path}: no column {', '.join(missing)}; the columns have to be {','.join(COLUMNS)}")
    curve = curve[list(COLUMNS)]
    if curve.empty:
        raise DsamlError(f"{path}: has a header but no lines; annotate the song")
    numbers = curve.apply(pd.to_numeric, errors="coerce")
    bad = numbers.index[~np.isfinite(numbers).all(axis=1)]
    if len(bad):
        raise DsamlError(f"{path}: line {bad[0] + 2} holds something that is no number; correct it or delete the line")
    if not (np.diff(numbers.time_s) > 0).all():
        line = int(np.flatnonzero(np.diff(numbers.time_s) <= 0)[0]) + 3
        raise DsamlError(f"{path}: the time in line {line} is not after the one before it; sort the lines by time_s")
    return numbers


def personalize_file(song: Path, curve_path: Path, checkpoint: Path, out: Path, encoder_of: Any) -> dict[str, float]:
    """Adapt a model to one person's curve of one song (the inner loop of Eq. 4) and write the personal model.

    Returns
    -------
    dict
        ``steps`` of the curve that were used, and the RMSE on this song ``before`` and ``after``.

    Raises
    ------
    DsamlError
        If song, curve or model are unusable, the curve is shorter than 5 s, or off the scale [-1, 1].
    """
    model, profile, about = load_model(checkpoint)
    curve = read_curve(curve_path)
    if curve[["arousal", "valence"]].abs().to_numpy().max() > 1:
        raise DsamlError(f"{curve_path}: values reach beyond [-1, 1]; rescale them (from 1-9: (value - 5) / 4)")
    first, last = curve.time_s.iloc[0], curve.time_s.iloc[-1]
    config = dataclasses.replace(profile.audio, label_start=float(first))
    steps = min(WINDOW, int((last - first) / config.step_seconds) + 1)
    if steps < SHORTEST:
        raise DsamlError(
            f"{curve_path}: covers {last - first:.1f} s; annotate at least {SHORTEST * config.step_seconds:.0f} s"
        )
    times = slice_times(steps, config)
    target = np.stack([np.interp(times, curve.time_s, curve[name]) for name in COLUMNS[1:]], 1)
    features = song_features(song, config, encoder_of(profile), steps)
    support = Batch(
        features.log_mel[None, None],
        features.global_embedding[None, None],
        torch.tensor(target, dtype=torch.float32)[None, None],
    )

    def error() -> float:
        with torch.no_grad(), mode(model, "eval"):
            prediction = model(support.x[0], support.global_embedding[0]).prediction
        return float((prediction - support.target[0]).square().mean().sqrt())

    before = error()
    adapted = personalize(model, support, profile.meta)
    model.load_state_dict(model.state_dict() | {name: weight[0] for name, weight in adapted.items()})
    save_model(out, model, profile, {"base": about, "personalized_on": song.name, "steps": steps})
    return {"steps": steps, "before": before, "after": error()}
