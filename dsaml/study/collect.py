"""Everybody's curves on one page for the class: how they differ, how far they agree, and what predicts a person."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np

from dsaml.config import DIMENSIONS, STEP_SECONDS
from dsaml.errors import DsamlError
from dsaml.evaluate.metrics import ccc, rmse
from dsaml.io import write_bytes_atomically
from dsaml.listen import page
from dsaml.listen.curves import SHORTEST, read_curve
from dsaml.listen.front import data_url
from dsaml.listen.light import LightModel
from dsaml.listen.page import Terms
from dsaml.plots import study as figures
from dsaml.study.classroom import agreement, spread_of

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
    rest: dict[str, np.ndarray]  # of each person the mean (T, 2) of all others
    terms: Terms | None = None  # of the light model, where the audio was given


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

    A DsamlError if one is no curve, two are of one person and song, or a song has one person only.
    """
    read: dict[str, dict[str, Any]] = {}
    for path in files:
        curve, (who, song) = read_curve(path), named(path, only)
        if who in read.setdefault(song, {}):
            raise DsamlError(f"{path}: the second curve of song {song} by '{who}'; name the files WHO-of-SONG.csv")
        read[song][who] = curve
    if lonely := [song for song, people in read.items() if len(people) < 2]:
        raise DsamlError(f"song {lonely[0]}: one curve only; a class has two or more")
    songs = {}
    for name, curves in sorted(read.items()):
        ends = [(curve.time_s.iloc[0], curve.time_s.iloc[-1]) for curve in curves.values()]
        first, last = min(ends)[0], max(last for _, last in ends)
        times = first + STEP_SECONDS * np.arange(int((last - first) / STEP_SECONDS + 1e-6) + 1)
        people = {
            who: np.stack([np.interp(times, c.time_s, c[d], left=np.nan, right=np.nan) for d in DIMENSIONS], 1)
            for who, c in sorted(curves.items())
        }
        rest = {who: spread_of(np.array([people[other] for other in people if other != who]))[0] for who in people}
        songs[name] = AnnotatedSong(name, times, people, rest)
    return songs


def with_model(songs: Mapping[str, AnnotatedSong], model: LightModel, audio: Mapping[str, Path]) -> tuple[str, np.ndarray]:
    """Give songs the terms of a light model; gives what it was trained on, and its noise (2,).

    A DsamlError if nobody drew the song.
    """
    if unknown := [name for name in audio if name not in songs]:
        raise DsamlError(f"{audio[unknown[0]]}: nobody drew a song '{unknown[0]}'; the audio's name has to be the song's")
    told: dict[str, Any] = {}
    for name, path in audio.items():
        told = page.for_page(model, {name: path}, len(songs[name].times), float(songs[name].times[0]))
        songs[name].terms = Terms.of(told["songs"][name])
    return str(told["origin"]), np.array(told["noise"], float)


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
    drew = Counter(who for song in songs.values() for who in song.people)
    several = max(drew.values()) > 1
    rows: dict[str, list[np.ndarray]] = {}
    for song in songs.values():
        for who, curve in song.people.items():
            asked = np.isfinite(curve).all(1) & np.isfinite(song.rest[who]).all(1)
            given = [(other.terms, other.people[who]) for other in songs.values() if other is not song and who in other.people]
            if not several:
                half = np.arange(len(curve)) < np.flatnonzero(asked).mean() if asked.any() else asked
                asked, given = asked & ~half, [(song.terms, np.where(half[:, None], curve, np.nan))]
            if asked.sum() < SHORTEST // 2 or not any(np.isfinite(drawn).any() for _, drawn in given):
                continue
            said = {
                OTHERS: song.rest[who],
                CONSTANT: np.broadcast_to(np.nanmean(song.rest[who], 0), curve.shape),
                OWN: np.broadcast_to(np.nanmean(np.concatenate([drawn for _, drawn in given]), 0), curve.shape),
            }
            known = [(terms, drawn) for terms, drawn in given if terms is not None]
            if song.terms is not None and known:
                heard, drawn = Terms.together([terms for terms, _ in known]), np.concatenate([drawn for _, drawn in known])
                said |= zip((NOBODY, SHIFTED, PERSONAL), song.terms.predictions(heard, noise, drawn), strict=True)
            for name, values in said.items():
                scores = np.array([score(values[asked].T, curve[asked].T) for score in (ccc, rmse)])  # (2, 2)
                rows.setdefault(name, []).append(scores)
    protocol = "each person's other songs" if several else "the first half of the song; asked is the second"
    means = {name: np.mean(cells, 0).tolist() for name, cells in rows.items()}
    return protocol, [{"name": name, "ccc": c, "rmse": e, "cases": len(rows[name])} for name, (c, e) in means.items()]


def make_page(songs: Mapping[str, AnnotatedSong], noise: np.ndarray | None = None, origin: str | None = None) -> str:
    """The page: everything inside, nothing fetched."""
    shown = []
    for song in songs.values():
        curves = np.array(list(song.people.values()))
        mean, sd = spread_of(curves)
        common = agreement(curves)
        far = {who: _apart(curve, song.rest[who]) for who, curve in song.people.items()}
        numbers = [
            ("people", [str(len(curves))] * 2),
            ("agreement: mean CCC of two people", [f"{value:.2f}" if value is not None else "–" for value in common]),
            ("disagreement: SD over people, mean over time", [f"{np.nanmean(sd[:, d]):.2f}" for d in range(2)]),
            ("level: lowest and highest person's mean", [_range(np.nanmean(curves[..., d], 1)) for d in range(2)]),
        ]
        words = f"Song {song.name}, arousal and valence: the curves of {len(curves)} people, their average and standard deviation."
        figure, content = figures.class_curves(song.times, curves, mean, sd), io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
        plt.close(figure)
        picture = data_url(content.getvalue(), "image/svg+xml")
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


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """RMSE of two curves (T, 2) where both say something; without anything in common as large as can be."""
    there = np.isfinite(a) & np.isfinite(b)
    return float(rmse(a[there], b[there])) if there.any() else 2.0


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
