"""The embedded corpus: procedural songs and simulated listeners, written in DEAM's own layout.

A listener's curve is ``tanh(s u_d + kappa z_d q_d + bell)`` for each dimension d, delayed by a personal lag, with a small gain and
offset and smooth noise. ``u_d`` is what everybody shares; ``q_d`` uses controls that the *other* dimension's shared part
needs, and its sign ``z_d`` is the person: one listener finds loud and percussive music pleasant, another unpleasant. The
averaged label therefore loses exactly what makes a listener that listener.

Nothing here is real, and every result computed on it says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dsaml.annotations import MEAN
from dsaml.audio import encode
from dsaml.datasets import deam
from dsaml.datasets.base import Dataset, Split
from dsaml.errors import DsamlError
from dsaml.results import write_bytes_atomically
from dsaml.synthesis import CONTROLS, SAMPLE_RATE, STEP, render

LABEL_START = 15.0  # s
MARKER = "corpus.json"

SHARED = {  # what everybody hears: weights of the controls
    "arousal": {"loudness": 0.55, "density": 0.25, "brightness": 0.10, "percussiveness": 0.35},
    "valence": {"mode": 0.45, "consonance": 0.42, "register": 0.35},
}
PERSONAL = {  # what listeners disagree about, with the sign z = +1 or -1
    "arousal": {"register": 0.75, "consonance": -0.65},
    "valence": {"loudness": 0.85, "percussiveness": 0.80},
}


@dataclass(frozen=True)
class CorpusConfig:
    """Size and statistics of the embedded corpus."""

    seed: int = 0  # everything follows from it
    train_songs: int = 160  # 45 s clips, ids from 1001
    validation_songs: int = 20  # 45 s clips, ids after the training clips
    test_songs: int = 20  # 45 s songs, ids from 2001
    long_songs: int = 6  # 90-150 s songs, ids after the test songs
    train_listeners: int = 40
    validation_listeners: int = 8
    test_listeners: int = 20
    ratings_per_song: int = 12  # listeners per training clip; validation and test listeners rate all their songs
    shared_scale: float = 1.0  # s
    personal_scale: float = 0.82  # kappa
    level_spread: float = 0.85  # song levels of the controls are uniform in +- this
    flat_share: float = 0.5  # share of training clips that hardly move, as most DEAM clips do
    flat_motion: float = 0.06  # SD of a section around the song's level, in such clips
    motion: float = 0.4  # the same in all other songs
    bell_share: float = 0.25  # share of songs with a bell
    bell_lift: float = 0.35  # what the bell adds 8-15 s later, before tanh
    noise: float = 0.04  # SD of the rating noise (AR(1) at 2 Hz)


@dataclass(frozen=True)
class Listener:
    """One simulated person: z, gain and offset for (arousal, valence); lag in seconds."""

    id: str
    z: tuple[float, float]
    gain: tuple[float, float]
    offset: tuple[float, float]
    lag: float


def make_listeners(config: CorpusConfig, part: str) -> list[Listener]:
    """Listeners of one part; the four sign combinations are balanced."""
    count = {"train": config.train_listeners, "validation": config.validation_listeners, "test": config.test_listeners}[
        part
    ]
    rng = np.random.default_rng([config.seed, 1, len(part)])
    listeners = []
    for number in range(count):
        signs = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)][number % 4])
        listeners.append(
            Listener(
                id=f"{part}-{number + 1:02d}",
                z=tuple(signs * rng.normal(1.0, 0.12, 2)),
                gain=tuple(rng.normal(1.0, 0.08, 2)),
                offset=tuple(rng.normal(0.0, 0.04, 2)),
                lag=float(rng.uniform(1.0, 2.5)),
            )
        )
    return listeners


def make_controls(config: CorpusConfig, song_id: int, steps: int, flat: bool) -> tuple[np.ndarray, tuple[float, ...]]:
    """Controls (steps, 7) every 0.5 s from the start of the song, and the bell times in seconds."""
    rng = np.random.default_rng([config.seed, 2, song_id])
    level = rng.uniform(-config.level_spread, config.level_spread, len(CONTROLS))
    motion = config.flat_motion if flat else config.motion
    controls, filled = np.empty((steps, len(CONTROLS))), 0
    while filled < steps:
        length = int(rng.integers(10, 23))  # sections of 5 to 11 s
        controls[filled : filled + length] = np.clip(level + motion * rng.normal(size=len(CONTROLS)), -1, 1)
        filled += length
    kernel = np.ones(3) / 3  # sections fade into each other over 1.5 s
    padded = np.pad(controls, ((1, 1), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, k], kernel, "valid") for k in range(len(CONTROLS))], 1)
    has_bell = rng.random() < config.bell_share and not flat
    bells = tuple(float(b) for b in np.arange(rng.uniform(16.0, 26.0), steps * STEP - 12.0, 40.0)) if has_bell else ()
    return smooth, bells


def true_curve(
    config: CorpusConfig, controls: np.ndarray, bells: tuple[float, ...], listener: Listener | None
) -> np.ndarray:
    """Noise-free arousal and valence on the labelled part, shape (steps - 30, 2); ``None`` is the population (z = 0)."""
    person = listener or Listener(MEAN, (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), 1.75)
    times = np.arange(len(controls)) * STEP
    lift = np.zeros(len(controls))
    for bell in bells:
        lift[(times >= bell + 8.0) & (times < bell + 15.0)] = config.bell_lift
    columns = []
    for d, dimension in enumerate(("arousal", "valence")):
        shared = sum(w * controls[:, CONTROLS.index(name)] for name, w in SHARED[dimension].items())
        personal = sum(w * controls[:, CONTROLS.index(name)] for name, w in PERSONAL[dimension].items())
        raw = np.tanh(config.shared_scale * shared + config.personal_scale * person.z[d] * personal + lift)
        delayed, state, rate = np.empty_like(raw), raw[0], 1 - np.exp(-STEP / (person.lag / 2))
        for step, value in enumerate(raw):  # a first-order lag: attention follows the music late
            state += rate * (value - state)
            delayed[step] = state
        columns.append(np.clip(person.gain[d] * delayed + person.offset[d], -1, 1))
    return np.stack(columns, 1)[int(LABEL_START / STEP) :]


def _rate(config: CorpusConfig, curve: np.ndarray, song_id: int, listener_number: int) -> np.ndarray:
    """The curve as the listener wrote it down: smooth noise added, clipped to the scale."""
    rng = np.random.default_rng([config.seed, 3, song_id, listener_number])
    noise, keep = rng.normal(size=curve.shape), 0.7
    for step in range(1, len(noise)):
        noise[step] = keep * noise[step - 1] + np.sqrt(1 - keep**2) * noise[step]
    return np.clip(curve + config.noise * noise, -1, 1)


@dataclass(frozen=True)
class _Plan:
    song_id: int
    part: str
    steps: int  # of 0.5 s, from the start of the song
    flat: bool


def _plans(config: CorpusConfig) -> list[_Plan]:
    rng = np.random.default_rng([config.seed, 4])
    plans = [_Plan(1001 + n, "train", 90, rng.random() < config.flat_share) for n in range(config.train_songs)]
    first = 1001 + config.train_songs
    plans += [_Plan(first + n, "validation", 90, False) for n in range(config.validation_songs)]
    plans += [_Plan(2001 + n, "test", 90, False) for n in range(config.test_songs)]
    first = 2001 + config.test_songs
    return plans + [_Plan(first + n, "test", int(rng.integers(180, 301)), False) for n in range(config.long_songs)]


def _write_audio(path: Path, config: CorpusConfig, plan: _Plan) -> None:
    controls, bells = make_controls(config, plan.song_id, plan.steps, plan.flat)
    sound = render(controls, bells, np.random.default_rng([config.seed, 5, plan.song_id]))
    encode(path, sound, SAMPLE_RATE)


def _csv(path: Path, first_column: str, rows: Iterable[tuple[str | int, np.ndarray]]) -> None:
    """One row per id; shorter songs leave the last cells empty."""
    rows = list(rows)
    width = max(len(values) for _, values in rows)
    header = [first_column, *(f"sample_{int(1000 * (LABEL_START + STEP * i))}ms" for i in range(width))]
    lines = [",".join(header)]
    for name, values in rows:
        lines.append(",".join([str(name), *(f"{v:.6f}" for v in values)] + [""] * (width - len(values))))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def synthesize(
    root: str | Path,
    config: CorpusConfig = CorpusConfig(),
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write the embedded corpus; a complete one of the same configuration is left as it is.

    Parameters
    ----------
    root : path
        Folder to write; made if needed. It must be empty or hold an embedded corpus.
    config : CorpusConfig
    workers : int
        Processes that play and encode songs; the result does not depend on it.
    progress : callable
        Called with (songs done, songs in all).

    Raises
    ------
    DsamlError
        If the folder holds anything else.
    """
    root = Path(root)
    marker = root / MARKER
    description = {"synthetic": True, "config": asdict(config)}
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8"))["config"] == description["config"]:
        return root
    unfinished = root / ".unfinished"
    if root.is_dir() and any(root.iterdir()):
        if not (marker.is_file() or unfinished.is_file()):
            raise DsamlError(f"{root}: not empty and not an embedded corpus; give an empty or new folder")
        shutil.rmtree(root)
    audio = root / "DEAM_audio" / "MEMD_audio"
    audio.mkdir(parents=True)
    unfinished.touch()
    plans = _plans(config)
    _write_labels(root, config, plans)
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_write_audio, audio / f"{plan.song_id}.mp3", config, plan) for plan in plans]
        for done, job in enumerate(as_completed(jobs), 1):
            job.result()
            progress(done, len(plans))
    listeners = {part: [x.id for x in make_listeners(config, part)] for part in ("train", "validation", "test")}
    songs = {part: [str(p.song_id) for p in plans if p.part == part] for part in ("train", "validation", "test")}
    bells = {str(p.song_id): b for p in plans if (b := make_controls(config, p.song_id, p.steps, p.flat)[1])}
    description |= {"songs": songs, "annotators": listeners, "bells": bells}
    write_bytes_atomically(marker, (json.dumps(description, indent=1) + "\n").encode())
    unfinished.unlink()
    return root


