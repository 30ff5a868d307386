"""What the book's player and the study need to find a person in closed form, without the light model: its terms for their songs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from dsaml.evaluate.metrics import ccc
from dsaml.experiment.results import read_result, rounded, stamp_of, write_result
from dsaml.experiment.run import Experiment
from dsaml.listen.curves import audio_from
from dsaml.listen.light import LightModel
from dsaml.listen.origin import origin

DIGITS = 5  # of the terms; with them the page is as near to the package as 1e-4
EDGE = 0.97  # labels at the ends of the scale stay finite, as in dsaml.arena.base.atanh


@dataclass(frozen=True)
class Terms:
    """What a person's curve of one song is made of, ``tanh(base + basis w)``: :mod:`dsaml.arena.low_rank` in NumPy."""

    base: np.ndarray  # (T, 2)
    basis: np.ndarray  # (T, 2, R)

    @classmethod
    def of(cls, song: Mapping[str, Any]) -> Terms:
        """From a song of :func:`for_page`."""
        return cls(np.array(song["base"], float), np.array(song["basis"], float))

    @classmethod
    def together(cls, songs: Sequence[Terms]) -> Terms:
        """Of several songs, one after the other."""
        return cls(np.concatenate([song.base for song in songs]), np.concatenate([song.basis for song in songs]))

    def curve(self, w: np.ndarray) -> np.ndarray:
        """Arousal and valence (T, 2) of the person ``w`` (2, R)."""
        return np.tanh(self.base + np.einsum("tdr,dr->td", self.basis, w))

    @property
    def nobody(self) -> np.ndarray:
        """Arousal and valence (T, 2) of nobody in particular."""
        return np.tanh(self.base)

    def person(self, noise: np.ndarray, curve: np.ndarray) -> np.ndarray:
        """The posterior mean w (2, R) of who drew ``curve`` (T, 2), NaN where nothing was said; ``noise`` (2,) before tanh."""
        w = np.zeros(self.basis.shape[1:])
        for d in range(2):
            said = np.isfinite(curve[:, d])
            basis = self.basis[said, d] / noise[d]  # (n, R)
            residual = (np.arctanh(curve[said, d].clip(-EDGE, EDGE)) - self.base[said, d]) / noise[d]
            w[d] = np.linalg.solve(basis.T @ basis + np.eye(basis.shape[1]), basis.T @ residual)
        return w

    def predictions(self, given: Terms, noise: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Curves (T, 2) for who has ``drawn`` another song: nobody's in particular, shifted to the person's mean, personal."""
        shifted = (self.nobody + np.nanmean(drawn - given.nobody, 0)).clip(-1, 1)
        return self.nobody, shifted, self.curve(given.person(noise, drawn))


@torch.no_grad()
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
        :class:`Terms`.

    Raises
    ------
    DsamlError
        If a song is unusable or shorter than its steps.
    """
    of_songs = {}
    for name, audio in songs.items():
        h = model.heard(audio, steps, None if start is None else audio_from(model.profile.audio, start))
        terms = {"base": model.method.average(h)[0, 0], "basis": model.method.basis(h)[0, 0]}
        of_songs[name] = {part: rounded(values, DIGITS) for part, values in terms.items()}
    noise = F.softplus(model.method.noise)
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
