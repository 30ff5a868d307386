"""The arena's light winner in use: a listener is ten numbers, found in closed form from one or several annotated songs."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dsaml.arena.base import ArenaConfig, Backbone, State
from dsaml.arena.inputs import slice_statistics
from dsaml.arena.low_rank import LowRank
from dsaml.arena.uncertainty import calibrate
from dsaml.audio.recording import load_waveform
from dsaml.audio.slices import log_mel_minutes
from dsaml.config import AudioConfig, Profile
from dsaml.errors import DsamlError
from dsaml.experiment.arena_errors import in_turn
from dsaml.experiment.arena_rows import SMALL, Arena, fitting_config, full_clips
from dsaml.experiment.model_files import model_file, read_profile, read_settings
from dsaml.experiment.prepare import Source, check_data, prepare
from dsaml.experiment.results import stamp_of
from dsaml.experiment.run import Experiment
from dsaml.io import KEY, load_weights, pack_tensors, read_header, write_bytes_atomically
from dsaml.listen.curves import LARGEST_GAP, USUAL, Paths, as_curve, audio_from, labels_of, paired, require_numbers
from dsaml.listen.origin import trained_on
from dsaml.listen.own_file import Base, write_own
from dsaml.runtime.devices import one_thread

KIND = "low-rank"
"""What the header of a file says that holds such a model."""
WIDEST = 4096  # of the numbers in a header that give sizes


@dataclass(frozen=True)
class Familiar:
    """What the training songs sounded like: does another one sound like any of them?

    A song's place is the mean over time of its standardized inputs; the distance of two songs is the root mean square difference
    of their places, so 1 is a standard deviation of the training songs' slices in every input.
    """

    songs: Tensor  # (N, F), the training songs' places
    limit: Tensor  # (), the quantile USUAL of their distances to the nearest other one

    @classmethod
    def of(cls, x: Tensor) -> Familiar:
        """From the standardized inputs of N >= 2 training songs, (N, T, F)."""
        songs = x.mean(1)
        apart = torch.stack([_distances(song, songs) for song in songs])  # (N, N)
        return cls(songs, apart.fill_diagonal_(torch.inf).amin(1).quantile(USUAL))

    def distance(self, x: Tensor) -> float:
        """Of a song (T, F) from the nearest training song."""
        return float(_distances(x.mean(0), self.songs).min())


def _distances(song: Tensor, songs: Tensor) -> Tensor:
    """(F,), (N, F) -> (N,)."""
    return (songs - song).square().mean(1).sqrt()


@dataclass(frozen=True)
class LightModel:
    """A low-rank Bayesian listener (:class:`dsaml.arena.low_rank.LowRank`) on log-mel statistics, ready for one's own music."""

    method: LowRank
    scale: Tensor  # (2, F): mean and standard deviation of the inputs over the training songs
    profile: Profile  # its audio settings
    about: dict[str, Any]  # where it comes from, or whom it is personalized for
    name: str  # of its file, for messages
    listener: State | None = None  # what is kept of the person; None: nobody in particular
    familiar: Familiar | None = None  # what the training songs sounded like, where that is known
    file: Base | None = None  # where it was read from, or the model that it is personal to

    def predict(self, song: str | Path, start: float = 0.0) -> pd.DataFrame:
        """Arousal and valence of an audio file at 2 Hz; parameters, result and errors as in ``LoadedModel.predict``.

        Beside each value stands its standard deviation, and in ``attrs`` the song's ``distance`` from the nearest training song and
        the ``usual_distance`` among those (:class:`Familiar`).
        """
        audio = audio_from(self.profile.audio, start)
        x = self._inputs(Path(song), audio, None)
        values, sd = self._felt(self.listener, self._encoded(x))
        require_numbers(np.concatenate((values, sd)), self.name, song)
        about: dict[str, Any] = {"song": Path(song).name, "model": trained_on(self.about)}
        if self.familiar:
            about |= {"distance": self.familiar.distance(x), "usual_distance": float(self.familiar.limit)}
        return as_curve(values, audio, sd, **about)

    def personalize(self, songs: Paths, curves: Paths, largest_gap: float = LARGEST_GAP) -> LightModel:
        """The model for one person, from their curves of one or several songs: the closed-form posterior.

        Parameters and errors as in ``LoadedModel.personalize``. With several songs ``about`` also holds ``left_out``: the RMSE on
        a song that was left out, of the personal model, of the model for nobody in particular (``nobody``), and of that one
        shifted by the mean of the other songs' labels (``shift``).
        """
        songs, curves = paired(songs, curves)
        pairs = []
        for song, curve in zip(songs, curves, strict=True):
            audio, labels = labels_of(curve, self.profile.audio, largest_gap)
            pairs.append((self.heard(song, len(labels), audio), torch.tensor(labels, dtype=torch.float32)))
        own = self.fit(pairs)
        before, after = (float(np.mean([self._error(who, pair) for pair in pairs])) for who in (None, own))
        require_numbers(np.array([before, after]), self.name, songs[0])
        steps = sum(len(labels) for _, labels in pairs)
        about = {"base": self.about, "personalized_on": [song.name for song in songs], "steps": steps}
        about |= {"before": before, "after": after}
        if len(pairs) > 1:
            about["left_out"] = self._left_out(pairs)
        return self.of(own, about)

    def save(self, path: str | Path) -> None:
        """Write the model to a ``.safetensors`` file; of a personal one only the person. Errors as in ``LoadedModel.save``."""
        if self.listener is not None:
            write_own(Path(path), self.listener, self.about, self.file)
            return
        tensors = {f"method.{name}": tensor for name, tensor in self.method.state_dict().items()} | {"scale": self.scale}
        if self.familiar:
            tensors |= {f"familiar.{name}": tensor for name, tensor in vars(self.familiar).items()}
        profile, config = map(dataclasses.asdict, (self.profile, self.method.config))
        settings = {"about": self.about, "profile": profile, "config": config}
        header = {"kind": KIND} | {name: json.dumps(value) for name, value in settings.items()}
        write_bytes_atomically(Path(path), pack_tensors(tensors, header))

    def of(self, listener: State, about: dict[str, Any]) -> LightModel:
        """The model for a person whose posterior is known; a ValueError if it is none of this method's."""
        width = LowRank.RANK + 1
        if {n: tuple(t.shape) for n, t in listener.items()} != {"w": (1, 2, width), "factor": (1, 2, width, width)}:
            raise ValueError("its listener is none of this method")
        return dataclasses.replace(self, about=about, listener=listener)

    def _inputs(self, song: Path, audio: AudioConfig, steps: int | None) -> Tensor:
        """A song's standardized statistics to its end, (T, F); of a song of hours a minute of audio is in memory at a time."""
        try:
            waveform = load_waveform(song, audio.sample_rate)
            size = round(audio.step_seconds * audio.sample_rate)
            there = (len(waveform) - round(audio.label_start * audio.sample_rate)) // size
            minutes = log_mel_minutes(waveform, audio, max(there, steps or 1))  # (a minute, time, mel) each
            x, (mean, deviation) = torch.cat([slice_statistics(part) for part in minutes]), self.scale
        except DsamlError as error:
            raise DsamlError(str(error) if str(song) in str(error) else f"{song}: {error}") from error
        return (x - mean) / deviation

    @torch.no_grad()
    def _encoded(self, x: Tensor) -> Tensor:
        """(T, F) -> (1, 1, T, H)."""
        return self.method.encode(x[None, None])

    def heard(self, song: Path, steps: int, audio: AudioConfig | None = None) -> Tensor:
        """The first ``steps`` of a song as the method sees it, by default from where the labels of the training data began.

        (1, 1, T, H); neighbours are heard beyond it.
        """
        return self._encoded(self._inputs(song, audio or self.profile.audio, steps))[:, :, :steps]

    @torch.no_grad()
    def fit(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> State:
        """The posterior of a listener, given what was heard (1, 1, T, H) and said (T, 2)."""
        return self.method.adapt(torch.cat([h for h, _ in pairs], 2), torch.cat([y for _, y in pairs])[None, None])

    @torch.no_grad()
    def _felt(self, listener: State | None, h: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`curve`, and the standard deviations (T, 2) of its values."""
        width = LowRank.RANK + 1
        prior = {"w": torch.zeros(1, 2, width), "factor": torch.eye(width).expand(1, 2, -1, -1)}  # nobody in particular
        found = self.method.predict(listener or prior, h)
        return found.mean[0, 0].numpy(), found.variance[0, 0].sqrt().numpy()

    def curve(self, listener: State | None, h: Tensor) -> np.ndarray:
        """Arousal and valence (T, 2) that a listener, or nobody in particular, feels in what was heard (1, 1, T, H)."""
        return self._felt(listener, h)[0]

    def _error(self, listener: State | None, pair: tuple[Tensor, Tensor], shift: np.ndarray | float = 0.0) -> float:
        h, labels = pair
        return float(np.sqrt(np.square(self.curve(listener, h) + shift - labels.numpy()).mean()))

    def _left_out(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """RMSE on each song in turn, the others being known; means over songs."""
        rows = []
        for k, pair in enumerate(pairs):
            others = [*pairs[:k], *pairs[k + 1 :]]
            shift = np.mean([(y.numpy() - self.curve(None, h)).mean(0) for h, y in others], 0)
            rows.append([self._error(self.fit(others), pair), self._error(None, pair), self._error(None, pair, shift)])
        return dict(zip(("personal", "nobody", "shift"), np.mean(rows, 0).tolist(), strict=True))


@one_thread()
def train_light(experiment: Experiment, seed: int) -> LightModel:
    """Meta-train the model on a data set with annotators' tracks; its variance is calibrated on validation listeners."""
    began, experiment = time.perf_counter(), full_clips(experiment)
    arena, row = Arena(experiment, fitting_config(experiment)), (SMALL, LowRank.name)
    method, about = arena.train(row, seed)
    worlds = arena.worlds(SMALL, seed, ("train", "validation"))
    calibrate(method, in_turn(worlds["validation"], experiment.store, "validation"))
    stamp = stamp_of(experiment, [seed], began)
    best = max(score for _, score in about["validation"])
    scale = torch.stack((worlds["train"].mean, worlds["train"].deviation))
    familiar = Familiar.of(worlds["train"].x)
    stamp |= {"validation_ccc": best, "belief": method.belief.tolist()}
    return LightModel(method, scale, experiment.profile, stamp, "the model", familiar=familiar)


def train_on(profile: Profile, source: Source, seed: int) -> LightModel:
    """:func:`train_light` after ``check``, which refuses what would stop training, and on the CPU."""
    check_data(profile, source, "pdmer")
    light = dataclasses.replace(profile, encoder="mel")  # this model has no use for a global embedding
    return train_light(prepare(light, dataclasses.replace(source, device="cpu")), seed)


def load_light(path: Path) -> LightModel:
    """Read a file that :meth:`LightModel.save` wrote; a DsamlError if it holds something else. Nothing in it is executed."""
    advice = "train one with 'python -m dsaml train --model low-rank' or correct the path"
    with model_file(path, advice) as (tensors, header, about):
        profile = read_profile(json.loads(header["profile"]))
        config = read_settings(ArenaConfig, json.loads(header["config"]), "config")
        if not 0 < config.width <= WIDEST:
            raise ValueError("its header has impossible settings")
        scale = tensors["scale"]
        if scale.dim() != 2 or len(scale) != 2 or not 0 < scale.shape[1] <= WIDEST:
            raise ValueError("its scale fits no inputs")
        parts: dict[str, State] = {"method": {}, "familiar": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if rest:
                parts[part][rest] = tensor
        with torch.device("meta"):  # sizes are compared before memory is taken for them
            load_weights(LowRank(Backbone(scale.shape[1], config), config), parts["method"], str(path))
        method = LowRank(Backbone(scale.shape[1], config), config)
        load_weights(method, parts["method"], str(path))
        familiar = Familiar(**parts["familiar"]) if parts["familiar"] else None
        if familiar and (familiar.songs.shape[1:] != scale.shape[1:] or familiar.limit.dim()):
            raise ValueError("its training songs fit no inputs")
    file = Base(path, read_header(path)[KEY])
    return LightModel(method.eval(), scale, profile, about, str(path), familiar=familiar, file=file)
