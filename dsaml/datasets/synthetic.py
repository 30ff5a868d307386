"""The embedded corpus: procedural songs and simulated listeners, written in DEAM's own layout.

A listener's curve is ``tanh(s u_d + kappa z_d q_d + bell)`` for each dimension d, delayed by a personal lag, with a small gain and
offset and smooth noise. ``u_d`` is what everybody shares; ``q_d`` uses controls that the *other* dimension's shared part
needs, and its sign ``z_d`` is the person: one listener finds loud and percussive music pleasant, another unpleasant. The
averaged label therefore loses exactly what makes a listener that listener.

Nothing here is real, and every result computed on it says so.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from dsaml.annotations import MEAN
from dsaml.audio import encode
from dsaml.datasets import deam
from dsaml.datasets.base import PARTS, Dataset
from dsaml.errors import DsamlError
from dsaml.metrics import DIMENSIONS
from dsaml.results import write_bytes_atomically
from dsaml.synthesis import CONTROLS, SAMPLE_RATE, STEP, render

log = logging.getLogger(__name__)

LABEL_START = 15.0  # s
MARKER = "corpus.json"  # lists every file of the corpus; written first, and again as complete when all are there
LOCK = ".lock"  # held while a process writes the corpus
AUDIO = Path("DEAM_audio", "MEMD_audio")
_LABELS, _DYNAMIC = Path("DEAM_Annotations", "annotations"), "dynamic (per second annotations)"
RATERS = _LABELS / "annotations per each rater" / _DYNAMIC
AVERAGED = _LABELS / "annotations averaged per song" / _DYNAMIC
ORACLE = Path("oracle")  # noise-free curves of validation and test songs
_OWN_FILE = re.compile(r"(DEAM_audio|DEAM_Annotations|oracle)/([^/]+/)*\w+\.(mp3|csv)")  # what a corpus can hold
_TEMPORARY = re.compile(rf"\.{re.escape(MARKER)}\..*")  # what a killed run leaves of the marker

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
    for d, dimension in enumerate(DIMENSIONS):
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
        Folder to write; made if needed. It must be empty or hold nothing but an embedded corpus, whose own files are replaced.
    config : CorpusConfig
    workers : int
        Processes that play and encode songs; the result does not depend on it.
    progress : callable
        Called with (songs done, songs in all).

    Raises
    ------
    DsamlError
        If the folder holds anything that no earlier run wrote; nothing is touched then.
    """
    root = Path(root)
    plans = _plans(config)
    listeners = {part: [x.id for x in make_listeners(config, part)] for part in PARTS}
    songs = {part: [str(p.song_id) for p in plans if p.part == part] for part in PARTS}
    bells = {str(p.song_id): b for p in plans if (b := make_controls(config, p.song_id, p.steps, p.flat)[1])}
    description = {"synthetic": True, "config": asdict(config), "complete": True, "files": _files(plans)}
    description |= {"songs": songs, "annotators": listeners, "bells": bells}
    description = json.loads(json.dumps(description))  # as it will be read again
    _check_own(root)
    with _alone(root):
        if _check_own(root) == description:
            return root
        _remove_own(root)
        _write_description(root, description | {"complete": False})
        audio = root / AUDIO
        audio.mkdir(parents=True, exist_ok=True)
        _write_labels(root, config, plans)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [pool.submit(_write_audio, audio / f"{plan.song_id}.mp3", config, plan) for plan in plans]
            for done, job in enumerate(as_completed(jobs), 1):
                job.result()
                progress(done, len(plans))
        _write_description(root, description)
    return root


def _write_description(root: Path, description: dict) -> None:
    write_bytes_atomically(root / MARKER, (json.dumps(description, indent=1) + "\n").encode())


