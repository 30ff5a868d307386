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
from dsaml.arena.inputs import slice_statistics
from dsaml.arena.low_rank import LowRank
from dsaml.audio.recording import load_waveform
from dsaml.audio.slices import log_mel_slices
from dsaml.cli.main import app
from dsaml.config import DEMO
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_model
from dsaml.io import KEY, pack_tensors, read_header, read_tensors
from dsaml.listen import DEMO_MODEL
from dsaml.listen.curves import warning
from dsaml.listen.light import Familiar, LightModel

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


def saved(model: LightModel, folder) -> LightModel:
    """The same, from a file."""
    model.save(folder / "base.safetensors")
    return dsaml.load(folder / "base.safetensors")


def test_what_a_song_taught_comes_back_from_the_file(model, folder):
    own = model.personalize(folder / "0.wav", folder / "0.csv")
    assert own.about["after"] < own.about["before"]
    assert model.listener is None
    with pytest.raises(DsamlError, match="is in no file"):
        own.save(folder / "mine.safetensors")
    own = saved(model, folder).personalize(folder / "0.wav", folder / "0.csv")
    own.save(folder / "mine.safetensors")
    again = dsaml.load(folder / "mine.safetensors")
    pd.testing.assert_frame_equal(again.predict(folder / "1.wav"), own.predict(folder / "1.wav"))
    assert not np.allclose(own.predict(folder / "1.wav").arousal, model.predict(folder / "1.wav").arousal)
    assert again.about == own.about and again.about["personalized_on"] == ["0.wav"]


def test_a_curve_has_a_step_every_half_second_and_stays_on_the_scale(model, folder):
    curve = model.predict(folder / "0.wav", start=2.0)
    assert list(curve.columns) == ["arousal", "valence", "arousal_sd", "valence_sd"] and curve.index.name == "time_s"
    assert curve.index[0] == 2.0 and np.allclose(np.diff(curve.index), 0.5) and len(curve) == 56
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
        lambda t, h: t.update({"familiar.songs": torch.zeros(3, 9)}),
        lambda t, h: t.update({"familiar.limit": torch.zeros(2)}),
        lambda t, h: t.update({"familiar.songs": torch.zeros(3, INPUTS)}),
        lambda t, h: t.update({"other.w": torch.zeros(1)}),
    ],
)
def test_a_file_that_fits_nothing_is_refused_in_one_sentence(model, folder, change):
    saved(model, folder)
    refused(folder, "base", change)


def refused(folder, name, change):
    tensors, header = read_tensors(folder / f"{name}.safetensors")
    change(tensors, header)
    (folder / f"{name}.safetensors").write_bytes(pack_tensors(tensors, header))
    with pytest.raises(DsamlError, match=rf"{name}\.safetensors") as caught:
        dsaml.load(folder / f"{name}.safetensors")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda t, h: t.update(w=torch.zeros(1, 2, 9)),
        lambda t, h: t.pop("factor"),
        lambda t, h: h.update(about="[]"),
        lambda t, h: h.update(base=""),
        lambda t, h: h.update(base="mine.safetensors"),
        lambda t, h: h.update(base_sha256="0" * 64),
        lambda t, h: h.pop("base_sha256"),
    ],
)
def test_a_personal_file_that_fits_nothing_is_refused_in_one_sentence(model, folder, change):
    saved(model, folder).personalize(folder / "0.wav", folder / "0.csv").save(folder / "mine.safetensors")
    refused(folder, "mine", change)


def test_a_personal_file_holds_the_person_and_finds_its_base_by_digest(model, folder, monkeypatch):
    monkeypatch.chdir(folder)
    own = saved(model, folder).personalize("0.wav", "0.csv")
    (folder / "people").mkdir()
    own.save("people/mine.safetensors")
    tensors, header = read_tensors(folder / "people/mine.safetensors")
    assert set(tensors) == {"w", "factor"} and header["base"] == "../base.safetensors"
    assert header["base_sha256"] == read_header(folder / "base.safetensors")[KEY]
    expected = own.predict("1.wav")
    pd.testing.assert_frame_equal(dsaml.load("people/mine.safetensors").predict("1.wav"), expected)
    twice = dsaml.load("people/mine.safetensors").personalize("1.wav", "1.csv")  # its base is still nobody's model
    twice.save("people/twice.safetensors")
    assert read_tensors(folder / "people/twice.safetensors")[1]["base"] == "../base.safetensors"
    (folder / "base.safetensors").rename(folder / "people/base.safetensors")  # moved together
    pd.testing.assert_frame_equal(dsaml.load("people/mine.safetensors").predict("1.wav"), expected)
    dataclasses.replace(model, about={"dataset": "another"}).save("people/base.safetensors")
    with pytest.raises(DsamlError, match="which has changed; personalize again"):
        dsaml.load("people/mine.safetensors")
    (folder / "people/base.safetensors").unlink()
    with pytest.raises(DsamlError, match=r"its base base\.safetensors .* is not there; put it beside"):
        dsaml.load("people/mine.safetensors")


