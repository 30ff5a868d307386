"""From a data set on disk to an experiment: labels, features, and the folder in which its models are kept.

What is trained and scored depends on the code here only through labels and features, and these are in the folder's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dsaml.audio.encoders import make_encoder
from dsaml.audio.features import ONE_EMBEDDING, FeatureCache, Features
from dsaml.config import FEWEST_STEPS, STEP_SECONDS, Profile, adjusted
from dsaml.data import Dataset, Split, load_dataset
from dsaml.data.base import PARTS, flat_tracks, without_short
from dsaml.data.checks import check, stop_on_errors
from dsaml.data.synthetic import corpus as synthetic
from dsaml.data.synthetic.population import STRESS, TWO_SIGNS
from dsaml.errors import DsamlError
from dsaml.experiment.progress import counter
from dsaml.experiment.run import Experiment
from dsaml.learn.loop import TrainingOptions
from dsaml.runtime.closure import code_digest
from dsaml.runtime.workers import side_by_side

log = logging.getLogger(__name__)

TaskSongs = tuple[int | None, int | None]
"""Support and query songs of a task that somebody asks for; None is the largest possible."""

EMBEDDED = {"synthetic": ("corpus", TWO_SIGNS), "stress": ("stress", STRESS)}
"""The data sets that are made here: their folder in the cache, and their configuration."""


@dataclass(frozen=True)
class Source:
    """Which data, and where everything is found, kept and computed."""

    dataset: str = "synthetic"  # one of dsaml.data.base.LOADERS
    root: Path | None = None  # the data set's folder; an embedded one needs none
    cache: Path = Path("cache")  # corpus, features, checkpoints, scores
    imagebind: Path | None = None  # ImageBind's weights, where the profile needs them
    accept: tuple[str, ...] = ()  # kinds of errors of ``check`` to go on in spite of
    device: str = "cpu"  # where everything runs, as torch names it

    def load(self) -> Dataset:
        """The data set; one that is made here is made if it is not there.

        Raises
        ------
        DsamlError
            If the folder of another one is missing, or the data set is unusable.
        """
        if self.root is not None:
            return load_dataset(self.dataset, self.root)
        if self.dataset not in EMBEDDED:
            raise DsamlError(f"{self.dataset}: its folder is missing; give it with --root")
        folder, config = EMBEDDED[self.dataset]
        with counter("corpus") as progress:
            made = synthetic.synthesize(self.cache / folder, config, workers=side_by_side(), progress=progress)
        return load_dataset(self.dataset, made)


def prepare(profile: Profile, source: Source = Source(), task_songs: TaskSongs | None = None) -> Experiment:
    """A data set with its features. Labels begin where the data set's do.

    Songs and tracks that are too short are left out (:func:`dsaml.data.base.without_short`), which is logged; so is the number of
    flat tracks. Without ``task_songs`` (:func:`with_task_songs`) the profile's tasks stay as they are.

    Raises
    ------
    DsamlError
        If the encoder lacks its weights, or the data set or its audio is unusable; or see :func:`with_task_songs`.
    """
    started, encoder = time.perf_counter(), make_encoder(profile, source.imagebind, device=source.device)
    data = only_with_audio(source.load())
    data, short, tracks = without_short(data)
    if short or tracks:
        seconds = FEWEST_STEPS * STEP_SECONDS
        log.warning("%d songs and %d tracks of fewer than %d labels (%g s) are left out", short, tracks, FEWEST_STEPS, seconds)
    if flat := sum(flat_tracks(data, part) for part in PARTS):
        log.info("%d tracks never move and so have no CCC: they are kept for levels alone", flat)
    profile = with_label_start(profile, data)
    if task_songs is not None:
        profile = with_task_songs(profile, data, task_songs)
    songs = {s: (data.songs[s], len(data.mean[s])) for ids in data.split.songs.values() for s in ids}
    with counter("features") as progress:
        store = FeatureCache(source.cache / "features", profile.audio, encoder, clip=ONE_EMBEDDING[profile.embeddings])
        features = store.fill(songs, side_by_side(source.device), progress)
    log.info("features of %d songs: %.0f s", len(songs), time.perf_counter() - started)
    folder = source.cache / "runs" / folder_name(data, features)
    return Experiment(profile, data, features, folder, TrainingOptions(resume=True, device=source.device))


def folder_name(data: Dataset, features: Mapping[str, Features]) -> str:
    """Of the folder in which models and scores of some data are kept: what they depend on, and the code that makes them."""
    return f"{content_digest(data, features)[:8]}-{code_digest('dsaml.experiment.run')[:8]}"


def with_task_songs(profile: Profile, data: Dataset, songs: TaskSongs) -> Profile:
    """The profile with tasks as large as every training annotator has songs for, and no larger than the profile's own.

    ``songs`` are support and query songs as somebody asks for them; None: the profile's, and as many as there can be.

    Raises
    ------
    DsamlError
        If an annotator has not as many.
    """
    listed = set(data.split.songs["train"])
    counts = {who: len(listed & data.tracks.get(who, {}).keys()) for who in data.split.annotators["train"]}
    if not counts:
        return profile
    who = min(counts, key=lambda one: counts[one])
    support = songs[0] or profile.meta.support_songs
    query = songs[1] or max(1, min(profile.meta.query_songs, counts[who] - support))
    if support + query > counts[who]:
        raise DsamlError(
            f"{data.root}: tasks of {support} support and {query} query songs want {support + query} songs of everybody, but "
            f"training annotator {who} has {counts[who]}; ask for fewer with --support-songs and --query-songs"
        )
    if (support, query) != (profile.meta.support_songs, profile.meta.query_songs):
        log.warning(
            "tasks of %d support and %d query songs (training annotators have from %d songs on)", support, query, counts[who]
        )
    return adjusted(profile, songs=(support, query))


def with_label_start(profile: Profile, data: Dataset) -> Profile:
    """The profile with audio from the data set's first label on."""
    return dataclasses.replace(profile, audio=dataclasses.replace(profile.audio, label_start=data.label_start))