def _files(plans: list[_Plan]) -> list[str]:
    """Every file of a corpus but the marker, relative to its root."""
    files = [(AVERAGED / f"{dimension}.csv").as_posix() for dimension in DIMENSIONS]
    for plan in plans:
        files.append((AUDIO / f"{plan.song_id}.mp3").as_posix())
        folders = (RATERS,) if plan.part == "train" else (RATERS, ORACLE)
        files += [(folder / d / f"{plan.song_id}.csv").as_posix() for folder in folders for d in DIMENSIONS]
    return files


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One process at a time writes into ``root``; a second one waits."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process is writing this corpus; waiting for it", root)
            lock.acquire()
    except OSError as error:
        raise DsamlError(f"{root}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _own_files(root: Path) -> set[str] | None:
    """What the marker of ``root`` says that an earlier run wrote; None without a marker of this module's making."""
    try:
        description = json.loads((root / MARKER).read_text(encoding="utf-8"))
        files = description["files"]
        mine = description["synthetic"] is True and isinstance(description["config"], dict)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    plain = isinstance(files, list) and all(isinstance(f, str) and _OWN_FILE.fullmatch(f) for f in files)
    return set(files) if mine and plain else None


def _check_own(root: Path) -> dict | None:
    """The description of the corpus in ``root``, or None where there is nothing yet.

    Raises
    ------
    DsamlError
        If the folder holds anything that no earlier run wrote.
    """
    if not root.is_dir():
        if root.exists() or root.is_symlink():
            raise DsamlError(f"{root}: not a folder; give an empty or new one")
        return None
    own = _own_files(root)
    found = [p for p in root.rglob("*") if not p.is_dir() or p.is_symlink()]
    names = {p.relative_to(root).as_posix() for p in found}
    temporary = {n for n in names if _TEMPORARY.fullmatch(n)}
    if own is None and not names - {LOCK} - temporary:
        return None
    if own is None:
        raise DsamlError(f"{root}: not empty and not an embedded corpus of this version; give an empty or new folder")
    links = sorted(p.relative_to(root).as_posix() for p in found if p.is_symlink())
    if foreign := sorted(names - own - {MARKER, LOCK} - temporary) or links:
        raise DsamlError(
            f"{root}: holds {foreign[0]}{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which the embedded "
            "corpus did not write; move it elsewhere or give another folder (nothing was touched)"
        )
    return json.loads((root / MARKER).read_text(encoding="utf-8"))


def _remove_own(root: Path) -> None:
    """Remove the files that an earlier run listed, and the folders that this leaves empty; the marker goes last."""
    own = _own_files(root) or set()
    for name in sorted(own):
        (root / name).unlink(missing_ok=True)
    folders = {parent for name in own for parent in Path(name).parents if parent.parts}
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()
    (root / MARKER).unlink(missing_ok=True)


def _write_labels(root: Path, config: CorpusConfig, plans: list[_Plan]) -> None:
    listeners = {part: make_listeners(config, part) for part in ("train", "validation", "test")}
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
        for d, dimension in enumerate(DIMENSIONS):
            name = Path(dimension) / f"{plan.song_id}.csv"
            _csv(root / RATERS / name, "WorkerId", ((who, values[:, d]) for who, values in ratings.items()))
            if plan.part != "train":
                _csv(root / ORACLE / name, "WorkerId", ((who, values[:, d]) for who, values in curves.items()))
    for d, dimension in enumerate(DIMENSIONS):
        _csv(root / AVERAGED / f"{dimension}.csv", "song_id", ((song, values[:, d]) for song, values in means))


def describe(root: str | Path) -> dict:
    """The content of ``corpus.json``: configuration, split, bell times.

    Raises
    ------
    DsamlError
        If the folder holds no complete embedded corpus.
    """
    description = None if _own_files(Path(root)) is None else json.loads((Path(root) / MARKER).read_text(encoding="utf-8"))
    if description is None or not description.get("complete"):
        raise DsamlError(
            f"{Path(root) / MARKER}: missing or incomplete, so this is no complete embedded corpus; run "
            f"'python -m dsaml synthesize {root}'"
        )
    return description


def load(root: str | Path) -> Dataset:
    """Load an embedded corpus through the DEAM loader, with its split and its true curves (``oracle``).

    Raises
    ------
    DsamlError
        If the corpus is missing or incomplete.
    """
    root, split = Path(root), deam.split_of(describe(root))
    if split is None:
        raise DsamlError(f"{root / MARKER}: damaged, it does not list songs and annotators; write the corpus again")
    return deam.load(root, split=split, name="synthetic", oracle=root / ORACLE)


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
