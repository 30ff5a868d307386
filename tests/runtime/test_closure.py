"""What a cached number is keyed on: the code that it imports, every label, every setting."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsaml.runtime.closure import PACKAGE, closure, code_digest

DRIVER = """
import dataclasses, json, sys
from pathlib import Path
from dsaml.config import DEMO
from dsaml.data.synthetic import corpus as synthetic
from dsaml.experiment.prepare import Source, prepare
from dsaml.experiment.recipes import DMER_MODEL
from dsaml.experiment.scoring import score_all, scores_file, train_for

config = synthetic.CorpusConfig(
    train_songs=3, validation_songs=2, test_songs=1, long_songs=0, train_listeners=4, validation_listeners=4,
    test_listeners=4, ratings_per_song=2,
)
folder = Path(sys.argv[1])
root = synthetic.synthesize(folder / "corpus", config, workers=1)
model = dataclasses.replace(DEMO.model, dim=8, heads=2, layers=1, feed_forward=8)
first = dataclasses.replace(DEMO.warm_start, steps=2, batch_size=2)
profile = dataclasses.replace(DEMO, model=model, warm_start=first)
experiment = prepare(profile, Source("synthetic", root, folder / "cache"))
job = ("dmer", DMER_MODEL, 0)
train_for(experiment, [job], 1)
score_all(experiment, [job], 1)
"""


def _copy(tmp_path: Path) -> Path:
    target = tmp_path / "code" / "dsaml"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def test_the_closure_follows_imports_at_the_top_and_inside_functions():
    found = closure("dsaml.experiment.scoring")
    assert {"dsaml", "dsaml.learn.maml", "dsaml.learn.reference", "dsaml.evaluate.protocols", "dsaml.data.base"} <= set(found)
    assert not {"book.builder.pages", "book.builder.tables_page", "dsaml.experiment.tables"} & set(found)
    with pytest.raises(ValueError, match="no such module"):
        closure("dsaml.nothing")


def test_comments_and_docstrings_do_not_count_and_everything_else_does(tmp_path):
    package = _copy(tmp_path)
    before = code_digest("dsaml.learn.tasks", package)
    file = package / "learn" / "tasks.py"
    text = file.read_text()
    changed = {
        "comment": "# a remark\n" + text,
        "docstring": text.replace('"""Draw an annotator', '"""Take an annotator'),
        "code": text.replace("rng.integers(len(self.annotators))", "0"),
    }
    digests = {}
    for what, new in changed.items():
        assert new != text
        file.write_text(new)
        code_digest.cache_clear()
        digests[what] = code_digest("dsaml.learn.tasks", package)
    assert digests["comment"] == digests["docstring"] == before != digests["code"]


def _run(package: Path, folder: Path) -> dict[str, set[str]]:
    """What the driver wrote anew, by kind."""
    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    environment = os.environ | {"PYTHONPATH": str(package.parent), "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DRIVER, str(folder)]
    subprocess.run(command, check=True, env=environment, cwd=package.parent, capture_output=True)
    new = [file for file in folder.rglob("*") if file.is_file() and kept.get(file) != file.stat().st_mtime_ns]
    kinds = {"corpus.json": "corpus", ".mp3": "audio", ".pt": "model", ".safetensors": "features"}
    out = {kinds.get(file.name) or kinds.get(file.suffix) or file.name[:6] for file in new}
    return out & {"corpus", "audio", "features", "model", "scores"}


def _negate_a_cell(folder: Path) -> None:
    file = sorted((folder / "corpus").rglob("annotations per each rater/*/arousal/1004.csv"))  # a validation song
    lines = file[0].read_text().splitlines()
    cells = lines[1].split(",")
    cells[5] = f"{-float(cells[5]):.6f}"
    file[0].write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def _edit(package: Path, name: str, old: str, new: str) -> None:
    file = package / name
    text = file.read_text()
    assert old in text, (name, old)
    file.write_text(text.replace(old, new, 1))


def test_an_edit_of_any_input_is_seen_and_nothing_else_is_computed_again(tmp_path):
    package, folder = _copy(tmp_path), tmp_path / "work"
    folder.mkdir()
    assert _run(package, folder) == {"corpus", "audio", "features", "model", "scores"}
    assert _run(package, folder) == set()  # nothing has changed
    _edit(package, "learn/tasks.py", '"""Task construction', '"""The construction of tasks')
    assert _run(package, folder) == set()  # a docstring
    _negate_a_cell(folder)  # one label of one rater
    assert _run(package, folder) == {"model", "scores"}
    _edit(package, "learn/losses.py", "return 1 - ((ccc + pcc + 1 - rmse) / 3)", "return 1 - ((ccc + pcc + 2 - rmse) / 3)")
    assert _run(package, folder) == {"model", "scores"}  # a training module
    _edit(package, "audio/windows.py", "at_once: int = 64", "at_once: int = 63")
    assert _run(package, folder) == {"scores"}  # a module that only scores
    _edit(
        package, "experiment/recipes.py", "Recipe(profile.model, first_stage)",
        "Recipe(dataclasses.replace(profile.model, alpha=0.4), first_stage)"
    )
    assert _run(package, folder) == {"model", "scores"}  # a recipe
    description = json.loads((folder / "corpus" / "corpus.json").read_text())
    _edit(package, "data/synthetic/sound.py", "out *= 0.16", "out *= 0.17")  # a constant of the generator
    assert _run(package, folder) == {"corpus", "audio", "features", "model", "scores"}
    assert json.loads((folder / "corpus" / "corpus.json").read_text())["code"] != description["code"]
