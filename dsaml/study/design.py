"""The design of a study: which songs, whose curves, who sees them in which order; written into a folder with its audio."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsaml.audio.recording import encode, excerpt
from dsaml.config import STEP_SECONDS
from dsaml.data.base import Dataset
from dsaml.errors import DsamlError
from dsaml.experiment.prepare import Source, with_label_start
from dsaml.experiment.results import provenance, read_result, rounded, write_result
from dsaml.listen import page
from dsaml.listen.page import Terms
from dsaml.listen.personal import load, load_low_rank

STUDY, CLASS = "study", "class"
TRUTH, PERSONAL, NOBODY = "Ground truth (mean label)", "Light model, personalized", "Light model w.o. personalization"
SHIFTED = "Light model, shifted by the participant's mean"
FILE, AUDIO, ANSWERS = "design.json", "audio", "answers.sqlite"
LETTERS = "ABCD"
DIGITS = 4  # of curves


@dataclass(frozen=True)
class StudySong:
    """A song of the design; curves are (T, 2)."""

    song_id: str
    audio: str  # the file's name in the folder's audio/
    terms: Terms
    truth: np.ndarray | None  # the data set's averaged label
    fourth: np.ndarray | None  # the curve of the model that --fourth names


@dataclass(frozen=True)
class Order:
    """What one participant sees: songs by their place in the design, and for each the methods behind the letters."""

    songs: tuple[int, ...]
    shown: tuple[tuple[int, ...], ...]  # of each song, the method behind A, B, …


@dataclass(frozen=True)
class Design:
    """A study as it stands in its folder."""

    folder: Path
    kind: str  # STUDY or CLASS
    seconds: float  # of each song
    step: float  # s between two labels
    start: float  # s from a song's own start to its excerpt
    origin: str  # what the model was trained on, in words
    noise: np.ndarray  # (2,), of the light model
    light: dict[str, Any]  # noise and calibration, as light.js reads them
    songs: tuple[StudySong, ...]  # the first is the one that is drawn
    methods: tuple[str, ...]
    orders: tuple[Order, ...]  # of each participant

    @property
    def steps(self) -> int:
        """T, labels of a song."""
        return round(self.seconds / self.step)

    @property
    def initial(self) -> np.ndarray:
        """The curve (T, 2) that a participant adjusts: of the first song, for nobody in particular."""
        return self.songs[0].terms.nobody

    def personal(self, curve: np.ndarray) -> np.ndarray:
        """Who drew ``curve`` (T, 2) of the first song: w (2, R)."""
        return self.songs[0].terms.person(self.noise, curve)

    def curves(self, song: StudySong, curve: np.ndarray) -> list[np.ndarray]:
        """The curves (T, 2) of ``methods`` for who drew ``curve`` of the first song."""
        nobody, shifted, personal = song.terms.predictions(self.songs[0].terms, self.noise, curve)
        made = {TRUTH: song.truth, PERSONAL: personal, NOBODY: nobody, SHIFTED: shifted}
        return [made.get(name, song.fourth) for name in self.methods]

    def shown(self, participant: int, position: int, curve: np.ndarray) -> list[np.ndarray]:
        """The curves behind the letters A, B, … of a participant's song at ``position`` (0, 1, …)."""
        order = self.orders[participant]
        made = self.curves(self.songs[order.songs[position]], curve)
        return [made[method] for method in order.shown[position]]


