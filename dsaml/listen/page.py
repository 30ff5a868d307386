"""What the book's player needs to find its reader in closed form: the light model's terms for the songs that it plays."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dsaml.evaluate.metrics import ccc
from dsaml.experiment.results import read_result, rounded, stamp_of, write_result
from dsaml.experiment.run import Experiment
from dsaml.listen.light import LightModel
from dsaml.listen.origin import origin

DIGITS = 5  # of the terms; with them the page is as near to the package as 1e-4


def for_page(model: LightModel, songs: Mapping[str, Path], steps: int, start: float | None = None) -> dict[str, Any]:
    """What ``dsaml/listen/player/light.js`` computes with.

    Parameters
    ----------
    songs : mapping of song id to Path
        Audio files.
    steps : int
        T, of each song.
    start : float, optional
        First second, by default that of the training data's labels.

    Returns
    -------
    dict
        ``origin``: what the model was trained on, in words. ``noise`` (2), the SD of a label; ``calibration`` (3, 2), see
        :class:`~dsaml.arena.low_rank.LowRank`; ``songs``: ``base`` (T, 2) and ``basis`` (T, 2, RANK + 1) of each, see
        :meth:`LightModel.terms`.

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


def gain(model: LightModel, songs: Mapping[str, Path], listeners: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What one song of a listener gives for their other songs: the figure on the page, which the page's code repeats.

    Parameters
    ----------
    songs : mapping of song id to Path
        Audio files.
    listeners : mapping of song id to mapping of listener to curve (T, 2)

    Returns
    -------
    dict
        CCC (arousal, valence) of ``own``, the model after one song, and of the ``average`` listener's curve, mean over ``pairs`` of
        an annotated and another song of ``listeners`` people.
    """
    heard = {song: model.heard(audio, len(next(iter(listeners[song].values())))) for song, audio in songs.items()}
    average = {song: np.mean(list(of.values()), 0) for song, of in listeners.items()}
    own, plain, people = [], [], set()
    for told, of in listeners.items():
        for who, curve in of.items():
            person = model.fit([(heard[told], torch.tensor(curve, dtype=torch.float32))])
            for asked in (song for song in songs if song != told and who in listeners[song]):
                truth = np.asarray(listeners[asked][who])
                own.append(ccc(model.curve(person, heard[asked]).T, truth.T))
                plain.append(ccc(average[asked].T, truth.T))
                people.add(who)
    means = {"own": np.mean(own, 0).tolist(), "average": np.mean(plain, 0).tolist()}
    return means | {"pairs": len(own), "listeners": len(people)}


def write(model: LightModel, experiment: Experiment, results: Path) -> None:
    """Write ``light.json``, for the songs of ``player.json`` beside it."""
    began, player = time.perf_counter(), read_result(results / "player.json")
    audio = {song["id"]: experiment.dataset.songs[song["id"]].audio for song in player["songs"]}
    payload = for_page(model, audio, round(player["seconds"] / player["step"]))
    payload["gain"] = gain(model, audio, {song["id"]: song["listeners"] for song in player["songs"]})
    write_result(results / "light.json", payload, stamp_of(experiment, model.about["seeds"], began))