def check_data(profile: Profile, source: Source, mode: str | None) -> None:
    """What ``check`` says of a data set, before anything is computed on it; what it found in audio files is kept in the cache.

    ``mode`` is the training that has to be possible, "dmer" or "pdmer"; with None what the labels allow.

    Raises
    ------
    DsamlError
        If there is an error of a kind that is not accepted, or anything that would stop training.
    """
    memory = source.cache / "checked-audio.json"
    with counter("checking the data", "file") as progress:
        found = check(source.dataset, source.root, profile=profile, mode=mode, memory=memory, progress=progress)
    stop_on_errors(source.root, found.problems, found.obstacles, source.accept)


def only_with_audio(data: Dataset) -> Dataset:
    """The data set with a split of those songs alone that have averaged labels and audio; how many lack audio is logged.

    Raises
    ------
    DsamlError
        If nothing is left of a part.
    """
    labelled = {part: [s for s in ids if s in data.mean] for part, ids in data.split.songs.items()}
    heard = {s for s, song in data.songs.items() if song.audio is not None}
    songs = {part: tuple(s for s in ids if s in heard) for part, ids in labelled.items()}
    wanted, left = (sum(map(len, parts.values())) for parts in (labelled, songs))
    if left < wanted:
        log.warning("%d of %d songs have no audio under %s and are left out", wanted - left, wanted, data.root)
    if empty := [part for part, ids in songs.items() if not ids]:
        raise DsamlError(
            f"{data.root}: no song with audio and labels in the part {', '.join(empty)}; 'check' lists what is missing"
        )
    return dataclasses.replace(data, split=Split(songs, data.split.annotators))


def content_digest(data: Dataset, features: Mapping[str, Features]) -> str:
    """SHA-256 of everything in the data that a number can depend on: split, every label of everybody, true curves, features.

    The version of torch counts too: its kernels round.
    """
    total = hashlib.sha256(f"{torch.__version__} {data.name} {data.real} {data.split}".encode())
    sources = {"mean": {"": data.mean}, "tracks": data.tracks, "oracle": data.oracle}
    for kind, people in sources.items():
        for who in sorted(people):
            for song, track in sorted(people[who].items()):
                total.update(f"{kind}\0{who}\0{song}\0{track.values.shape}".encode())
                total.update(track.times.tobytes() + np.ascontiguousarray(track.values).tobytes())
    for song in sorted(features):
        for tensor in (features[song].log_mel, features[song].global_embedding):
            total.update(f"{song}\0{tuple(tensor.shape)}".encode() + tensor.contiguous().numpy().tobytes())
    return total.hexdigest()
