"""The light model in use: from a file and one's own curves to predictions for one's own music."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from typer.testing import CliRunner

import dsaml
from dsaml.arena.base import ArenaConfig, Backbone
from dsaml.arena.low_rank import LowRank
from dsaml.cli import common
from dsaml.cli.main import app
from dsaml.config import DEMO
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_model
from dsaml.io import pack_tensors, read_tensors
from dsaml.listen.light import LightModel
from dsaml.listen.personal import DEMO_MODEL

INPUTS = 128  # 64 bands, mean and deviation


@pytest.fixture
def model() -> LightModel:
    """Untrained, but it hears differences."""
    torch.manual_seed(0)
    config = ArenaConfig(width=16)
    method = LowRank(Backbone(INPUTS, config), config).eval()
    scale = torch.stack((torch.full((INPUTS,), -6.0), torch.ones(INPUTS)))
    return LightModel(method, scale, DEMO, {"dataset": "synthetic"}, "the model")


@pytest.fixture
def folder(tmp_path):
    """Three songs of 30 s that swell at different paces, and the curve of somebody who likes it loud."""
    rng = np.random.default_rng(0)
    time = np.arange(30 * 22_050) / 22_050
    for k in range(3):
        loud = 0.5 + 0.45 * np.sin(time / (k + 1.5))
        sf.write(
            tmp_path / f"{k}.wav",
            0.3 * loud * np.sin((220 + 60 * k) * time) + 0.003 * rng.normal(size=len(time)),
            22_050,
        )
        seconds = np.arange(0.0, 29.5, 0.5)
        curve = {
            "time_s": seconds,
            "arousal": np.sin(seconds / (k + 1.5)) / 2,
            "valence": np.sin(seconds / (k + 1.5)) / 3,
        }
        pd.DataFrame(curve).to_csv(tmp_path / f"{k}.csv", index=False)
    return tmp_path


def test_what_a_song_taught_comes_back_from_the_file(model, folder):
    own = model.personalize(folder / "0.wav", folder / "0.csv")
    assert own.about["after"] < own.about["before"]
    assert model.listener is None
    own.save(folder / "mine.safetensors")
    again = dsaml.load(folder / "mine.safetensors")
    pd.testing.assert_frame_equal(again.predict(folder / "1.wav"), own.predict(folder / "1.wav"))
    assert not np.allclose(own.predict(folder / "1.wav").arousal, model.predict(folder / "1.wav").arousal)
    assert again.about == own.about and again.about["personalized_on"] == ["0.wav"]


def test_a_curve_has_a_step_every_half_second_and_stays_on_the_scale(model, folder):
    curve = model.predict(folder / "0.wav", start=2.0)
    assert list(curve.columns) == ["time_s", "arousal", "valence"]
    assert curve.time_s.iloc[0] == 2.0 and np.allclose(np.diff(curve.time_s), 0.5) and len(curve) == 56
    assert curve[["arousal", "valence"]].abs().to_numpy().max() <= 1


def test_several_songs_are_judged_on_what_was_left_out(model, folder):
    songs, curves = ([folder / f"{k}.{kind}" for k in range(3)] for kind in ("wav", "csv"))
    own = model.personalize(songs, curves)
    left = own.about["left_out"]
    assert set(left) == {"personal", "nobody", "shift"}
    errors = []
    for k in range(3):  # by hand: personalize on the two others, ask about this one
        others = [j for j in range(3) if j != k]
        without = model.personalize([songs[j] for j in others], [curves[j] for j in others])
        asked, said = without.predict(songs[k]), pd.read_csv(curves[k])
        difference = asked[["arousal", "valence"]].to_numpy()[: len(said)] - said[["arousal", "valence"]].to_numpy()
        errors.append(np.sqrt(np.square(difference).mean()))
    assert left["personal"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_songs_and_curves_come_in_pairs(model, folder):
    with pytest.raises(DsamlError, match="one --curve for each --song"):
        model.personalize([folder / "0.wav", folder / "1.wav"], folder / "0.csv")


@pytest.mark.parametrize(
    "change",
    [
        lambda t, h: h.update(config=json.dumps(json.loads(h["config"]) | {"width": 10**6})),
        lambda t, h: h.update(config="[]"),
        lambda t, h: h.update(about="3"),
        lambda t, h: t.pop("method.noise"),
        lambda t, h: t.update(scale=torch.zeros(2, 7)),
        lambda t, h: t.pop("scale"),
        lambda t, h: t.update({"listener.w": torch.zeros(1, 2, 9)}),
        lambda t, h: t.update({"other.w": torch.zeros(1)}),
    ],
)
def test_a_file_that_fits_nothing_is_refused_in_one_sentence(model, folder, change):
    model.personalize(folder / "0.wav", folder / "0.csv").save(folder / "mine.safetensors")
    tensors, header = read_tensors(folder / "mine.safetensors")
    change(tensors, header)
    (folder / "mine.safetensors").write_bytes(pack_tensors(tensors, header))
    with pytest.raises(DsamlError, match=r"mine\.safetensors") as caught:
        dsaml.load(folder / "mine.safetensors")
    assert len(str(caught.value).splitlines()) == 1


def test_the_demo_model_is_asked_for_by_name(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DsamlError, match="make book"):
        dsaml.load("demo")
    (tmp_path / "models").mkdir()
    model.save(tmp_path / "models/demo.safetensors")
    assert dsaml.load().about == {"dataset": "synthetic"}


def test_own_music_from_the_command_line(folder, monkeypatch, model):
    """predict and personalize need no model named; everything says what the model has heard."""
    monkeypatch.chdir(folder)
    stamped = dataclasses.replace(model, about={"dataset": "synthetic", "profile": "demo", "real": False})
    DEMO_MODEL.parent.mkdir()
    stamped.save(DEMO_MODEL)
    run = CliRunner().invoke(app, ["predict", "1.wav"])
    assert run.exit_code == 0, run.output
    assert "never heard real music" in run.output and ("pleasant" in run.output)
    assert len(pd.read_csv("1.curve.csv")) == 60
    pairs = [text for k in "01" for text in ("--song", f"{k}.wav", "--curve", f"{k}.csv")]
    run = CliRunner().invoke(app, ["personalize", *pairs, "--out", "mine.safetensors"])
    assert run.exit_code == 0, run.output
    assert "left out" in run.output and "never heard real music" in run.output
    run = CliRunner().invoke(app, ["predict", "2.wav", "--checkpoint", "mine.safetensors"])
    assert run.exit_code == 0, run.output
    assert "never heard real music" in run.output


def test_both_names_of_the_demo_model_are_one():
    assert common.DEMO_MODEL == DEMO_MODEL


def test_a_light_model_is_not_taken_for_dsaml(model, folder):
    model.save(folder / "light.safetensors")
    with pytest.raises(DsamlError, match="low-rank"):
        load_model(folder / "light.safetensors")
