"""A trained model in use: predict the curve of any audio file, and make the model one's own from one annotated song."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dsaml.audio.encoders import GlobalEncoder, make_encoder
from dsaml.audio.features import ONE_EMBEDDING, Features, song_features
from dsaml.audio.slices import AT_ONCE
from dsaml.audio.windows import predict_song
from dsaml.config import CLIP_STEPS, AudioConfig, Profile
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_model, save_model
from dsaml.io import KEY, read_header
from dsaml.learn.maml import Batch, adapt, mode
from dsaml.listen import DEMO_MODEL, own_file
from dsaml.listen.curves import LARGEST_GAP, Paths, as_curve, audio_from, labels_of, paired, require_numbers
from dsaml.listen.light import KIND, LightModel, load_light
from dsaml.listen.origin import trained_on
from dsaml.listen.own_file import Base, read_own, write_own
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
    device: str = "cpu"  # where it computes, as torch names it
    file: Base | None = None  # where it was read from, or the model that it is personal to
    changed: frozenset[str] = frozenset()  # weights that are not that file's

    def _heard(self, song: str | Path, audio: AudioConfig, steps: int | None = None) -> Features:
        one = ONE_EMBEDDING[self.profile.embeddings]
        return song_features(Path(song), audio, self.encoder, steps, clip=one).to(self.device)

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
            Columns ``arousal, valence`` over the index ``time_s`` (s); values on the scale that the model was trained on ([-1, 1]
            for DEAM: from calm to excited, from unpleasant to pleasant). ``attrs`` say which ``song`` it is and on what the
            ``model`` was trained.

        Raises
        ------
        DsamlError
            If the song is unusable, ``start`` is negative or no number, or the model gives no numbers.
        """
        audio = audio_from(self.profile.audio, start)
        features = self._heard(song, audio)
        curve = song_curve(self.model, features).cpu().numpy()
        require_numbers(curve, self.name, song)
        return as_curve(curve, audio, song=Path(song).name, model=trained_on(self.about))

    def personalize(self, songs: Paths, curves: Paths, largest_gap: float = LARGEST_GAP) -> LoadedModel:
        """The model adapted to one person's curves of one or several songs: the inner loop of Eq. 4.

        Parameters
        ----------
        songs, curves : path or sequence of path
            What the person listened to, and a CSV for each, see :func:`dsaml.listen.curves.read_curve`; values in [-1, 1]. Several
            songs count as far as the shortest curve goes.
        largest_gap : float
            Seconds between two points of a curve.

        Returns
        -------
        LoadedModel
            Its ``about`` holds the ``steps`` of the curves that were used, and the RMSE on these songs ``before`` and ``after``.

        Raises
        ------
        DsamlError
            If a song or curve is unusable, a curve is shorter than 5 s, or off the scale [-1, 1], there are not as many curves as
            songs, or the adapted model gives no numbers.
        """
        songs, curves = paired(songs, curves)
        pairs = [labels_of(curve, self.profile.audio, largest_gap, CLIP_STEPS) for curve in curves]
        steps = min(len(labels) for _, labels in pairs)
        heard = [self._heard(song, audio, steps) for song, (audio, _) in zip(songs, pairs, strict=True)]
        x = torch.stack([features.log_mel for features in heard])  # (songs, T, time, mel)
        embedding = torch.stack([features.global_embedding for features in heard])
        target = torch.tensor(np.stack([labels[:steps] for _, labels in pairs]), dtype=torch.float32)  # (songs, T, 2)
        target = target.to(self.device)
        support = Batch(x[None], embedding[None], target[None])  # of one task

        def error(model: DSAML) -> float:
            with torch.no_grad(), mode(model, "eval"):
                return float((model(x, embedding).prediction - target).square().mean().sqrt())

        adapted = {name: weight[0] for name, weight in adapt(self.model, support, self.profile.meta).items()}
        own = copy.deepcopy(self.model)
        own.load_state_dict(self.model.state_dict() | adapted)
        errors = {"before": error(self.model), "after": error(own)}
        require_numbers(np.array(list(errors.values())), self.name, songs[0])
        about = {"base": self.about, "personalized_on": [song.name for song in songs], "steps": steps * len(songs), **errors}
        return dataclasses.replace(self, model=own, about=about, changed=self.changed | adapted.keys())

    def save(self, path: str | Path) -> None:
        """Write the model to a ``.safetensors`` file that :func:`load` reads: of a personal one only the weights that changed.

        Raises
        ------
        DsamlError
            If it is personal to a model that is in no file, or the file cannot be written.
        """
        if self.changed:
            weights = self.model.state_dict()
            write_own(Path(path), {name: weights[name] for name in self.changed}, self.about, self.file)
        else:
            save_model(path, self.model, self.profile, self.about)


def load(path: str | Path = "demo", imagebind: str | Path | None = None, device: str = "cpu") -> LoadedModel | LightModel:
    """Read a model file that ``train``, ``personalize`` or ``make book`` wrote.

    Parameters
    ----------
    path : path
        "demo" is the model that ``make book`` leaves in ``models/demo.safetensors``.
    imagebind : path, optional
        ImageBind's weights, where the model needs them.
    device : str
        Where it computes, as torch names it: "cpu", "cuda". The light model needs no other than the CPU.

    Raises
    ------
    DsamlError
        If the file is no model of this package, its encoder lacks its weights, or the base of a personal model is not there.
    """
    path = DEMO_MODEL if str(path) == "demo" else Path(path)
    if path == DEMO_MODEL and not path.exists():
        raise DsamlError(f"{path}: not there yet; 'make book' leaves it, or name a model with --checkpoint")
    header = read_header(path)
    if header.get("kind") == own_file.KIND:
        return _load_own(path, imagebind, device)
    if header.get("kind") == KIND:
        return load_light(path)
    model, profile, about = load_model(path)
    encoder = make_encoder(profile, Path(imagebind) if imagebind else None, device=device)
    file = Base(path, header[KEY])
    return LoadedModel(model.to(device), profile, about, encoder, str(path), device, file)


def load_low_rank(path: str | Path) -> LightModel:
    """:func:`load` for what only a low-rank model can do; refuses others."""
    model = load(path)
    if not isinstance(model, LightModel):
        raise DsamlError(f"{path}: not a low-rank model; 'python -m dsaml train --model low-rank' makes one")
    return model


def _load_own(path: Path, imagebind: str | Path | None, device: str) -> LoadedModel | LightModel:
    """A personal model: its base, with what changed."""
    tensors, about, base = read_own(path)
    if read_header(base.path).get("kind") == own_file.KIND:
        raise DsamlError(f"{path}: its base {base.path} is a personal model itself; personalize a model that is nobody's")
    model = dataclasses.replace(load(base.path, imagebind, device), name=str(path), file=base)
    try:
        if isinstance(model, LightModel):
            return model.of(tensors, about)
        weights = model.model.state_dict()
        if not tensors or any(n not in weights or t.shape != weights[n].shape for n, t in tensors.items()):
            raise ValueError("its weights do not fit those of its base")
        model.model.load_state_dict(weights | tensors)
    except ValueError as error:
        raise DsamlError(f"{path}: not a model of this package ({error}); give a .safetensors file that it wrote") from error
    return dataclasses.replace(model, about=about, changed=frozenset(tensors))
