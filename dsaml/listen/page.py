"""What the book's player needs to find its reader in closed form: the light model's terms for the songs that it plays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from dsaml.experiment.results import provenance, read_result, rounded, write_result
from dsaml.experiment.run import Experiment
from dsaml.listen.light import LightModel
from dsaml.listen.origin import origin

DIGITS = 5  # of the terms; with them the page is as near to the package as 1e-4


def for_page(
    model: LightModel, songs: Mapping[str, Path], steps: int, start: float | None = None
) -> dict[str, Any]:
    """What ``dsaml/listen/player/light.js`` computes with.

    Parameters
    ----------
    model : LightModel
    songs : mapping of song id to Path
        Audio files.
    steps : int
        T, of each song.
    start : float, optional
        First second, by default that of the training data's labels.

    Returns
    -------
    dict
        ``origin``: what the model was trained on, in words. ``noise`` (2), the SD of a label; ``calibration`` (2), factor of the
        variance and what is added; ``songs``: ``base`` (T, 2) and ``basis`` (T, 2, RANK + 1) of each, see :meth:`LightModel.terms`.

    Raises
    ------
    DsamlError
        If a song is unusable or shorter than its steps.
    """
    of_songs = {}
    for name, audio in songs.items():
        base, basis = model.terms(audio, steps, start)
        of_songs[name] = {"base": rounded(base, DIGITS), "basis": rounded(basis, DIGITS)}
    noise = F.softplus(model.method.noise.detach())
    return {
        "origin": origin(model.about),
        "noise": rounded(noise, DIGITS),
        "calibration": model.method.calibration.tolist(),
        "songs": of_songs,
    }


def write(model: LightModel, experiment: Experiment, results: Path) -> None:
    """Write ``light.json``, for the songs of ``player.json`` beside it."""
    began, player = time.perf_counter(), read_result(results / "player.json")
    audio = {song["id"]: experiment.dataset.songs[song["id"]].audio for song in player["songs"]}
    payload = for_page(model, audio, round(player["seconds"] / player["step"]))
    seconds = time.perf_counter() - began
    stamp = provenance(experiment.profile, experiment.dataset, seeds=model.about["seeds"], seconds=seconds)
    write_result(results / "light.json", payload, stamp)