def _write_labels(root: Path, config: CorpusConfig, plans: list[_Plan]) -> None:
    listeners = {part: make_listeners(config, part) for part in ("train", "validation", "test")}
    labels = root / "DEAM_Annotations" / "annotations"
    rater_folder = labels / "annotations per each rater" / "dynamic (per second annotations)"
    means = []
    for plan in plans:
        controls, bells = make_controls(config, plan.song_id, plan.steps, plan.flat)
        everyone = list(enumerate(listeners[plan.part]))
        if plan.part == "train":  # balanced: each listener rates about the same number of clips
            rng = np.random.default_rng([config.seed, 6, plan.song_id])
            chosen = rng.permutation(len(everyone))[: config.ratings_per_song]
            everyone = [everyone[i] for i in sorted(chosen)]
        curves = {person.id: true_curve(config, controls, bells, person) for _, person in everyone}
        ratings = {person.id: _rate(config, curves[person.id], plan.song_id, number) for number, person in everyone}
        means.append((plan.song_id, np.mean(list(ratings.values()), 0)))
        curves[MEAN] = true_curve(config, controls, bells, None)
        for d, dimension in enumerate(("arousal", "valence")):
            name = Path(dimension) / f"{plan.song_id}.csv"
            _csv(rater_folder / name, "WorkerId", ((who, values[:, d]) for who, values in ratings.items()))
            if plan.part != "train":
                _csv(root / "oracle" / name, "WorkerId", ((who, values[:, d]) for who, values in curves.items()))
    average = labels / "annotations averaged per song" / "dynamic (per second annotations)"
    for d, dimension in enumerate(("arousal", "valence")):
        _csv(average / f"{dimension}.csv", "song_id", ((song, values[:, d]) for song, values in means))


