"""Everybody's curves on one page for the class: how they differ, how far they agree, and what predicts a person."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dsaml.config import DIMENSIONS, STEP_SECONDS
from dsaml.errors import DsamlError
from dsaml.evaluate.metrics import ccc, rmse
from dsaml.io import write_bytes_atomically
from dsaml.listen import page
from dsaml.listen.curves import SHORTEST, read_curve, require_scale
from dsaml.listen.front import data_url
from dsaml.listen.light import LightModel
from dsaml.plots import study as figures
from dsaml.study.classroom import agreement, spread_of
from dsaml.study.listener import Terms, adapt

GENERATOR = "dsaml study collect"
"""What a page says that made it."""
_NAME = re.compile(r"(?P<who>.+?)-of-(?P<song>.+?)(?P<copy> ?\(\d+\))?")
ANONYMOUS = "my-curve"  # what the drawing page calls everybody
OTHERS, CONSTANT = "average of the others", "the others' mean value (constant)"
OWN = "the person's own mean so far (constant)"
NOBODY, SHIFTED = "model for nobody in particular", "model, shifted to the person's mean"
PERSONAL = "model, personalized"


@dataclass
class AnnotatedSong:
    """A song's curves on one grid; NaN where a person said nothing."""

    name: str
    times: np.ndarray  # (T,), s
    people: dict[str, np.ndarray]  # (T, 2) each
    terms: Terms | None = None  # of the light model, where the audio was given
    rest: dict[str, np.ndarray] = field(default_factory=dict)  # of each person the mean (T, 2) of all others


def named(path: Path, only: str | None = None) -> tuple[str, str]:
    """Who drew which song, from a file's name ``WHO-of-SONG.csv``; who saved it as ``my-curve-of-…`` is called after the folder.

    ``only`` is the song of files that name none.
    """
    found = _NAME.fullmatch(path.stem)
    if not found:
        return path.stem, only or "the song"
    who = found["who"].removesuffix("-curve") if found["who"] != ANONYMOUS else path.resolve().parent.name
    return f"{who}{(found['copy'] or '').replace(' ', '')}", found["song"]


def read_songs(files: Iterable[Path], only: str | None = None) -> dict[str, AnnotatedSong]:
    """The curves of all files by song, brought to 2 Hz.

    Raises
    ------
    DsamlError
        If a file holds no curve in [-1, 1] of 5 s or more, two are of one person and song, or a song has one person only.
    """
    read: dict[str, dict[str, Any]] = {}
    for path in files:
        curve, (who, song) = read_curve(path), named(path, only)
        require_scale(path, curve)
        if curve.time_s.iloc[-1] - curve.time_s.iloc[0] < (SHORTEST - 1) * STEP_SECONDS:
            raise DsamlError(f"{path}: covers less than {SHORTEST * STEP_SECONDS:g} s; draw more of the song")
        if who in read.setdefault(song, {}):
            raise DsamlError(f"{path}: the second curve of song {song} by '{who}'; name the files WHO-of-SONG.csv")
        read[song][who] = curve
    if lonely := [song for song, people in read.items() if len(people) < 2]:
        raise DsamlError(f"song {lonely[0]}: one curve only; a class has two or more")
    songs = {}
    for name, curves in sorted(read.items()):
        first, last = min(c.time_s.iloc[0] for c in curves.values()), max(c.time_s.iloc[-1] for c in curves.values())
        times = first + STEP_SECONDS * np.arange(int((last - first) / STEP_SECONDS + 1e-6) + 1)
        people = {
            who: np.stack([np.interp(times, c.time_s, c[d], left=np.nan, right=np.nan) for d in DIMENSIONS], 1)
            for who, c in sorted(curves.items())
        }
        songs[name] = AnnotatedSong(name, times, people)
        for who in people:
            songs[name].rest[who] = spread_of(np.array([values for other, values in people.items() if other != who]))[0]
    return songs


def with_model(songs: Mapping[str, AnnotatedSong], model: LightModel, audio: Mapping[str, Path]) -> tuple[str, np.ndarray]:
    """Give songs the terms of a light model; gives what it was trained on, and its noise (2,).

    Raises
    ------
    DsamlError
        If audio is of no song that was drawn, or too short.
    """
    if unknown := [name for name in audio if name not in songs]:
        raise DsamlError(f"{audio[unknown[0]]}: nobody drew a song '{unknown[0]}'; the audio's name has to be the song's")
    told: dict[str, Any] = {}
    for name, path in audio.items():
        told = page.for_page(model, {name: path}, len(songs[name].times), float(songs[name].times[0]))
        songs[name].terms = Terms(*(np.array(told["songs"][name][part], float) for part in ("base", "basis")))
    return str(told["origin"]), np.array(told["noise"], float)


def _fit(known: Sequence[tuple[Terms, np.ndarray]], noise: np.ndarray) -> np.ndarray:
    """Who drew these curves, w (2, R)."""
    every = Terms(*(np.concatenate([getattr(terms, part) for terms, _ in known]) for part in ("base", "basis")))
    return adapt(every, noise, np.concatenate([curve for _, curve in known]))


