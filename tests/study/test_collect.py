"""A class's curves on one page: numbers by hand, names, what a model adds, bad files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsaml.errors import DsamlError
from dsaml.listen.curves import write_curve
from dsaml.listen.page import Terms
from dsaml.study import collect
from dsaml.study.classroom import agreement, spread_of

TIMES = 15 + np.arange(24) / 2


def save(path: Path, arousal: np.ndarray, valence: np.ndarray, times: np.ndarray = TIMES) -> Path:
    """A curve as the drawing page saves it."""
    path.parent.mkdir(exist_ok=True)
    write_curve(path, pd.DataFrame({"time_s": times, "arousal": arousal, "valence": valence}))
    return path


def wave(pace: float, level: float = 0.0) -> np.ndarray:
    return 0.4 * np.sin(TIMES / pace) + level


def test_a_page_of_three_people(tmp_path: Path) -> None:
    files = [
        save(tmp_path / f"{who}-of-7.csv", wave(2, 0.2 * k), wave(3)) for k, who in enumerate(("anna", "ben", "<b>eve"))
    ]
    songs = collect.collect(files, tmp_path / "class.html")
    song = songs["7"]
    assert list(song.people) == ["<b>eve", "anna", "ben"]
    assert np.allclose(song.rest["anna"][:, 0], wave(2, 0.3), atol=1e-3)
    mean, sd = spread_of(np.array(list(song.people.values())))
    assert np.allclose(mean[:, 0], wave(2, 0.2), atol=1e-3) and np.allclose(sd, [[0.2, 0.0]], atol=1e-3)
    page = (tmp_path / "class.html").read_text()
    assert "&lt;b&gt;eve" in page and "<b>eve" not in page and not re.search("(src|href)=.https?:", page)
    assert page.count("<img ") == 1 and "three" not in page and "SD over people" in page
    protocol, rows = collect.predictions(songs, None)
    found = {row["name"]: row for row in rows}
    assert "first half" in protocol and found[collect.OTHERS]["ccc"][1] == pytest.approx(1, abs=1e-3)
    assert found[collect.OTHERS]["rmse"][0] == pytest.approx((0.3 + 0.0 + 0.3) / 3, abs=1e-3)
    assert found[collect.CONSTANT]["ccc"] == [0, 0] and collect.PERSONAL not in found


def test_agreement_is_the_mean_over_pairs_of_what_both_drew() -> None:
    a = np.stack([wave(2), wave(2)], 1)
    b, c = a.copy(), -a
    c[:, 1] = np.nan
    b[5:, 1] = np.nan
    found = agreement(np.stack([a, b, c]))
    assert found[0] == pytest.approx((1 - 1 - 1) / 3, abs=0.05) and found[1] == pytest.approx(1)
    assert agreement(a[None]) == [None, None]


def test_a_model_is_asked_about_other_songs_and_learns_who_drew(tmp_path: Path) -> None:
    """Two songs of people who are exactly what the model says: personalized it is nearest to them."""
    rng = np.random.default_rng(0)
    terms = {name: Terms(0.3 * rng.normal(size=(24, 2)), rng.normal(size=(24, 2, 5))) for name in ("x", "y")}
    files = []
    for who in range(4):
        w = 0.4 * rng.normal(size=(2, 5))
        for name, of_song in terms.items():
            files.append(save(tmp_path / f"p{who}-of-{name}.csv", *of_song.curve(w).clip(-0.97, 0.97).T))
    songs = collect.read_songs(files)
    for name, song in songs.items():
        song.terms = terms[name]
    protocol, rows = collect.predictions(songs, np.array([0.1, 0.1]))
    error = {row["name"]: np.mean(row["rmse"]) for row in rows}
    assert "other songs" in protocol and {row["cases"] for row in rows} == {8}
    assert error[collect.PERSONAL] < 0.1 < min(error[name] for name in error if name != collect.PERSONAL)
    page = collect.make_page(songs, np.array([0.1, 0.1]), "trained on synthetic songs and listeners")
    assert "trained on synthetic songs and listeners" in page and page.count("<img ") == 2
    half, rows = collect.predictions({"x": songs["x"]}, np.array([0.1, 0.1]))
    error = {row["name"]: np.mean(row["rmse"]) for row in rows}
    assert "first half" in half and min(error, key=error.__getitem__) == collect.PERSONAL


@pytest.mark.parametrize(
    "name, expected",
    [
        ("anna-of-2003.csv", ("anna", "2003")),
        ("anna-curve-of-2003.csv", ("anna", "2003")),
        ("class/my-curve-of-2003.csv", ("class", "2003")),
        ("class/my-curve-of-2003 (4).csv", ("class(4)", "2003")),
        ("P01-of-song-0.csv", ("P01", "song-0")),
        ("anna.csv", ("anna", "the song")),
    ],
)
def test_who_and_which_song_stand_in_the_name(name: str, expected: tuple[str, str]) -> None:
    assert collect.named(Path(name)) == expected


def test_bad_files_get_one_sentence(tmp_path: Path) -> None:
    good, other = (save(tmp_path / f"{who}-of-7.csv", wave(2), wave(3)) for who in ("anna", "ben"))
    short = save(tmp_path / "eve-of-7.csv", wave(2)[:5], wave(3)[:5], TIMES[:5])
    far = save(tmp_path / "far-of-7.csv", wave(2) + 5, wave(3))
    again = save(tmp_path / "other/anna-of-7.csv", wave(2), wave(3))
    for files, says in (
        ([good], "one curve only"),
        ([good, short], "at least 5 s"),
        ([good, far], "beyond"),
        ([good, again], "second curve of song 7 by 'anna'"),
        ([good, tmp_path / "none.csv"], "none.csv"),
    ):
        with pytest.raises(DsamlError, match=re.escape(says)):
            collect.collect(files, tmp_path / "class.html")
    assert not (tmp_path / "class.html").exists()
    with pytest.raises(DsamlError, match="nobody drew a song 'x'"):
        collect.with_model(collect.read_songs([good, other]), None, {"x": tmp_path / "x.mp3"})  # type: ignore[arg-type]