def williams(k: int) -> np.ndarray:
    """A Latin square (k, k) in which, for an even k, each treatment follows each other one once (Williams 1949)."""
    first = [0, *(n // 2 + 1 if n % 2 == 0 else k - n // 2 - 1 for n in range(k - 1))]
    return (np.array(first) + np.arange(k)[:, None]) % k


def make_orders(participants: int, songs: int, methods: int, seed: int) -> tuple[Order, ...]:
    """Blinded orders: songs shuffled for each participant; methods behind the letters from a balanced square, renamed for each."""
    square, out = williams(methods), []
    for participant in range(participants):
        rng = np.random.default_rng([seed, participant])
        rows, names = rng.permutation(methods), rng.permutation(methods)
        shown = (tuple(names[square[rows[k % methods]]].tolist()) for k in range(songs))
        out.append(Order(tuple((1 + rng.permutation(songs)).tolist()), tuple(shown)))
    return tuple(out)


def choose_songs(data: Dataset, count: int, steps: int, seed: int, named: Sequence[str] = ()) -> list[str]:
    """Songs of the data set's test part, as in the paper, by chance; before them those that are named.

    A DsamlError if there are too few.
    """
    there = [s for s in data.songs if data.songs[s].audio is not None and s in data.mean and len(data.mean[s]) >= steps]
    seconds = steps * STEP_SECONDS
    if unknown := [song for song in named if song not in there]:
        raise DsamlError(f"--song {unknown[0]}: has no audio with {seconds:g} s of labels in {data.root}; name another")
    if len(set(named)) < len(named):
        raise DsamlError("--song: one is named twice; name each once")
    test = [song for song in data.split.songs["test"] if song in there and song not in named]
    if len(named) + len(test) < count:
        raise DsamlError(
            f"{data.root}: its test part has {len(test)} songs with audio and {seconds:g} s of labels, the study needs "
            f"{count}; take fewer (--songs) or a shorter excerpt (--seconds)"
        )
    drawn = np.random.default_rng(seed).permutation(test)[: max(0, count - len(named))].tolist()
    return [*named, *drawn][:count]


def new(
    folder: Path,
    kind: str,
    source: Source,
    checkpoint: Path,
    fourth: Path | None,
    count: int,
    named: Sequence[str],
    participants: int,
    seconds: float,
    seed: int,
) -> Design:
    """Write a study into a new folder: ``design.json`` and ``audio/``; whole, or not at all.

    Parameters
    ----------
    kind : str
        ``STUDY`` or ``CLASS``.
    checkpoint : Path
        A low-rank model.
    fourth : Path or None
        A model whose curve is the fourth; None: the light model shifted.
    count, named
        Songs to rank, in a class one to be predicted, beside the one to draw; those wanted by their ids, the one to draw first.
    participants, seconds, seed
        How many; of each song; of songs and orders.

    Raises
    ------
    DsamlError
        If the folder holds anything, or data set, songs or models cannot be used.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DsamlError(f"{folder}: not an empty folder; give a new one, so that no answers are lost")
    began, model = time.perf_counter(), load_low_rank(checkpoint)
    data = source.load()
    model = dataclasses.replace(model, profile=with_label_start(model.profile, data))
    steps, audio = round(seconds / STEP_SECONDS), model.profile.audio
    chosen = choose_songs(data, 1 + count, steps, seed, named)
    paths = {song: data.songs[song].audio for song in chosen}
    told = page.for_page(model, paths, steps)
    other = load(fourth) if fourth else None
    methods = [TRUTH, PERSONAL, NOBODY, fourth.stem if fourth else SHIFTED]
    songs = []
    for k, song in enumerate(chosen):
        truth = data.mean[song].values[:steps]
        if np.abs(truth).max() > 1:
            raise DsamlError(f"{data.root}: labels of song {song} reach beyond [-1, 1]; a study needs that scale")
        entry = {"song_id": song, "audio": f"{k}.mp3", **told["songs"][song], "truth": rounded(truth, DIGITS), "fourth": None}
        if other and k:
            predicted = other.predict(paths[song], start=audio.label_start)[["arousal", "valence"]].to_numpy()[:steps]
            if len(predicted) < steps:
                raise DsamlError(f"{paths[song]}: too short for the fourth curve; take a shorter excerpt (--seconds)")
            entry["fourth"] = rounded(predicted.clip(-1, 1), DIGITS)
        songs.append(entry)
    document = {
        "kind": kind,
        "seed": seed,
        "seconds": steps * STEP_SECONDS,
        "step": STEP_SECONDS,
        "start": audio.label_start,
        "origin": told["origin"],
        "light": {name: told[name] for name in ("noise", "calibration")},
        "songs": songs,
        "methods": methods,
        "orders": [*map(dataclasses.asdict, make_orders(participants, count, len(methods), seed))],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        (Path(made) / AUDIO).mkdir()
        for k, song in enumerate(chosen):
            encode(Path(made) / AUDIO / f"{k}.mp3", *excerpt(paths[song], audio.label_start, steps * STEP_SECONDS))
        stamp = provenance(model.profile, data, seeds=[seed], seconds=time.perf_counter() - began)
        write_result(Path(made) / FILE, document, stamp)
        folder.mkdir(exist_ok=True)
        for name in (AUDIO, FILE):  # the file last: a folder without it is no study
            (Path(made) / name).rename(folder / name)
    return read(folder)


def read(folder: Path) -> Design:
    """The study in a folder; a DsamlError if there is none, or it is damaged."""
    file = folder / FILE
    if not file.is_file():
        raise DsamlError(f"{folder}: holds no study; 'python -m dsaml study new {folder}' makes one")
    document = read_result(file)
    try:
        songs = tuple(
            StudySong(
                song["song_id"],
                song["audio"],
                Terms.of(song),
                np.array(song["truth"], float),
                None if song["fourth"] is None else np.array(song["fourth"], float),
            )
            for song in document["songs"]
        )
        orders = tuple(Order(tuple(o["songs"]), tuple(map(tuple, o["shown"]))) for o in document["orders"])
        plain = {name: document[name] for name in ("kind", "seconds", "step", "start", "origin", "light")}
        noise, methods = np.array(document["light"]["noise"], float), tuple(document["methods"])
        return Design(folder, **plain, noise=noise, songs=songs, methods=methods, orders=orders)
    except (KeyError, TypeError, ValueError) as error:
        raise DsamlError(f"{file}: not a design of this version ({error}); make a new one with 'study new'") from error