def test_a_personal_model_is_surer_than_one_for_nobody_and_says_how_sure(model, folder):
    nobody = model.predict(folder / "1.wav")
    own = model.personalize([folder / "0.wav", folder / "2.wav"], [folder / "0.csv", folder / "2.csv"])
    mine = own.predict(folder / "1.wav")
    assert (mine.arousal_sd < nobody.arousal_sd).all() and (mine.valence_sd < nobody.valence_sd).all()
    assert (mine.arousal_sd > 0).all()
    assert len(mine.loc[5:9.5]) == 10  # seconds, as an index has them


def test_all_that_was_drawn_counts(model, tmp_path):
    """A curve of a minute teaches more than its first half."""
    time = np.arange(61 * 22_050) / 22_050
    sf.write(tmp_path / "long.wav", 0.3 * np.sin(time / 2) * np.sin(300 * time), 22_050)
    seconds = np.arange(0, 60, 0.5)
    curve = pd.DataFrame({"time_s": seconds, "arousal": np.sin(seconds / 2) / 2, "valence": 0.1})
    curve.to_csv(tmp_path / "long.csv", index=False)
    own = model.personalize(tmp_path / "long.wav", tmp_path / "long.csv")
    assert own.about["steps"] == 120
    curve[:60].to_csv(tmp_path / "half.csv", index=False)
    half = model.personalize(tmp_path / "long.wav", tmp_path / "half.csv")
    spread = [who.predict(tmp_path / "long.wav").arousal_sd.mean() for who in (own, half)]
    assert spread[0] < spread[1]


def test_a_song_unlike_the_training_songs_is_named_with_its_distance(model, folder):
    known = torch.stack([model._inputs(folder / f"{k}.wav", DEMO.audio, None)[:20] for k in range(3)])
    model = dataclasses.replace(model, familiar=Familiar.of(known))
    places = known.mean(1)
    apart = [min(float((places[a] - places[b]).square().mean().sqrt()) for b in range(3) if b != a) for a in range(3)]
    assert float(model.familiar.limit) == pytest.approx(np.quantile(apart, 0.95), rel=1e-5)
    again = saved(model, folder)
    sf.write(folder / "silence.wav", np.zeros(20 * 22_050), 22_050)
    assert warning(again.predict(folder / "1.wav")) is None
    said = warning(again.predict(folder / "silence.wav"))
    assert said.startswith("silence.wav: unlike anything in the training data (distance ") and "95% of those" in said
    assert warning(saved(dataclasses.replace(model, familiar=None), folder).predict(folder / "silence.wav")) is None


def test_minutes_of_a_long_song_are_what_the_whole_is(model, folder):
    """The statistics of a song in parts are those of the whole."""
    rng = np.random.default_rng(1)
    sf.write(folder / "long.wav", 0.1 * rng.normal(size=150 * 22_050), 22_050)
    whole = slice_statistics(log_mel_slices(load_waveform(folder / "long.wav", 44_100), DEMO.audio, 270))
    parts = model._inputs(folder / "long.wav", DEMO.audio, None)
    assert torch.allclose(parts, (whole - model.scale[0]) / model.scale[1], atol=1e-5)


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


def test_a_model_that_believes_nothing_of_one_song_says_so(folder, monkeypatch, model):
    monkeypatch.chdir(folder)
    model.method.belief[0] = 0.0
    still = dataclasses.replace(model, about={"real": True, "dataset": "vgmidi", "belief": model.method.belief.tolist()})
    still.save("base.safetensors")
    pair = ["--song", "0.wav", "--curve", "0.csv", "--checkpoint", "base.safetensors"]
    run = CliRunner().invoke(app, ["personalize", *pair, "--out", "mine.safetensors"])
    assert run.exit_code == 0, run.output
    assert "in arousal one song of a person told nothing of the next" in run.output.replace("\n", " ")
    nobody, mine = (dsaml.load(f"{name}.safetensors").predict("1.wav") for name in ("base", "mine"))
    assert nobody.arousal.equals(mine.arousal) and not nobody.valence.equals(mine.valence)


def test_a_light_model_is_not_taken_for_dsaml(model, folder):
    model.save(folder / "light.safetensors")
    with pytest.raises(DsamlError, match="low-rank"):
        load_model(folder / "light.safetensors")
