"""Prediction and personalization of single files, through the commands."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from typer.testing import CliRunner

from dsaml.__main__ import app
from dsaml.config import DEMO, ModelConfig
from dsaml.errors import DsamlError
from dsaml.export import load_model, save_model
from dsaml.model import DSAML

PROFILE = dataclasses.replace(DEMO, model=ModelConfig(dim=16, heads=2, layers=1, feed_forward=16, slice_shape=(13, 64)))


@pytest.fixture
def folder(tmp_path):
    """A song of 70 s, a curve of 20 s of it, an untrained model."""
    rng = np.random.default_rng(0)
    time = np.arange(70 * 22_050) / 22_050
    sf.write(
        tmp_path / "song.wav", (0.2 * np.sin(440 * time) * np.sin(time) + 0.01 * rng.normal(size=len(time))), 22_050
    )
    seconds = np.arange(5.0, 25.0, 0.25)
    curve = pd.DataFrame({"time_s": seconds, "arousal": np.sin(seconds) / 2, "valence": np.full(len(seconds), 0.3)})
    curve.to_csv(tmp_path / "curve.csv", index=False)
    torch.manual_seed(0)
    save_model(tmp_path / "base.safetensors", DSAML(PROFILE.model), PROFILE, {"note": "untrained"})
    return tmp_path


def _run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _predict(folder, model, out):
    done = _run("predict", folder / "song.wav", "--checkpoint", folder / model, "--out", folder / out)
    assert done.exit_code == 0, done.output
    return pd.read_csv(folder / out)


def test_predict_gives_a_step_every_half_second(folder):
    curve = _predict(folder, "base.safetensors", "p.csv")
    assert list(curve.columns) == ["time_s", "arousal", "valence"]
    assert len(curve) == 140 and np.allclose(np.diff(curve.time_s), 0.5)
    assert np.isfinite(curve.to_numpy()).all()


def test_personalizing_fits_the_annotated_song_and_leaves_the_base_as_it_was(folder):
    before = (folder / "base.safetensors").read_bytes()
    arguments = (
        "--song",
        folder / "song.wav",
        "--curve",
        folder / "curve.csv",
        "--checkpoint",
        folder / "base.safetensors",
    )
    done = _run("personalize", *arguments, "--out", folder / "mine.safetensors")
    assert done.exit_code == 0, done.output
    assert (folder / "base.safetensors").read_bytes() == before
    base, mine = _predict(folder, "base.safetensors", "a.csv"), _predict(folder, "mine.safetensors", "b.csv")
    own = (base.time_s >= 5) & (base.time_s < 25)
    assert (mine.valence[own] - 0.3).abs().mean() < (base.valence[own] - 0.3).abs().mean()
    assert load_model(folder / "mine.safetensors")[2]["personalized_on"] == "song.wav"


def test_a_saved_model_comes_back_the_same(folder):
    model, profile, about = load_model(folder / "base.safetensors")
    assert profile == PROFILE and about == {"note": "untrained"} and not model.training
    torch.manual_seed(0)
    for name, tensor in DSAML(PROFILE.model).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


@pytest.mark.parametrize("damage", ["missing", "text", "truncated", "other tensors"])
def test_a_bad_model_file_gets_one_sentence(folder, damage):
    path = folder / "bad.safetensors"
    if damage == "text":
        path.write_text("hello")
    if damage == "truncated":
        path.write_bytes((folder / "base.safetensors").read_bytes()[:300])
    if damage == "other tensors":
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DsamlError, match=r"bad\.safetensors"):
        load_model(path)


@pytest.mark.parametrize(
    "content, words",
    [
        ("time_s,arousal\n15,0", "no column valence"),
        ("time_s,arousal,valence\n15,0,0\n15.5,x,0", "line 3"),
        ("time_s,arousal,valence\n15,0,0\n15,0,0", "line 3"),
        ("time_s,arousal,valence\n15,0,0\n16,0,0", "annotate at least 5 s"),
        ("time_s,arousal,valence\n5,3,7\n35,4,5", r"beyond \[-1, 1\]"),
        ("time_s,arousal,valence\n60,0,0\n95,0,0", "the audio lasts 70.0 s"),
    ],
)
def test_a_bad_curve_gets_one_sentence(folder, content, words):
    from dsaml.personal import personalize_file
    from dsaml.workflow import encoder_factory

    (folder / "bad.csv").write_text(content)
    with pytest.raises(DsamlError, match=words):
        personalize_file(
            folder / "song.wav",
            folder / "bad.csv",
            folder / "base.safetensors",
            folder / "x.safetensors",
            encoder_factory(None),
        )
    assert not (folder / "x.safetensors").exists()
