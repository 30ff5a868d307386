"""How time and memory grow with songs, song length, annotators, tasks per step, D and processes: ``bench --scale``.

Each curve multiplies one size and leaves the others as the demo has them. The slope in double logarithmic scale says how it
grows: 1 is proportional, 0 is not at all.
"""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.common import Progress, machine, peak_memory, seconds
from benchmarks.engine import make_batch, make_model, meta_step
from dsaml.audio.encoders import MelEncoder
from dsaml.audio.features import FeatureCache, Features
from dsaml.audio.windows import predict_song
from dsaml.config import CLIP_STEPS, DEMO, LABEL_START, STEP_SECONDS, AudioConfig, MetaConfig, ModelConfig
from dsaml.data.annotations import Annotation
from dsaml.data.base import Dataset, Song, Split
from dsaml.experiment.cluster import compute_features
from dsaml.learn.batches import SongStore
from dsaml.learn.loop import TrainingOptions
from dsaml.learn.tasks import TaskSampler
from dsaml.learn.training import train_maml
from dsaml.runtime.distributed import processes

META = dataclasses.replace(DEMO.meta, query_mode="eval")
RANK_STEPS = 6  # meta-steps timed with several processes


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of the power law through the points."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def curve(sizes: Sequence[int], measure: Callable[[int], dict[str, float]]) -> dict[str, Any]:
    """Measured values for each size, and how each of them grows."""
    points = [measure(size) for size in sizes]
    columns = {name: [point[name] for point in points] for name in points[0]}
    return {"sizes": list(sizes), **columns, "slopes": {name: slope(sizes, values) for name, values in columns.items()}}


def _step(model: ModelConfig, meta: MetaConfig, tasks: int, steps: int, rounds: int) -> float:
    support, query = make_batch(model, tasks, 1, 1, steps), make_batch(model, tasks, meta.query_songs, 2, steps)
    built = make_model(model)
    return seconds(lambda: meta_step(built, support, query, meta), rounds)


def measured_step(dim: int, tasks: int, steps: int, rounds: int = 3) -> dict[str, float]:
    """Seconds and largest memory of one meta-step, in a process of its own."""
    model = dataclasses.replace(DEMO.model, dim=dim, feed_forward=2 * dim)
    meta = dataclasses.replace(META, tasks_at_once=tasks)
    taken, gigabytes = peak_memory(_step, model, meta, tasks, steps, rounds)
    return {"seconds": taken, "gigabytes": gigabytes}


