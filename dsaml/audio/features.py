"""The feature cache: log-mel slices and the global embedding of each song, one safetensors file per song.

A file's name is the hash of everything that went in: the audio's bytes, the audio settings, the encoder and the number of
steps. So a file is right or it is not there, two processes can fill one cache, and a killed run goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from dsaml.audio.encoder_windows import GlobalEncoder, Progress, windows_for
from dsaml.audio.recording import listen
from dsaml.audio.slices import cut_slices, log_mel_slices
from dsaml.audio.song import Song
from dsaml.config import AudioConfig
from dsaml.errors import DsamlError, require_file
from dsaml.io import pack_tensors, read_tensors, write_bytes_atomically

T = TypeVar("T")
log = logging.getLogger(__name__)

VERSION = 3
"""Part of every key; raised when the same settings begin to give other features."""


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

    Raises
    ------
    DsamlError
        If that distance is shorter than a label, or no finite number.

    Attributes
    ----------
    computed : list of str
        Ids of the songs that this object did not find in the folder, in the order of their computation.
    """

    def __init__(self, folder: str | Path, audio: AudioConfig, encoder: GlobalEncoder, hop_seconds: float = 2.0):
        if not audio.step_seconds <= hop_seconds < math.inf:
            raise DsamlError(
                f"{hop_seconds} s between two windows of the encoder: give {audio.step_seconds} s or more (--hop-seconds)"
            )
        self.folder, self.audio, self.encoder, self.hop_seconds = Path(folder), audio, encoder, hop_seconds
        self.computed: list[str] = []

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
        settings |= {"clip": song.clip, "hop": None if song.clip else self.hop_seconds, "version": VERSION}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        require_file(song.audio, "audio file", "correct the path or add the file")
        try:
            with song.audio.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise DsamlError(f"{song.audio}: cannot be read ({error.strerror}); check the file") from error
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def read(self, path: Path) -> Features | None:
        """The features in a file, or ``None`` where it is missing; a damaged file is named in a warning and counts as missing."""
        try:
            stored, _ = read_tensors(path)
            return Features(stored["log_mel"], stored["global_embedding"])
        except FileNotFoundError:
            return None
        except (KeyError, ValueError) as error:
            log.warning("%s: damaged (%s); computed again", path, error)
            return None

    def compute(self, song: Song, steps: int) -> Features:
        """Features of one song, without the cache."""
        waveform = listen(song.audio, self.audio.sample_rate)
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
            self.computed.append(song.id)
            write_bytes_atomically(path, pack_tensors(vars(features), {"encoder": self.encoder.fingerprint}))
        return features

    def fill(
        self,
        songs: Mapping[str, tuple[Song, int]],
        workers: int = 1,
        progress: Progress = lambda done, total: None,
    ) -> dict[str, Features]:
        """Features of many songs.

        Parameters
        ----------
        songs : mapping of song id to (Song, steps)
        workers : int
            Songs at a time, each on one core; threads, because decoding and transforms leave Python's lock alone. With 1, torch
            uses all the cores that it is given. An encoder on a GPU wants 1.
        progress : callable
            Called with (songs done, songs in all).

        Raises
        ------
        DsamlError
            See :meth:`get`; what was computed before it stays in the folder.
        """
        threads = torch.get_num_threads()

        def job(song: Song, steps: int) -> Features:
            if workers > 1:
                torch.set_num_threads(1)
            return self.get(song, steps)

        features: dict[str, Features] = {}
        try:
            for name, one in zip(songs, _in_threads(job, songs, workers), strict=True):
                features[name] = one
                progress(len(features), len(songs))
        finally:
            torch.set_num_threads(threads)
        return features


def _in_threads(
    job: Callable[[Song, int], T], songs: Mapping[str, tuple[Song, int]], workers: int
) -> Iterator[T]:
    """What ``job`` makes of each song, in their order; after an error no thread works on while the process ends."""
    pool = ThreadPoolExecutor(workers)
    try:
        for made in [pool.submit(job, *item) for item in songs.values()]:
            yield made.result()
    finally:
        pool.shutdown(cancel_futures=True)


def waveform_slices(songs: Mapping[str, tuple[Song, int]], audio: AudioConfig, path: Path) -> dict[str, Features]:
    """Raw slices of each song in place of log-mels, for models that hear raw audio; kept in one file.

    Parameters
    ----------
    songs : mapping of song id to (Song, steps)
    audio : AudioConfig
        Its sample rate and slices.
    path : Path
        A safetensors file; written if it is not there, or damaged.

    Returns
    -------
    dict of str to Features
        ``log_mel`` holds (T, samples) in half precision; the global embedding is empty.
    """

    def job(song: Song, steps: int) -> Tensor:
        return cut_slices(listen(song.audio, audio.sample_rate), steps, audio).half()

    try:
        stored, _ = read_tensors(path)
    except (FileNotFoundError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s: damaged (%s); computed again", path, error)
        stored = dict(zip(songs, _in_threads(job, songs, 2), strict=True))
        write_bytes_atomically(path, pack_tensors(stored, {}))
    return {song: Features(stored[song], torch.zeros(1, 0)) for song in songs}


def summary(cache: FeatureCache, songs: int, seconds: float) -> str:
    """What a run of :meth:`FeatureCache.fill` did, for people."""
    made = len(cache.computed)
    each = f", {seconds / made:.2f} s each" if made else ""
    return (
        f"{songs} songs: {made} computed{each}, {songs - made} found in {cache.folder}\n"
        f"encoder: {cache.encoder.name}, {cache.encoder.dim} numbers, {cache.encoder.fingerprint}"
    )
