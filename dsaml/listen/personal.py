"""One song, one person: predict the curve of an audio file, and make a model one's own from one annotated song."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dsaml.audio.features import song_features
from dsaml.audio.slices import slice_times
from dsaml.audio.windows import predict_song
from dsaml.config import CLIP_STEPS
from dsaml.errors import DsamlError, require_file
from dsaml.experiment.model_files import load_model, save_model
from dsaml.io import write_bytes_atomically
from dsaml.learn.maml import Batch, mode, personalize

COLUMNS = ("time_s", "arousal", "valence")
SHORTEST = 10  # steps; a curve below 5 s says too little about a person
LARGEST_GAP = 2.0  # s between two points of a curve


def predict_file(song: Path, checkpoint: Path, encoder_of: Any, start: float = 0.0) -> pd.DataFrame:
    """Arousal and valence of an audio file at 2 Hz.

    Parameters
    ----------
    song : path
        MP3, WAV, FLAC or OGG.
    checkpoint : path
        A model of :mod:`dsaml.experiment.model_files`, personalized or not.
    encoder_of : callable
        From a Profile to its global encoder.
    start : float
        First predicted second. The data sets begin at 15 s.

    Returns
    -------
    DataFrame
        Columns ``time_s, arousal, valence``; values on the scale that the model was trained on ([-1, 1] for DEAM).

    Raises
    ------
    DsamlError
        If song or model are unusable, ``start`` is negative or no number, or the model gives no numbers.
    """
    if not 0 <= start < math.inf:
        raise DsamlError(f"--start is {start}: give the first predicted second, 0 or more")
    model, profile, _ = load_model(checkpoint)
    config = dataclasses.replace(profile.audio, label_start=start)
    features = song_features(song, config, encoder_of(profile))
    with mode(model, "eval"):
        curve = predict_song(lambda x, g: model(x, g).prediction, features).numpy()
    if not np.isfinite(curve).all():
        raise DsamlError(f"{checkpoint}: gives values for {song} that are no numbers; use another model")
    return pd.DataFrame(np.column_stack((slice_times(len(curve), config), curve)), columns=list(COLUMNS))


def write_curve(path: Path, curve: pd.DataFrame) -> None:
    """Write a curve as CSV with the columns ``time_s, arousal, valence``."""
    write_bytes_atomically(path, curve.to_csv(index=False, float_format="%.4f").encode())


def read_curve(path: Path, largest_gap: float = LARGEST_GAP) -> pd.DataFrame:
    """Read one listener's curve of one song.

    Parameters
    ----------
    path : path
        CSV; its columns are found by their names.
    largest_gap : float
        Seconds between two points. What lies between them is a straight line, which nobody drew.

    Raises
    ------
    DsamlError
        If the file is missing, lacks a column, has a line with more or fewer fields than names, holds something else than
        numbers, a negative time, times that do not increase, or a larger gap.
    """
    require_file(path, "file", f"give a CSV with the columns {','.join(COLUMNS)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DsamlError(f"{path}: not a CSV file ({error}); save it as comma-separated text") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    if missing := [name for name in COLUMNS if header.count(name) != 1]:
        what = f"no column {missing[0]}" if missing[0] not in header else f"two columns {missing[0]}"
        raise DsamlError(f"{path}: {what}; the columns have to be {','.join(COLUMNS)}")
    rows: list[list[float]] = []
    for number, row in lines[1:]:
        where = f"{path}: line {number}"
        if len(row) != len(header):
            raise DsamlError(f"{where} has {len(row)} fields, the first line has {len(header)} names; correct it")
        try:
            values = [float(row[header.index(name)]) for name in COLUMNS]
        except ValueError:
            values = [math.nan]
        if not np.isfinite(values).all():
            raise DsamlError(f"{where} holds something that is no number; correct it or delete the line")
        if values[0] < 0:
            raise DsamlError(f"{where}: the time {values[0]:g} s is before the song; times count from its start")
        if rows and values[0] <= rows[-1][0]:
            raise DsamlError(f"{where}: the time is not after the one before it; sort the lines by time_s")
        if rows and values[0] - rows[-1][0] > largest_gap:
            raise DsamlError(
                f"{where}: {values[0] - rows[-1][0]:g} s after the line before it, which is more than {largest_gap:g} s; "
                "annotate the whole time, or allow a larger gap (--largest-gap)"
            )
        rows.append(values)
    if not rows:
        raise DsamlError(f"{path}: holds no points; give at least {SHORTEST * 0.5:.0f} s of them")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def personalize_file(
    song: Path, curve_path: Path, checkpoint: Path, out: Path, encoder_of: Any, largest_gap: float = LARGEST_GAP
) -> dict[str, float]:
    """Adapt a model to one person's curve of one song (the inner loop of Eq. 4) and write the personal model.

    See :func:`read_curve` for ``largest_gap``.

    Returns
    -------
    dict
        ``steps`` of the curve that were used, and the RMSE on this song ``before`` and ``after``.

    Raises
    ------
    DsamlError
        If song, curve or model are unusable, the curve is shorter than 5 s, or off the scale [-1, 1], or the adapted model
        gives no numbers; nothing is written then.
    """
    model, profile, about = load_model(checkpoint)
    curve = read_curve(curve_path, largest_gap)
    if curve[["arousal", "valence"]].abs().to_numpy().max() > 1:
        raise DsamlError(f"{curve_path}: values reach beyond [-1, 1]; rescale them (from 1-9: (value - 5) / 4)")
    first, last = curve.time_s.iloc[0], curve.time_s.iloc[-1]
    config = dataclasses.replace(profile.audio, label_start=float(first))
    steps = min(CLIP_STEPS, int((last - first) / config.step_seconds) + 1)
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
    after = error()
    if not np.isfinite((before, after)).all():
        raise DsamlError(f"{checkpoint}: gives values for {song} that are no numbers; use another model")
    save_model(out, model, profile, {"base": about, "personalized_on": song.name, "steps": steps})
    return {"steps": steps, "before": before, "after": after}