class Made(Mapping[str, Any]):
    """A mapping of which nothing is in memory but its names: what belongs to a name is made when it is asked for."""

    def __init__(self, names: Sequence[str], make: Callable[[str], Any]):
        self.names, self.make = names, make

    def __getitem__(self, name: str) -> Any:
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def catalogue(songs: int, people: int, place: Path, keep: bool = False, each: int = 12) -> tuple[SongStore, TaskSampler]:
    """Annotators who rated ``each`` of the songs, and one who rated those held out; random labels, features in a mapped file.

    Nothing is ever written into the file, so on the disk it is empty, whatever its size; reading it is reading zeros. Labels are
    made when asked for, or at once to ``keep`` them.
    """
    steps, model = CLIP_STEPS, DEMO.model
    width, mapping = math.prod(model.slice_shape), (lambda names, make: dict(Made(names, make))) if keep else Made
    ids, who = [f"s{k}" for k in range(songs)], [f"a{k}" for k in range(people)]
    heard, held_out = ids[: -max(2, songs // 10)], ids[-max(2, songs // 10) :]
    with open(place / "features", "wb") as file:
        file.truncate(4 * songs * (steps * width + model.dim))
    rows = np.memmap(place / "features", np.float32, "c", shape=(songs, steps * width + model.dim))

    def features(song: str) -> Features:
        row = torch.from_numpy(rows[int(song[1:])])
        return Features(row[: steps * width].view(steps, *model.slice_shape), row[steps * width :][None])

    def label(song: str, annotator: str) -> Annotation:
        values = np.random.default_rng([int(song[1:]), int(annotator[1:])]).uniform(-1, 1, (steps, 2))
        return Annotation(song, annotator, LABEL_START + STEP_SECONDS * np.arange(steps), values)

    def rated(annotator: str) -> Mapping[str, Annotation]:
        chosen = np.random.default_rng(int(annotator[1:])).choice(len(heard), each, replace=False)
        own = held_out if annotator == last else [heard[k] for k in chosen]
        return mapping(own, lambda song: label(song, annotator))

    last = f"a{people}"
    tracks = mapping([*who, last], rated)
    split = Split({"train": heard, "validation": held_out}, {"train": who, "validation": [last]})
    store = SongStore(Dataset("random", False, place, {}, {}, tracks, split), Made(ids, features))
    return store, TaskSampler(Made(who, rated), "annotator", 1, META.query_songs, 0)


def _sampling(songs: int, annotators: int) -> dict[str, float]:
    """Seconds to draw and stack one meta-step's tasks; data set size must not matter."""
    with tempfile.TemporaryDirectory() as place:
        store, sampler = catalogue(songs, annotators, Path(place), keep=True)
        number = iter(range(10**9))

        def work() -> None:
            tasks = sampler.batch(next(number), META.tasks_per_step)
            store.support(tasks), store.query(tasks)

        return {"seconds": seconds(work, 15)}


def _catalogue_steps(size: int, rounds: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        store, sampler = catalogue(size, size, Path(place))
        model, numbers = make_model(DEMO.model), iter(range(10**9))

        def step() -> None:
            tasks = sampler.batch(next(numbers), META.tasks_per_step)
            meta_step(model, store.support(tasks), store.query(tasks), META)

        return seconds(step, rounds)


def _catalogue(size: int) -> dict[str, float]:
    """Seconds of a whole meta-step, drawing and reading included, and largest memory, in a process of its own."""
    taken, gigabytes = peak_memory(_catalogue_steps, size, 15)
    return {"seconds": taken, "gigabytes": gigabytes}


def _song(minutes: int) -> dict[str, float]:
    """Seconds to predict a long song through sliding windows."""
    model, steps = make_model(DEMO.model), minutes * 120
    features = Features(torch.randn(steps, *DEMO.model.slice_shape), torch.randn(steps, DEMO.model.dim))
    return {"seconds": seconds(lambda: predict_song(lambda x, g: model(x, g).prediction, features), 2)}


def _rank(rank: int, size: int, port: int, out: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with processes("cpu", 120), tempfile.TemporaryDirectory() as place:
        store, _ = catalogue(40, 10, Path(place), keep=True)
        config = dataclasses.replace(META, steps=RANK_STEPS, train_adapter=False, tasks_at_once=META.tasks_per_step)
        model = make_model(DEMO.model)
        train_maml(model, store, dataclasses.replace(config, steps=1), TrainingOptions(validate_every=99))  # warm
        start = time.perf_counter()
        train_maml(model, store, config, TrainingOptions(validate_every=99))
        Path(f"{out}/{rank}").write_text(str(time.perf_counter() - start))


def _processes(size: int) -> dict[str, float]:
    """Seconds per meta-step with several processes of one thread each, validation included."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with tempfile.TemporaryDirectory() as out:
        torch.multiprocessing.spawn(_rank, (size, port, out), nprocs=size)
        return {"seconds": max(float(Path(f"{out}/{rank}").read_text()) for rank in range(size)) / RANK_STEPS}


def _catalogue_features(size: int) -> dict[str, float]:
    """Seconds in which a Dask cluster of two processes of one thread makes the features of so many clips of 45 s."""
    from distributed import LocalCluster

    rng, songs, rate = np.random.default_rng(0), {}, AudioConfig().sample_rate
    noise = rng.normal(0, 0.1, 45 * rate).astype(np.float32)
    with tempfile.TemporaryDirectory() as place:
        for k in range(size):
            noise[:4] = k / size  # other audio, or it would be computed once
            soundfile.write(f"{place}/{k}.wav", noise, rate, subtype="PCM_16")
            songs[str(k)] = Song(str(k), Path(f"{place}/{k}.wav")), 60
        cache = FeatureCache(f"{place}/features", DEMO.audio, MelEncoder(DEMO.model.dim))
        with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
            start = time.perf_counter()
            compute_features(cache, songs, cluster.scheduler_address)
            return {"seconds": time.perf_counter() - start}


def measure(progress: Progress = lambda what: None) -> dict[str, Any]:
    """Everything that ``data/bench/scale.json`` holds."""
    curves: dict[str, Any] = {}
    for name, sizes, work in (
        ("tasks_per_step", (1, 2, 4, 8, 16), lambda n: measured_step(DEMO.model.dim, n, 60)),
        ("steps_of_a_song", (30, 60, 120, 240), lambda n: measured_step(DEMO.model.dim, 4, n)),
        ("dim", (32, 64, 128, 256), lambda n: measured_step(n, 4, 60)),
        ("minutes_of_a_song", (1, 2, 4, 8), _song),
        ("songs", (50, 100, 200, 400), lambda n: _sampling(n, 40)),
        ("annotators", (10, 40, 160, 640), lambda n: _sampling(100, n)),
        ("annotators_and_songs", (1_000, 10_000, 100_000), _catalogue),
        ("songs_of_a_catalogue", (16, 64, 256), _catalogue_features),
        ("processes", (1, 2) if (os.cpu_count() or 1) < 4 else (1, 2, 4), _processes),
    ):
        progress(f"how it grows with: {name} ({', '.join(map(str, sizes))})")
        curves[name] = curve(sizes, work)
    return {"machine": machine(), "curves": curves}