def predictions(songs: Mapping[str, AnnotatedSong], noise: np.ndarray | None) -> tuple[str, list[dict[str, Any]]]:
    """What comes near each person's curves, and how near.

    Where somebody drew several songs, each one is asked for, given the person's others; else the second half of the one song,
    given its first half. Nothing that is asked for is known to any row.

    Returns
    -------
    str
        What was given, in words.
    list of dict
        Of each row: ``name``, ``ccc`` and ``rmse`` (arousal, valence; means over people and songs), ``cases``.
    """
    several = {who for song in songs.values() for who in song.people}
    several = {who for who in several if sum(who in song.people for song in songs.values()) > 1}
    rows: dict[str, list[np.ndarray]] = {}
    for song in songs.values():
        for who, curve in song.people.items():
            if several and who not in several:
                continue
            asked = np.isfinite(curve).all(1) & np.isfinite(song.rest[who]).all(1)
            given = [other for other in songs.values() if other is not song and who in other.people]
            own = [other.people[who] for other in given]
            known = [(other.terms, other.people[who]) for other in given if other.terms is not None]
            if not several:
                half = np.arange(len(curve)) < np.flatnonzero(asked).mean() if asked.any() else asked
                asked, before = asked & ~half, np.where(half[:, None], curve, np.nan)
                own, known = [before], [(song.terms, before)] if song.terms is not None else []
            if asked.sum() < SHORTEST // 2 or not np.isfinite(np.concatenate(own)).any():
                continue
            said = {
                OTHERS: song.rest[who],
                CONSTANT: np.broadcast_to(np.nanmean(song.rest[who], 0), curve.shape),
                OWN: np.broadcast_to(np.nanmean(np.concatenate(own), 0), curve.shape),
            }
            if noise is not None and song.terms is not None and known:
                nobody = np.tanh(song.terms.base)
                shift = np.nanmean(np.concatenate([curve - np.tanh(terms.base) for terms, curve in known]), 0)
                said |= {NOBODY: nobody, SHIFTED: (nobody + shift).clip(-1, 1)}
                said[PERSONAL] = song.terms.curve(_fit(known, noise))
            for name, values in said.items():
                scores = np.array([score(values[asked].T, curve[asked].T) for score in (ccc, rmse)])  # (2, 2)
                rows.setdefault(name, []).append(scores)
    protocol = "each person's other songs" if several else "the first half of the song; asked is the second"
    found = [
        {"name": name, "ccc": np.mean(cells, 0)[0].tolist(), "rmse": np.mean(cells, 0)[1].tolist(), "cases": len(cells)}
        for name, cells in rows.items()
    ]
    return protocol, found


def _picture(figure: Figure) -> str:
    """A figure as an address that holds it."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    plt.close(figure)
    return data_url(content.getvalue(), "image/svg+xml")


def make_page(songs: Mapping[str, AnnotatedSong], noise: np.ndarray | None = None, origin: str | None = None) -> str:
    """The page: everything inside, nothing fetched."""
    shown = []
    for song in songs.values():
        curves = np.array(list(song.people.values()))
        mean, sd = spread_of(curves)
        common = agreement(curves)
        far = {who: float(rmse(*_both(song.people[who], song.rest[who]))) for who in song.people}
        numbers = [
            ("people", [str(len(curves))] * 2),
            ("agreement: mean CCC of two people", [f"{value:.2f}" if value is not None else "–" for value in common]),
            ("disagreement: SD over people, mean over time", [f"{np.nanmean(sd[:, d]):.2f}" for d in range(2)]),
            ("level: lowest and highest person's mean", [_range(np.nanmean(curves[..., d], 1)) for d in range(2)]),
        ]
        words = f"Song {song.name}, arousal and valence: the curves of {len(curves)} people, their average and standard deviation."
        picture = _picture(figures.class_curves(song.times, curves, mean, sd))
        people = sorted(far.items(), key=lambda item: item[1])
        shown.append({"name": song.name, "picture": picture, "alt": words, "numbers": numbers, "people": people})
    protocol, rows = predictions(songs, noise)
    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here / "pages"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    style = (here / "static/study.css").read_text(encoding="utf-8")
    values = {"songs": shown, "protocol": protocol, "rows": rows, "origin": origin, "style": style}
    values |= {"generator": GENERATOR, "personal": PERSONAL, "others": OTHERS, "dimensions": DIMENSIONS}
    return environment.get_template("collect.html").render(**values)


def _both(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two curves (T, 2) where both say something, flat."""
    there = np.isfinite(a) & np.isfinite(b)
    return (a[there], b[there]) if there.any() else (np.zeros(1), np.full(1, 2.0))  # nothing in common: as far as can be


def _range(values: np.ndarray) -> str:
    return f"{np.nanmin(values):+.2f} to {np.nanmax(values):+.2f}"


def collect(
    files: Sequence[Path], out: Path, model: LightModel | None = None, audio: Sequence[Path] = ()
) -> dict[str, AnnotatedSong]:
    """Write the page of a class.

    Parameters
    ----------
    files : sequence of Path
        Curves as the drawing page, ``annotate`` and ``study export`` save them; see :func:`named`.
    out : Path
        The page (HTML).
    audio : sequence of Path
        Songs for the model, each named as in the curves' files.

    Raises
    ------
    DsamlError
        See :func:`read_songs` and :func:`with_model`.
    """
    songs = read_songs(files, audio[0].stem if len(audio) == 1 else None)
    noise = origin = None
    if model is not None and audio:
        origin, noise = with_model(songs, model, {path.stem: path for path in audio})
    write_bytes_atomically(out, make_page(songs, noise, origin).encode())
    return songs
