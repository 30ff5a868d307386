"""Prediction and personalization of single files, through the commands."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from second_device import second_device
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.config import DEMO, ModelConfig
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import load_model, read_profile, save_model
from dsaml.io import read_tensors
from dsaml.listen.curves import read_curve
from dsaml.listen.personal import load
from dsaml.model.dsaml import DSAML

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
    assert list(curve.columns) == ["time_s", "arousal", "valence", "quadrant", "model"]  # DSAML knows no variance
    assert len(curve) == 140 and np.allclose(np.diff(curve.time_s), 0.5)
    assert np.isfinite(curve[["arousal", "valence"]].to_numpy()).all()


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
    assert load(folder / "mine.safetensors").about["personalized_on"] == ["song.wav"]
    changed, header = read_tensors(folder / "mine.safetensors")
    assert 0 < len(changed) < len(load_model(folder / "base.safetensors")[0].state_dict())  # the adapter stays
    assert header["base"] == "base.safetensors"
    with pytest.raises(DsamlError, match="personal model, which predict and personalize take"):
        load_model(folder / "mine.safetensors")


def test_a_saved_model_comes_back_the_same(folder):
    model, profile, about = load_model(folder / "base.safetensors")
    assert profile == PROFILE and about == {"note": "untrained"} and not model.training
    torch.manual_seed(0)
    for name, tensor in DSAML(PROFILE.model).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_model_from_before_embeddings_were_a_setting_has_them_by_length(folder):
    fields = json.loads(json.dumps(dataclasses.asdict(PROFILE)))
    assert fields.pop("embeddings") == "by-length" and read_profile(fields) == PROFILE


def test_a_model_hears_embeddings_as_its_profile_says(folder):
    model, lengths = load(folder / "base.safetensors"), {}
    for name in ("by-length", "song", "step"):
        own = dataclasses.replace(model, profile=dataclasses.replace(PROFILE, embeddings=name))
        heard = own._heard(folder / "song.wav", PROFILE.audio)
        lengths[name] = len(heard.global_embedding)
    steps = len(heard.log_mel)
    assert steps > 60 and lengths == {"by-length": steps, "song": 1, "step": steps}


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


def _points(first, last):
    seconds = np.arange(first, last, 0.5) if last > first else [first]
    return "time_s,arousal,valence\n" + "".join(f"{t},0,0\n" for t in seconds)


@pytest.mark.parametrize(
    "content, words",
    [
        ("time_s,arousal\n15,0", "no column valence"),
        ("time_s,arousal,valence\n15,0,0\n15.5,x,0", "line 3"),
        ("time_s,arousal,valence\n15,0,0\n15,0,0", "line 3"),
        ("time_s,arousal,valence\n15,0,0\n16,0,0", "annotate at least 5 s"),
        ("time_s,arousal,valence\n5,3,7\n6,4,5", r"beyond \[-1, 1\]"),
        (_points(60, 95), "the audio lasts 70.0 s"),
        (_points(1e300, 1e300), "annotate at least 5 s"),
        ("time_s,arousal,valence\n5,0,0\n30,0,0", "line 3: 25 s after the line before it, which is more than 2 s"),
        (_points(5, 25) + _points(45, 60).partition("\n")[2], "20.5 s after the line before it"),
        ("time_s,arousal,valence\n-5,0,0\n-4,0,0", "line 2: the time -5 s is before the song"),
        ("time_s,arousal,valence\nnan,0,0", "line 2 holds something that is no number"),
        ("time_s,arousal,valence\ninf,0,0", "line 2 holds something that is no number"),
        ("time_s,arousal,valence\n0,5,0.1,0.2\n1,6,0.1,0.2", "line 2 has 4 fields, the first line has 3 names"),
        ("time_s,arousal,valence\n5,0", "line 2 has 2 fields"),
        ("time_s,arousal,valence,valence\n5,0,0,1", "two columns valence"),
        ("time_s,arousal,valence\n", "holds no points"),
        ("", "no column time_s"),
    ],
)
def test_a_bad_curve_gets_one_sentence(folder, content, words):
    (folder / "bad.csv").write_text(content)
    with pytest.raises(DsamlError, match=words):
        load(folder / "base.safetensors").personalize(folder / "song.wav", folder / "bad.csv")


def test_columns_are_found_by_name_and_a_larger_gap_can_be_allowed(folder):
    text = "valence,comment,time_s,arousal\n0.3,a,5,0.1\n0.2,b,6,0.2\n\n0.1,c,11,0.3\n"
    (folder / "c.csv").write_text("\ufeff" + text, encoding="utf-8")
    curve = read_curve(folder / "c.csv", largest_gap=5.0)
    assert curve.to_numpy().tolist() == [[5, 0.1, 0.3], [6, 0.2, 0.2], [11, 0.3, 0.1]]
    with pytest.raises(DsamlError, match="line 5: 5 s after the line before it, which is more than 2 s"):
        read_curve(folder / "c.csv")


@pytest.mark.parametrize("start", ["-5", "nan", "inf", "-inf", "1e300", "70"])
def test_a_start_outside_the_song_is_refused(folder, start):
    done = CliRunner().invoke(app, _predict_line(folder, f"--start={start}"))
    assert isinstance(done.exception, DsamlError) and not (folder / "p.csv").exists()


def _predict_line(folder, *more):
    return [
        "predict",
        str(folder / "song.wav"),
        f"--checkpoint={folder}/base.safetensors",
        f"--out={folder}/p.csv",
        *more,
    ]


def test_every_flipped_byte_of_a_model_is_noticed(folder):
    good = (folder / "base.safetensors").read_bytes()
    for place in np.random.default_rng(0).integers(0, len(good), 60):
        bad = bytearray(good)
        bad[place] ^= 1 << int(place) % 8
        (folder / "bad.safetensors").write_bytes(bad)
        with pytest.raises(DsamlError, match=r"bad\.safetensors: not a model of this package"):
            load_model(folder / "bad.safetensors")


def test_a_model_that_gives_no_numbers_writes_nothing(folder):
    model, profile, about = load_model(folder / "base.safetensors")
    with torch.no_grad():
        model.predictor.output.bias.fill_(float("nan"))
    save_model(folder / "base.safetensors", model, profile, about)
    done = _run(*_predict_line(folder))
    assert isinstance(done.exception, DsamlError) and "no numbers" in str(done.exception)
    files = (
        "--song",
        folder / "song.wav",
        "--curve",
        folder / "curve.csv",
        "--checkpoint",
        folder / "base.safetensors",
    )
    done = _run("personalize", *files, "--out", folder / "mine.safetensors")
    assert isinstance(done.exception, DsamlError) and "no numbers" in str(done.exception)
    assert not (folder / "p.csv").exists() and not (folder / "mine.safetensors").exists()


def test_a_model_on_another_device_gives_the_same_curves(folder):
    curves = {}
    for where in ("cpu", "another"):
        with second_device() if where == "another" else nullcontext("cpu") as device:
            model = load(folder / "base.safetensors", device=device)
            own = model.personalize(folder / "song.wav", folder / "curve.csv")
            own.save(folder / f"{where}.safetensors")
            curves[where] = [m.predict(folder / "song.wav", 40.0).to_numpy() for m in (model, own)]
    for one, other in zip(*curves.values(), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)
    assert np.abs(curves["cpu"][0] - curves["cpu"][1]).max() > 1e-3  # personalizing changes it
    weights = [load(folder / f"{where}.safetensors").model.state_dict() for where in curves]
    assert all(torch.allclose(tensor, weights[1][name], atol=1e-4) for name, tensor in weights[0].items())
