"""What a profile can be changed to on the command line, and a checkpoint of the released code on its way to a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from released_names import released_state
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.config import DEMO, PAPER, ModelConfig, adjusted, released
from dsaml.errors import DsamlError
from dsaml.experiment import grid, reproduce, workflow
from dsaml.experiment.model_files import load_model
from dsaml.experiment.prepare import Source
from dsaml.model.dsaml import DSAML


class Called(Exception):
    """Stands for the work behind a command."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, ...]]:
    """What the commands pass on."""
    seen: list[tuple[Any, ...]] = []

    def note(*arguments: Any, **named: Any) -> None:
        seen.append((*arguments, *named.values()))
        raise Called

    for module, name in ((reproduce, "reproduce"), (workflow, "train"), (workflow, "evaluate"), (grid, "run_grid")):
        monkeypatch.setattr(module, name, note)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.chdir(tmp_path)
    return seen


def run(line: str) -> Any:
    return CliRunner().invoke(app, line.split())


@pytest.mark.parametrize(
    "line, profile, folder, device",
    [
        ("reproduce all", DEMO, "demo", "cuda"),
        ("reproduce all --profile paper --encoder mel --steps 3", adjusted(PAPER, "mel", steps=3), "paper-mel-3-steps", "cuda"),
        ("reproduce all --variant released --device cpu", adjusted(DEMO, variant="released"), "demo-released", "cpu"),
        ("reproduce table1 --dataset deam --root x --profile paper", PAPER, "paper-deam", "cuda"),
        ("reproduce table1 table2 --profile paper-mel", adjusted(PAPER, "mel"), "paper-mel", "cuda"),
    ],
)
def test_any_profile_data_set_encoder_and_device(called, line: str, profile, folder: str, device: str) -> None:
    assert isinstance(run(f"{line} --imagebind w.pth").exception, Called)
    what, found, source, _, results = called[0]
    assert what == line.split(" --")[0].split()[1:]
    assert (found, results, source.device, source.imagebind) == (profile, Path("results") / folder, device, Path("w.pth"))
    assert source.dataset == ("deam" if "deam" in line else "synthetic")


def test_train_takes_the_same(called) -> None:
    line = "train --dataset deam --root x --out m.safetensors --profile paper --variant released --encoder imagebind-44k --steps 9"
    assert isinstance(run(line).exception, Called)
    profile, source, *_ = called[0]
    assert profile == adjusted(PAPER, "imagebind-44k", "released", 9) and profile.model == released(PAPER.model)
    assert source == Source("deam", Path("x"), device="cuda")


def test_evaluate_names_protocol_windows_and_device(called) -> None:
    line = "evaluate --checkpoint m.safetensors --dataset deam --root x --out r.json"
    assert isinstance(run(line).exception, Called) and (*called[0][3:], called[0][1].device) == ("cross-song", False, "cuda")
    line += " --protocol prefix --released-windows --device cpu"
    assert isinstance(run(line).exception, Called) and (*called[1][3:], called[1][1].device) == ("prefix", True, "cpu")


def test_a_grid_has_its_device(called, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("datasets: [{name: deam, root: DEAM}]\nprofiles: [demo, paper-mel-3-steps]\n")
    assert isinstance(run("grid grid.yaml --device cuda").exception, Called)
    assert [(run.profile, run.source.device) for run in called[0][0]] == [("demo", "cuda"), ("paper-mel-3-steps", "cuda")]


@pytest.mark.parametrize("command", ["evaluate --dataset deam --root x", "predict s.wav", "personalize --song s --curve c"])
def test_a_device_that_is_not_there_is_one_sentence(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(f"{command} --checkpoint m.safetensors --out out --device abacus")
    assert isinstance(done.exception, DsamlError) and "device 'abacus' is not known" in str(done.exception)


def test_a_released_checkpoint_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    theirs = DSAML(released(ModelConfig(dim=16, heads=4, layers=1, feed_forward=8, max_positions=64))).eval()
    torch.save(released_state(theirs), "epoch_1.pt")
    done = run("import-released epoch_1.pt m.safetensors --encoder mel")
    assert done.exit_code == 0 and "profile paper-mel-released, D = 16" in done.output
    model, profile, about = load_model(tmp_path / "m.safetensors")
    assert profile.model == theirs.config and about["released_checkpoint"] == "epoch_1.pt" and len(about["sha256"]) == 64
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    sf.write("song.wav", 0.1 * np.sin(np.arange(6 * 22_050) / 30), 22_050)
    done = run("predict song.wav --checkpoint m.safetensors --out p.csv --device cpu")
    assert done.exit_code == 0 and "12 steps" in done.output
    refused = run("import-released epoch_1.pt song.wav")
    assert isinstance(refused.exception, DsamlError) and "add --force" in str(refused.exception)
    refused = run("import-released song.wav n.safetensors")
    assert isinstance(refused.exception, DsamlError) and str(refused.exception).startswith("song.wav: ")
    torch.save({"a": torch.zeros(1)}, "other.pt")
    refused = run("import-released other.pt n.safetensors")
    assert isinstance(refused.exception, DsamlError) and str(refused.exception).startswith("other.pt: released weights: no ")