def describe(root: str | Path) -> dict:
    """The content of ``corpus.json``: configuration, split, bell times.

    Raises
    ------
    DsamlError
        If the folder holds no complete embedded corpus.
    """
    marker = Path(root) / MARKER
    if not marker.is_file():
        raise DsamlError(
            f"{marker}: missing, so this is no complete embedded corpus; run 'python -m dsaml synthesize {root}'"
        )
    return json.loads(marker.read_text(encoding="utf-8"))


def load(root: str | Path) -> Dataset:
    """Load an embedded corpus through the DEAM loader, with its split and its true curves (``oracle``).

    Raises
    ------
    DsamlError
        If the corpus is missing or incomplete.
    """
    root, description = Path(root), describe(root)
    split = Split(
        songs={part: tuple(ids) for part, ids in description["songs"].items()},
        annotators={part: tuple(ids) for part, ids in description["annotators"].items()},
    )
    return deam.load(root, split=split, name="synthetic", oracle=root / "oracle")


def calibration(dataset: Dataset) -> pd.DataFrame:
    """Spread of the labels, to lay beside the real data sets'.

    Returns
    -------
    DataFrame
        Rows: step disagreement (SD over annotators), within-song SD of averaged labels for clips and for full songs;
        columns arousal and valence.
    """
    groups: dict[str, list[np.ndarray]] = {}
    for tracks in dataset.tracks.values():
        for song_id, track in tracks.items():
            groups.setdefault(song_id, []).append(track.values)
    spread = [np.std([v[:60] for v in values], axis=0).mean(0) for values in groups.values() if len(values) > 2]
    rows = {"step disagreement (SD over annotators)": np.mean(spread, 0)}
    parts = {"training clips": dataset.split.songs["train"], "test songs": dataset.split.songs["test"]}
    for name, ids in parts.items():
        inside = [dataset.mean[i].values.std(0) for i in ids if i in dataset.mean]
        rows[f"within-song SD of the averaged label, {name}"] = np.mean(inside, 0)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["arousal", "valence"])
