"""predict: several songs at once, every form of output, and what has to be said in all of them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from own_music import at_home, write_curve, write_song
from typer.testing import CliRunner, Result

import dsaml
from dsaml.cli.main import app
from dsaml.errors import DsamlError
from dsaml.listen.curves import LEGEND, quadrant
from dsaml.listen.front import inline

SAYS = "trained on synthetic songs and listeners"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two songs in a folder, one beside it, and the demo's model, untrained."""
    at_home(tmp_path, monkeypatch)
    write_song(tmp_path / "album/a.wav", 12)
    write_song(tmp_path / "album/b.flac", 9, pace=3)
    (tmp_path / "album/cover.jpg").write_bytes(b"no song")
    write_song(tmp_path / "c.wav", 12, pace=2)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["predict", *arguments])


def test_a_folder_and_a_file_at_once_and_everything_says_what_it_is(folder: Path) -> None:
    done = run("album", "c.wav", "--out", "curves", "--plot", "--html")
    assert done.exit_code == 0, done.output
    names = {f"{name}.curve.{ending}" for name in "abc" for ending in ("csv", "png", "html")}
    assert {file.name for file in (folder / "curves").iterdir()} == names
    assert SAYS in done.output and LEGEND in done.output and done.output.count("on the whole") == 3
    table = pd.read_csv(folder / "curves/a.curve.csv")
    assert list(table.columns) == ["time_s", "arousal", "valence", "arousal_sd", "valence_sd", "quadrant", "model"]
    assert set(table.model) == {SAYS} and len(table) == 24
    assert [quadrant(a, v) for a, v in zip(table.arousal, table.valence, strict=True)] == list(table.quadrant)
    expected = dsaml.load("demo").predict("album/a.wav")
    assert np.allclose(table[list(expected)], expected, atol=1e-4) and expected.attrs["model"] == SAYS
    again = run("album", "c.wav", "--out", "curves", "--plot", "--html")
    assert again.exit_code == 0, again.output  # its own files may be replaced


def test_a_json_file_explains_itself(folder: Path) -> None:
    assert run("c.wav", "--format", "json").exit_code == 0
    found = json.loads((folder / "c.curve.json").read_text())
    assert found["model"] == SAYS and found["song"] == "c.wav" and found["scale"]["valence"] == "-1 unpleasant, +1 pleasant"
    assert found["distance"] > 0 and found["usual_distance"] > 0 and found["uncertainty"].startswith("standard deviation")
    lengths = {len(found[name]) for name in ("time_s", "arousal", "valence", "arousal_sd", "valence_sd")}
    assert lengths == {24} and "pleasant and" in found["quadrant"]


def test_a_jams_file_keeps_the_published_schema(folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema, which comes with the book's packages, is not installed")
    assert run("c.wav", "--format", "jams", "--start", "2").exit_code == 0
    found = json.loads((folder / "c.curve.jams").read_text())
    number, text, thing = {"type": "number", "minimum": 0}, {"type": "string"}, {"type": "object"}
    value = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}  # of mood_thayer: (valence, arousal)
    observed = {"time": number, "duration": number, "value": value, "confidence": {}}
    curator = {"type": "object", "properties": {"name": text, "email": text}, "required": ["name", "email"]}
    told = dict.fromkeys(("corpus", "annotation_tools", "annotation_rules", "validation", "data_source"), text)
    metadata = {"type": "object", "properties": told | {"curator": curator, "annotator": thing, "version": text}}
    annotation = {
        "type": "object",
        "required": ["annotation_metadata", "data", "namespace"],
        "properties": {
            "annotation_metadata": metadata | {"additionalProperties": False},
            "data": {"type": "array", "items": {"type": "object", "properties": observed, "required": list(observed)}},
            "namespace": {"const": "mood_thayer"},
            "sandbox": thing,
            "time": number,
            "duration": number,
        },
        "additionalProperties": False,
    }
    song = dict.fromkeys(("title", "artist", "release", "jams_version"), text) | {"duration": number, "identifiers": thing}
    schema = {
        "type": "object",
        "properties": {
            "file_metadata": {"type": "object", "properties": song, "additionalProperties": False},
            "annotations": {"type": "array", "items": annotation, "minItems": 1},
            "sandbox": thing,
        },
        "additionalProperties": False,
    }
    jsonschema.validate(found, schema)
    curve, [one] = dsaml.load("demo").predict("c.wav", start=2.0), found["annotations"]
    assert np.allclose([point["value"] for point in one["data"]], curve[["valence", "arousal"]], atol=1e-4)
    assert [point["time"] for point in one["data"]] == curve.index.tolist() and one["time"] == 2.0
    assert one["time"] + one["duration"] == found["file_metadata"]["duration"] == 12.0
    assert SAYS in one["annotation_metadata"]["data_source"] and len(one["sandbox"]["arousal_sd"]) == len(curve)


