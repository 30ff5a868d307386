"""Outputs: asked for before any work; never an input, never somebody else's file."""

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from conftest import MODEL
from typer.testing import CliRunner

from dsaml.cli.main import app
from dsaml.cli.outputs import check_folder, check_output, check_results, holds_json, holds_model, holds_prediction
from dsaml.config import DEMO
from dsaml.errors import DsamlError
from dsaml.experiment.model_files import save_model
from dsaml.experiment.results import provenance, write_result
from dsaml.model.dsaml import DSAML


@pytest.fixture
def folder(tmp_path):
    """What a user has: a song, a curve, a model, a thesis, a data set."""
    (tmp_path / "song.wav").write_bytes(b"RIFF, the only copy")
    (tmp_path / "curve.csv").write_text("time_s,arousal,valence\n5.0000,0.1000,0.2000\n")  # as the page saves one
    (tmp_path / "thesis.docx").write_bytes(b"three years of work")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "annotations.csv").write_text("mine")
    (tmp_path / "answers.csv").write_text("participant_id,song_id,dimension,method,rank\nP01,s,arousal,A,1\n")
    save_model(tmp_path / "base.safetensors", DSAML(MODEL), DEMO, {})
    write_result(tmp_path / "r.json", {}, provenance(DEMO, None, seeds=[0], seconds=1.0, real=False))
    (tmp_path / "link.safetensors").symlink_to("base.safetensors")
    os.link(tmp_path / "song.wav", tmp_path / "again.wav")
    (tmp_path / "grid.yaml").write_text("datasets: [{name: folder, root: data}]\n")
    return tmp_path


def _hashes(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


PREDICT = "predict song.wav --checkpoint base.safetensors --out {}"
PERSONALIZE = "personalize --song song.wav --curve curve.csv --checkpoint base.safetensors --out {}"
TRAIN = "train --dataset folder --root data --out {}"
EVALUATE = "evaluate --checkpoint base.safetensors --dataset folder --root data --out {}"
REFUSED = [  # command line, what is said
    (PREDICT.format("song.wav --force"), "is an input"),
    (PREDICT.format("again.wav --force"), "is an input"),  # a hard link
    (PREDICT.format("base.safetensors --force"), "is an input"),
    (PREDICT.format("link.safetensors --force"), "is an input"),
    (PREDICT.format("thesis.docx"), "add --force"),
    (PREDICT.format("curve.csv"), "add --force"),  # drawn by a person, not predicted
    (PREDICT.format("/dev/null --force"), "is a device"),
    (PREDICT.format("data --force"), "is a folder"),
    (PREDICT.format("thesis.docx/p.csv"), "cannot be written"),
    (PERSONALIZE.format("base.safetensors --force"), "is an input"),
    (PERSONALIZE.format("link.safetensors --force"), "is an input"),
    (PERSONALIZE.format("curve.csv --force"), "is an input"),
    (PERSONALIZE.format("thesis.docx"), "add --force"),
    (TRAIN.format("thesis.docx"), "add --force"),
    (TRAIN.format("data/annotations.csv --force"), "which this command reads"),
    (TRAIN.format("thesis.docx/m.safetensors"), "cannot be written"),
    (TRAIN.format("m.safetensors --cache thesis.docx"), "is a file, not a folder"),
    (TRAIN.format("m.safetensors --logs thesis.docx"), "is a file, not a folder"),
    (EVALUATE.format("base.safetensors --force"), "is an input"),
    (EVALUATE.format("thesis.docx"), "add --force"),
    (EVALUATE.format("thesis.docx/r.json"), "cannot be written"),
    ("features --dataset folder --root data --cache thesis.docx", "is a file, not a folder"),
    ("floors --dataset folder --root data --save thesis.docx", "is not what this command writes"),
    ("floors --dataset folder --root data --save r.json", "is not what this command writes"),
    ("grid grid.yaml --out thesis.docx", "cannot be written"),
    ("reproduce table1 --results thesis.docx", "is a file, not a folder"),
    ("study template answers.csv", "add --force"),
    ("study simulate --curves r.json --out answers.csv", "add --force"),
    ("study simulate --curves r.json --out r.json --force", "is an input"),
    ("study analyse answers.csv --json answers.csv --force", "is an input"),
    ("study analyse answers.csv --json r.json", "add --force"),
    ("imagebind-audio base.safetensors link.safetensors --force", "is an input"),
    ("imagebind-audio base.safetensors thesis.docx", "add --force"),
    ("import-released base.safetensors link.safetensors --force", "is an input"),
    ("import-released song.wav thesis.docx", "add --force"),
    ("bench --out thesis.docx", "cannot be written"),
]


@pytest.mark.parametrize("line, words", REFUSED)
def test_a_command_asks_before_it_works(line, words, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = _hashes(folder)
    done = CliRunner().invoke(app, line.split())
    assert isinstance(done.exception, DsamlError), done.output
    assert words in str(done.exception) and _hashes(folder) == before


def test_what_a_command_wrote_itself_may_be_replaced(folder):
    own = folder / "p.csv"
    tail = "pleasant and calm,trained on synthetic songs and listeners\n"
    own.write_text(f"time_s,arousal,valence,quadrant,model\n0.0000,0.1000,-0.2000,{tail}0.5000,0.1000,-0.2000,{tail}")
    check_output(own, holds_prediction)
    spread = f"time_s,arousal,valence,arousal_sd,valence_sd,quadrant,model\n0.0000,0.1000,-0.2000,0.1000,0.1000,{tail}"
    (folder / "sd.csv").write_text(spread)
    check_output(folder / "sd.csv", holds_prediction)
    check_output(folder / "base.safetensors", holds_model)
    check_output(folder / "r.json", holds_json("provenance"), (folder, None))
    check_output(folder / "new" / "deep" / "x.csv", holds_prediction)
    (folder / "empty").touch()
    check_output(folder / "empty", holds_model)
    check_output(folder / "thesis.docx", force=True)
    assert not (folder / "new").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"[]", b"\x00" * 9, b'{"a": 1}', b"\xff" * 64])
def test_foreign_bytes_are_nobodys_output(content, folder):
    (folder / "x").write_bytes(content)
    for kind in (holds_model, holds_prediction, holds_json("provenance")):
        with pytest.raises(DsamlError, match="add --force"):
            check_output(folder / "x", kind)


def test_a_folder_of_results_holds_results_only(folder):
    (folder / "mine").mkdir()
    check_results(folder / "mine")
    (folder / "mine" / "numbers.json").write_text(json.dumps({"of": "somebody else"}))
    with pytest.raises(DsamlError, match=r"numbers\.json: exists and is not what this command writes"):
        check_results(folder / "mine")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write, root neither")
def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(DsamlError, match=r"/proc/self/here: cannot be written \(.+\); choose another folder"):
        check_folder(Path("/proc/self/here"))
    with pytest.raises(DsamlError, match="cannot be written"):
        check_output(Path("/proc/self/x.csv"))


def test_personal_models_replace_personal_models(folder):
    torch.manual_seed(1)
    save_model(folder / "mine.safetensors", DSAML(MODEL), DEMO, {"personalized_on": "song.wav"})
    check_output(folder / "mine.safetensors", holds_model, (folder / "base.safetensors",))
