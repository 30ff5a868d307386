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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from dsaml.audio.encoders import GlobalEncoder, windows_for
from dsaml.audio.recording import load_waveform
from dsaml.audio.slices import cut_slices, log_mel_slices
from dsaml.audio.song import Song
from dsaml.config import CLIP_STEPS, AudioConfig
from dsaml.errors import DsamlError, require_file
from dsaml.io import pack_tensors, read_tensors, write_bytes_atomically

T = TypeVar("T")
Songs = Mapping[str, tuple[Song, int]]
"""By song id: the song, and how many labels it has."""
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)

VERSION = 3
"""Part of every key; raised when the same settings begin to give other features."""
ONE_EMBEDDING = {"by-length": None, "song": True, "step": False}
"""Whether all steps of a song share one global embedding, by ``embeddings`` of a profile; None: of a song of at most 60 steps."""


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Features:
    """What the model needs of one song."""

    log_mel: Tensor  #: (T, time, mel)
    global_embedding: Tensor  #: (1, D) for a clip, (T, D) for a full song

    def to(self, device: str | torch.device) -> Features:
        """The same on a device."""
        return Features(self.log_mel.to(device), self.global_embedding.to(device))


def song_features(
    path: Path,
    config: AudioConfig,
    encoder: GlobalEncoder,
    steps: int | None = None,
    *,
    clip: bool | None = None,
    hop_seconds: float = 2.0,
) -> Features:
    """Features of any audio file from ``config.label_start`` on, without a cache.

    Parameters
    ----------
    steps : int, optional
        Number of labels; by default as many as the audio has room for.
    clip : bool, optional
        Whether all steps share one embedding, see ``ONE_EMBEDDING``; by default those of at most 60 steps do.
    hop_seconds : float
        For full songs: distance between two windows of the global encoder (0.5 s in the released code).

    Raises
    ------
    DsamlError
        If the file is missing, cannot be decoded or is shorter than its labels.
    """
    waveform = load_waveform(path, config.sample_rate)
    try:
        log_mel = log_mel_slices(waveform, config, steps)
        clip = len(log_mel) <= CLIP_STEPS if clip is None else clip
        windows, index = windows_for(clip, len(log_mel), config, hop_seconds)
        embeddings = encoder.embed(waveform, config.sample_rate, windows)  # (windows, D)
    except DsamlError as error:
        raise DsamlError(f"{path}: {error}") from error
    return Features(log_mel, embeddings[index])


