"""A design as ``study new`` writes it: songs, curves equal to the model's, balanced orders, bad requests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from typer.testing import CliRunner

from dsaml.arena.base import ArenaConfig, Backbone
from dsaml.arena.low_rank import LowRank
from dsaml.cli.main import app
from dsaml.config import DEMO
from dsaml.errors import DsamlError
from dsaml.listen.curves import write_curve
from dsaml.listen.light import LightModel
from dsaml.study import design

STEPS, RATE = 12, 22_050
BASE = "--dataset folder --root data --checkpoint m.safetensors --seconds 6"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of six songs and two people, and an untrained model that hears differences."""
    root, rng = tmp_path_factory.mktemp("design"), np.random.default_rng(0)
    (root / "data").mkdir()
    time = np.arange(23 * RATE) / RATE
    rows = []
    for k in range(6):
        sound = 0.3 * (0.5 + 0.45 * np.sin(time / (k + 1.5))) * np.sin((220 + 60 * k) * time) + 0.003 * rng.normal(
            size=len(time)
        )
        sf.write(root / f"data/s{k}.flac", sound, RATE)
        rows += [(f"s{k}", who, t, np.sin(t + k) * 0.5, 0.1 * j) for j, who in enumerate("ab") for t in range(15, 23)]
    pd.DataFrame(rows, columns=["song_id", "annotator_id", "time_s", "arousal", "valence"]).to_csv(
        root / "data/annotations.csv", index=False
    )
    split = {"train": ["s0"], "validation": ["s1"], "test": ["s2", "s3", "s4", "s5"]}
    (root / "data/splits.json").write_text(json.dumps({"songs": split}))
    torch.manual_seed(0)
    config = ArenaConfig(width=16)
    method = LowRank(Backbone(128, config), config).eval()
    scale = torch.stack((torch.full((128,), -6.0), torch.ones(128)))
    about = {"dataset": "synthetic", "profile": "demo", "real": False, "seeds": [0]}
    LightModel(method, scale, DEMO, about, "the model").save(root / "m.safetensors")
    return root


def run(place: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """A command in this folder."""
    monkeypatch.chdir(place)
    return CliRunner().invoke(app, line.split())


def test_what_study_new_writes_and_the_model_says_are_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Personalized curves from the folder alone equal those of personalize and predict."""
    done = run(place, f"study new own {BASE} --songs 3 --participants 5 --seed 3", monkeypatch)
    assert done.exit_code == 0, done.output
    assert "trained on synthetic songs" in done.output
    made = design.read(place / "own")
    assert {song.song_id for song in made.songs} == {"s2", "s3", "s4", "s5"} and len(made.orders) == 5
    time = 15 + np.arange(STEPS) / 2
    drawn = np.round(np.stack([1.2 * np.sin(time), 0.5 * np.cos(time) - 0.3], 1).clip(-1, 1), 4)
    write_curve(place / "c.csv", pd.DataFrame({"time_s": time, "arousal": drawn[:, 0], "valence": drawn[:, 1]}))
    from dsaml.listen.personal import load

    model, path = load(place / "m.safetensors"), place / "data"
    own = model.personalize(path / f"{made.songs[0].song_id}.flac", place / "c.csv")
    for song in made.songs[1:]:
        truth, personal, nobody, shifted = made.curves(song, drawn)
        for mine, theirs in ((personal, own), (nobody, model)):
            expected = theirs.predict(path / f"{song.song_id}.flac", start=15.0)[["arousal", "valence"]].to_numpy()[
                :STEPS
            ]
            assert np.abs(mine - expected).max() < 1e-4
        assert np.allclose(truth[:, 1], 0.05) and np.abs(personal - nobody).max() > 0.05
        assert np.allclose((shifted - nobody)[np.abs(shifted).max(1) < 1].mean(0), (drawn - made.initial).mean(0))
    length = sf.info(place / "own/audio/0.mp3").duration
    assert length == pytest.approx(6, abs=0.1)


def test_orders_are_balanced_blinded_and_follow_the_seed() -> None:
    square = design.williams(4)
    pairs = {(row[k], row[k + 1]) for row in square.tolist() for k in range(3)}
    assert len(pairs) == 12 and (np.sort(square, 0) == np.arange(4)[:, None]).all()
    orders = design.make_orders(22, 8, 4, seed=1)
    assert orders == design.make_orders(22, 8, 4, seed=1) != design.make_orders(22, 8, 4, seed=2)
    for order in orders:
        assert sorted(order.songs) == list(range(1, 9))
        for letter in range(4):  # each method twice behind each letter
            assert sorted(shown[letter] for shown in order.shown) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len({order.songs for order in orders}) > 15 and len({order.shown for order in orders}) > 15


def test_a_class_and_a_fourth_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(place, f"study new lesson {BASE} --kind class --participants 3 --song s0", monkeypatch)
    assert done.exit_code == 0, done.output
    made = design.read(place / "lesson")
    assert made.kind == "class" and len(made.songs) == 2 and made.songs[0].song_id == "s0"
    done = run(place, f"study new other {BASE} --songs 1 --participants 3 --fourth m.safetensors", monkeypatch)
    assert done.exit_code == 0, done.output
    made = design.read(place / "other")
    curves = made.curves(made.songs[1], np.zeros((STEPS, 2)))
    assert made.methods[3] == "m" and np.allclose(curves[3], curves[2], atol=1e-3)  # the same model


@pytest.mark.parametrize(
    "options, says",
    [
        ("data", "not an empty folder"),
        ("new --songs 9", "its test part has 4 songs"),
        ("new --seconds 60", "its test part has 0 songs"),
        ("new --song s9", "--song s9"),
        ("new --song s2 --song s2", "named twice"),
        ("new --checkpoint none.safetensors", "none.safetensors"),
        ("new --root nowhere", "nowhere"),
        ("m.safetensors", "not a folder"),
    ],
)
def test_what_cannot_be_designed_gets_one_sentence_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, options: str, says: str
) -> None:
    before = sorted(place.iterdir())
    folder, _, rest = options.partition(" ")
    done = run(place, f"study new {folder} {BASE} --songs 3 {rest}", monkeypatch)
    assert isinstance(done.exception, DsamlError) and says in str(done.exception)
    assert sorted(place.iterdir()) == before
