"""A trained model in use: predict the curve of any audio file, and make the model one's own from one annotated song."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dsaml.audio.encoder_windows import GlobalEncoder
from dsaml.audio.encoders import make_encoder
from dsaml.audio.features import Features, song_features
from dsaml.audio.slices import AT_ONCE, slice_times
from dsaml.audio.windows import predict_song
from dsaml.config import CLIP_STEPS, AudioConfig, Profile
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_model, save_model
from dsaml.learn.maml import Batch, adapt, mode
from dsaml.listen.curves import COLUMNS, LARGEST_GAP, SHORTEST, read_curve
from dsaml.model.dsaml import DSAML


@torch.no_grad()
def song_curve(model: DSAML, features: Features) -> Tensor:
    """Arousal and valence (T, 2) of a whole song, in eval mode."""
    with mode(model, "eval"):
        # a slice is in up to six windows, and the adapter knows one slice at a time: once for each is enough
        local = torch.cat([model.local_features(part[None])[0] for part in features.log_mel.split(AT_ONCE)])
        whole = Features(local, features.global_embedding)
        return predict_song(lambda x, g: model(x, g, "local").prediction, whole)


@dataclass(frozen=True)
class LoadedModel:
    """A model file, ready for one's own music; see :func:`load`."""

    model: DSAML
    profile: Profile  # its audio settings, encoder and inner loop
    about: dict[str, Any]  # where it comes from, or whom it is personalized for
    encoder: GlobalEncoder
    name: str  # of its file, for messages

    def predict(self, song: str | Path, start: float = 0.0) -> pd.DataFrame:
        """Arousal and valence of an audio file at 2 Hz.

        Parameters
        ----------
        song : path
            MP3, WAV, FLAC or OGG.
        start : float
            First predicted second. The data sets begin at 15 s.

        Returns
        -------
        DataFrame
            Columns ``time_s, arousal, valence``; values on the scale that the model was trained on ([-1, 1] for DEAM).

        Raises
        ------
        DsamlError
            If the song is unusable, ``start`` is negative or no number, or the model gives no numbers.
        """
        if not 0 <= start < math.inf:
            raise DsamlError(f"--start is {start}: give the first predicted second, 0 or more")
        audio = dataclasses.replace(self.profile.audio, label_start=start)
        curve = song_curve(self.model, song_features(Path(song), audio, self.encoder)).numpy()
        self._check(song, curve)
        return pd.DataFrame(np.column_stack((slice_times(len(curve), audio), curve)), columns=list(COLUMNS))

    def personalize(self, song: str | Path, curve: str | Path, largest_gap: float = LARGEST_GAP) -> LoadedModel:
        """The model adapted to one person's curve of one song: the inner loop of Eq. 4.

        Parameters
        ----------
        song : path
            What the person listened to.
        curve : path
            CSV, see :func:`dsaml.listen.curves.read_curve`; values in [-1, 1].
        largest_gap : float
            Seconds between two points of the curve.

        Returns
        -------
        LoadedModel
            Its ``about`` holds ``steps`` of the curve that were used, and the RMSE on this song ``before`` and ``after``.

        Raises
        ------
        DsamlError
            If song or curve are unusable, the curve is shorter than 5 s, or off the scale [-1, 1], or the adapted model gives
            no numbers.
        """
        song = Path(song)
        audio, target = self._target(Path(curve), largest_gap)
        features = song_features(song, audio, self.encoder, len(target))
        x, embedding = features.log_mel[None], features.global_embedding[None]  # one song
        support = Batch(x[None], embedding[None], target[None, None])  # of one task

        def error(model: DSAML) -> float:
            with torch.no_grad(), mode(model, "eval"):
                return float((model(x, embedding).prediction[0] - target).square().mean().sqrt())

        adapted = {name: weight[0] for name, weight in adapt(self.model, support, self.profile.meta).items()}
        own = copy.deepcopy(self.model)
        own.load_state_dict(self.model.state_dict() | adapted)
        errors = {"before": error(self.model), "after": error(own)}
        self._check(song, np.array(list(errors.values())))
        about = {"base": self.about, "personalized_on": song.name, "steps": len(target), **errors}
        return dataclasses.replace(self, model=own, about=about)

    def save(self, path: str | Path) -> None:
        """Write the model to a ``.safetensors`` file that :func:`load` reads."""
        save_model(path, self.model, self.profile, self.about)

    def _target(self, path: Path, largest_gap: float) -> tuple[AudioConfig, torch.Tensor]:
        """Audio settings that begin where a curve does, and the curve at 2 Hz: (steps, 2), a clip's length at most."""
        curve = read_curve(path, largest_gap)
        if curve[["arousal", "valence"]].abs().to_numpy().max() > 1:
            raise DsamlError(f"{path}: values reach beyond [-1, 1]; rescale them (from 1-9: (value - 5) / 4)")
        first, last = curve.time_s.iloc[0], curve.time_s.iloc[-1]
        audio = dataclasses.replace(self.profile.audio, label_start=float(first))
        steps = min(CLIP_STEPS, int((last - first) / audio.step_seconds) + 1)
        if steps < SHORTEST:
            shortest = SHORTEST * audio.step_seconds
            raise DsamlError(f"{path}: covers {last - first:.1f} s; annotate at least {shortest:.0f} s")
        times = slice_times(steps, audio)
        values = np.stack([np.interp(times, curve.time_s, curve[name]) for name in COLUMNS[1:]], 1)
        return audio, torch.tensor(values, dtype=torch.float32)

    def _check(self, song: str | Path, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            raise DsamlError(f"{self.name}: gives values for {song} that are no numbers; use another model")


def load(path: str | Path, imagebind: str | Path | None = None) -> LoadedModel:
    """Read a model file that ``train`` or ``personalize`` wrote.

    Parameters
    ----------
    path : path
    imagebind : path, optional
        ImageBind's weights, where the model needs them.

    Raises
    ------
    DsamlError
        If the file is no model of this package, or its encoder lacks its weights.
    """
    model, profile, about = load_model(path)
    return LoadedModel(model, profile, about, make_encoder(profile, Path(imagebind) if imagebind else None), str(path))