def test_a_page_holds_everything_and_fetches_nothing(folder: Path) -> None:
    odd = "</script><b>&.wav"
    (folder / "c.wav").rename(folder / "odd.wav")
    assert run("odd.wav", "--html").exit_code == 0
    page = (folder / "odd.curve.html").read_text()
    assert SAYS in page and "dsaml-song" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")  # the name of a kind of elements
    data = json.loads(re.search(r"window\.dsamlPlayer = (.*);</script>", page)[1])
    curve = dsaml.load("demo").predict("odd.wav")
    assert np.allclose(data["songs"][0]["values"], curve[["arousal", "valence"]], atol=1e-4)
    assert np.allclose(data["songs"][0]["sd"], curve[["arousal_sd", "valence_sd"]], atol=1e-4)
    sound = base64.b64decode(data["songs"][0]["audio"].removeprefix("data:audio/mpeg;base64,"))
    assert abs(sf.info(io.BytesIO(sound)).duration - 12) < 0.2
    assert "</script><b>" not in inline(odd, "", {"songs": [{"title": odd}]}, ())


def test_one_bad_song_does_not_stop_the_others(folder: Path) -> None:
    (folder / "album/bad.mp3").write_bytes(b"no sound")
    (folder / "album/phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    done = run("album")
    assert isinstance(done.exception, DsamlError) and str(done.exception).startswith("2 of 4 songs were not predicted")
    assert "bad.mp3: cannot be decoded" in done.output and "ffmpeg -i phone.m4a phone.wav" in done.output
    assert (folder / "a.curve.csv").exists() and (folder / "b.curve.csv").exists() and SAYS in done.output


def test_two_songs_of_one_name_are_refused_before_anything_is_written(folder: Path) -> None:
    write_song(folder / "album/c.wav", 6)
    done = run("album", "c.wav")
    assert isinstance(done.exception, DsamlError) and "two of the songs would be written to it" in str(done.exception)
    assert not list(folder.glob("*.csv"))


def test_an_empty_folder_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    done = run("empty")
    assert isinstance(done.exception, DsamlError) and "no song in this folder" in str(done.exception)


def test_a_drawn_curve_a_picture_and_a_page_of_somebody_else_are_not_replaced(folder: Path) -> None:
    write_curve(folder / "drawn.csv")
    pd.read_csv(folder / "drawn.csv").to_csv(folder / "c.curve.csv", index=False, float_format="%.4f")  # as the page saves one
    assert "add --force" in str(run("c.wav").exception)
    for ending in ("png", "html", "json", "jams"):
        (folder / f"d.curve.{ending}").write_text('{"mine": 1}')
    (folder / "c.wav").rename(folder / "d.wav")
    for option in (["--plot"], ["--html"], ["--format", "json"], ["--format", "jams"]):
        assert "add --force" in str(run("d.wav", *option).exception), option
    assert not (folder / "d.curve.csv").exists()


def test_an_unfamiliar_song_is_warned_of_on_the_screen_and_in_the_files(folder: Path) -> None:
    sf.write(folder / "silence.wav", np.zeros(8 * 22_050), 22_050)
    done = run("silence.wav", "--format", "json")
    assert done.exit_code == 0 and "warning: silence.wav: unlike anything in the training data" in done.output
    assert "unlike anything" in json.loads((folder / "silence.curve.json").read_text())["warning"]
