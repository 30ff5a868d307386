"""The feature cache: log-mel slices and the global embedding of each song, one safetensors file per song.

A file's name is the hash of everything that went in: the audio's bytes, the audio settings, the encoder and the number of
steps. So a file is right or it is not there, two processes can fill one cache, and a killed run goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import Parallel, delayed
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dsaml.audio import load_mono, log_mel_slices
from dsaml.config import AudioConfig
from dsaml.datasets.base import Song
from dsaml.encoders import GlobalEncoder, windows_for
from dsaml.errors import DsamlError
from dsaml.results import write_bytes_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Features:
    """What the model needs of one song.

    Attributes
    ----------
    log_mel : Tensor, shape (T, time, mel)
    global_embedding : Tensor, shape (1, D) for a clip, (T, D) for a full song
    """

    log_mel: Tensor
    global_embedding: Tensor


def _checksum(features: Features) -> str:
    digest = hashlib.sha256()
    for tensor in (features.log_mel, features.global_embedding):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


class FeatureCache:
    """Computes features once.

    Parameters
    ----------
    folder : path
        Made if needed; several data sets can share it.
    audio : AudioConfig
    encoder : GlobalEncoder
    hop_seconds : float
        For full songs: distance between two windows of the global encoder (0.5 s in the released code).
    """

    def __init__(self, folder: str | Path, audio: AudioConfig, encoder: GlobalEncoder, hop_seconds: float = 2.0):
        self.folder, self.audio, self.encoder, self.hop_seconds = Path(folder), audio, encoder, hop_seconds

    def path(self, song: Song, steps: int) -> Path:
        """Where the features of a song belong.

        Raises
        ------
        DsamlError
            If the song has no readable audio file.
        """
        if song.audio is None:
            raise DsamlError(f"song {song.id}: no audio file; add it to the data set's audio folder")
        settings = {"audio": dataclasses.asdict(self.audio), "encoder": self.encoder.fingerprint, "steps": steps}
        settings |= {"clip": song.clip, "hop": None if song.clip else self.hop_seconds}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        try:
            digest.update(song.audio.read_bytes())
        except OSError as error:
            raise DsamlError(f"{song.audio}: cannot be read ({error.strerror}); check the file") from error
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def read(self, path: Path) -> Features | None:
        """The features in a file, or ``None`` where it is missing; a damaged file is named in a warning and counts as missing."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as stored:
                features = Features(stored.get_tensor("log_mel"), stored.get_tensor("global_embedding"))
                expected = (stored.metadata() or {}).get("sha256")
        except (SafetensorError, OSError, ValueError) as error:
            log.warning("%s: damaged (%s); computed again", path, error)
            return None
        if _checksum(features) != expected:
            log.warning("%s: damaged (its checksum does not fit); computed again", path)
            return None
        return features

    def compute(self, song: Song, steps: int) -> Features:
        """Features of one song, without the cache."""
        waveform = load_mono(song.audio, self.audio.sample_rate)
        try:
            log_mel = log_mel_slices(waveform, self.audio, steps)
            windows, index = windows_for(song.clip, steps, self.audio, self.hop_seconds)
            embeddings = self.encoder.embed(waveform, self.audio.sample_rate, windows)  # (windows, D)
        except DsamlError as error:
            raise DsamlError(f"{song.audio}: {error}") from error
        return Features(log_mel, embeddings[index])

    def get(self, song: Song, steps: int) -> Features:
        """Features of one song, from the cache where it has them.

        Parameters
        ----------
        song : Song
        steps : int
            Number of labels.

        Raises
        ------
        DsamlError
            If the audio is missing, unreadable or shorter than its labels.
        """
        path = self.path(song, steps)
        features = self.read(path)
        if features is None:
            features = self.compute(song, steps)
            tensors = {"log_mel": features.log_mel.contiguous(), "global_embedding": features.global_embedding.contiguous()}
            write_bytes_atomically(path, save(tensors, {"sha256": _checksum(features), "encoder": self.encoder.fingerprint}))
        return features

    def fill(
        self,
        songs: Mapping[str, tuple[Song, int]],
        workers: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Features]:
        """Features of many songs, ``{song id: (Song, steps)}``, in parallel processes.

        ``progress`` is called with (songs done, songs in all). An encoder on a GPU wants ``workers=1``.
        """
        jobs = (delayed(_get_on_one_thread)(self, song, steps) for song, steps in songs.values())
        features: dict[str, Features] = {}
        for name, made in zip(songs, Parallel(n_jobs=workers, return_as="generator")(jobs), strict=True):
            features[name] = made
            progress(len(features), len(songs))
        return features


def _get_on_one_thread(cache: FeatureCache, song: Song, steps: int) -> Features:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one process per core is faster than many threads per process
    try:
        return cache.get(song, steps)
    finally:
        torch.set_num_threads(threads)