class FeatureCache:
    """Computes features once, in a ``folder`` that is made if needed and that several data sets can share.

    ``hop_seconds`` and ``clip`` as in :func:`song_features`, the same for every song; by default each says itself if it is a clip.

    Raises
    ------
    DsamlError
        If the distance of two windows is shorter than a label, or no finite number.
    """

    def __init__(
        self,
        folder: str | Path,
        audio: AudioConfig,
        encoder: GlobalEncoder,
        hop_seconds: float = 2.0,
        clip: bool | None = None,
    ):
        if not audio.step_seconds <= hop_seconds < math.inf:
            raise DsamlError(
                f"{hop_seconds} s between two windows of the encoder: give {audio.step_seconds} s or more (--hop-seconds)"
            )
        self.folder, self.audio, self.encoder, self.hop_seconds, self.clip = Path(folder), audio, encoder, hop_seconds, clip

    def _is_clip(self, song: Song) -> bool:
        return song.clip if self.clip is None else self.clip

    def path(self, song: Song, steps: int) -> Path:
        """Where the features of a song belong; an error if it has no readable audio file."""
        if song.audio is None:
            raise DsamlError(f"song {song.id}: no audio file; add it to the data set's audio folder")
        settings = {"audio": dataclasses.asdict(self.audio), "encoder": self.encoder.fingerprint, "steps": steps}
        clip = self._is_clip(song)
        settings |= {"clip": clip, "hop": None if clip else self.hop_seconds, "version": VERSION}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        require_file(song.audio, "audio file", "correct the path or add the file")
        try:
            with song.audio.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)  # goes on with it
        except OSError as error:
            raise DsamlError(f"{song.audio}: cannot be read ({error.strerror}); check the file") from error
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def get(self, song: Song, steps: int) -> Features:
        """Features of one song with ``steps`` labels, from the cache where it has them; a damaged file counts as missing.

        Raises
        ------
        DsamlError
            If the audio is missing, unreadable or shorter than its labels.
        """
        return self._get(song, steps)[0]

    def make(self, song: Song, steps: int) -> bool:
        """Put the features of one song into the folder; whether it lacked them."""
        return self._get(song, steps)[1]

    def _get(self, song: Song, steps: int) -> tuple[Features, bool]:
        path, clip = self.path(song, steps), self._is_clip(song)
        if stored := _read(path, [field.name for field in dataclasses.fields(Features)]):
            return Features(**stored), False
        features = song_features(song.audio, self.audio, self.encoder, steps, clip=clip, hop_seconds=self.hop_seconds)
        write_bytes_atomically(path, pack_tensors(vars(features), {"encoder": self.encoder.fingerprint}))
        return features, True

    def fill(self, songs: Songs, workers: int = 1, progress: Progress = _silent) -> dict[str, Features]:
        """Features of many songs, all in memory; arguments and errors as of :meth:`compute`."""
        return dict(zip(songs, _each(self.get, songs, workers, progress), strict=True))

    def compute(self, songs: Songs, workers: int = 1, progress: Progress = _silent) -> int:
        """Put the features of a catalogue of any size into the folder; none stay in memory, and a stopped call goes on.

        Parameters
        ----------
        songs : mapping of song id to (Song, steps)
        workers : int
            Songs at a time, each on one core; threads, because decoding and transforms leave Python's lock alone. With 1, torch
            uses all the cores that it is given. An encoder on a GPU wants 1.
        progress : callable
            Called with (songs done, songs in all).

        Returns
        -------
        int
            How many songs the folder did not have.

        Raises
        ------
        DsamlError
            See :meth:`get`; what was computed before it stays in the folder.
        """
        return sum(_each(self.make, songs, workers, progress))

    def account(self, songs: int, made: int, seconds: float) -> str:
        """What :meth:`compute` did with so many songs in so much time, for people."""
        each = f", {seconds / made:.2f} s each" if made else ""
        return (
            f"{songs} songs: {made} computed{each}, {songs - made} found in {self.folder}\n"
            f"encoder: {self.encoder.name}, {self.encoder.dim} numbers, {self.encoder.fingerprint}"
        )


def _read(path: Path, names: Iterable[str]) -> dict[str, Tensor] | None:
    """Tensors of a file by name; None where it is missing, or damaged, which a warning tells."""
    try:
        stored, _ = read_tensors(path)
        return {name: stored[name] for name in names}
    except FileNotFoundError:
        return None
    except (KeyError, ValueError) as error:
        log.warning("%s: damaged (%s); computed again", path, error)
        return None


def _each(job: Callable[[Song, int], T], songs: Songs, workers: int, progress: Progress = _silent) -> Iterator[T]:
    """What ``job`` makes of each song, in their order, a few ahead; after an error no thread works on while the process ends."""
    threads = torch.get_num_threads()
    pool, items, waiting = ThreadPoolExecutor(workers), iter(songs.values()), deque[Future[T]]()

    def on_its_cores(song: Song, steps: int) -> T:
        if workers > 1:
            torch.set_num_threads(1)
        return job(song, steps)

    try:
        waiting.extend(pool.submit(on_its_cores, *item) for item in islice(items, 4 * workers))
        for done in range(1, len(songs) + 1):
            yield waiting.popleft().result()
            waiting.extend(pool.submit(on_its_cores, *item) for item in islice(items, 1))
            progress(done, len(songs))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def raw_slices(songs: Songs, audio: AudioConfig, path: Path) -> dict[str, Features]:
    """Raw slices in place of log-mels, for models that hear raw audio: (T, samples) in half precision, no global embedding.

    ``songs`` are (Song, steps) by id. ``path`` is a safetensors file that keeps them; written if it is missing or damaged.
    """

    def job(song: Song, steps: int) -> Tensor:
        return cut_slices(load_waveform(song.audio, audio.sample_rate), steps, audio).half()

    stored = _read(path, songs)
    if stored is None:
        stored = dict(zip(songs, _each(job, songs, 2), strict=True))
        write_bytes_atomically(path, pack_tensors(stored, {}))
    return {song: Features(slices, torch.zeros(1, 0)) for song, slices in stored.items()}
