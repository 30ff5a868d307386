"""The set-up cell in a fresh environment that came with its own torch and numpy, as a hosted notebook does.

The packages there are small stand-ins with real metadata, so that a real pip decides, without a network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from dsaml import address, colab
from dsaml.errors import DsamlError
from dsaml.experiment.results import read_result

ROOT = Path(__file__).parents[2]
THERE = {"torch": "2.4.0", "torchvision": "0.19.0", "numpy": "1.26.4"}  # what the machine was built around
ABSENT = ("torchaudio", "tqdm", "typer")
TORCH = "class cuda:\n    is_available = staticmethod(lambda: False)\n"


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = "") -> None:
    """A package of one module."""
    info = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    files = {
        f"{name}.py": f"__version__ = '{version}'\n{code}",
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


class Machine:
    """A hosted machine: an environment, an index of packages, a folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.index = folder, folder / "index"
        self.index.mkdir()
        settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.index), "PIP_CONFIG_FILE": os.devnull}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))} | settings
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        self.python = folder / "venv/bin/python"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python in the environment."""
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)

    def versions(self) -> dict[str, str]:
        """Everything that is installed."""
        listed = json.loads(self.run("-m", "pip", "list", "--format=json").stdout)
        return {package["name"]: package["version"] for package in listed}

    def set_up(self) -> subprocess.CompletedProcess[str]:
        """The set-up cell, with the package's wheel from the index in place of its repository."""
        source = f"git+{address.URL}"
        assert source in colab.SETUP
        (package,) = self.index.glob("dsaml-*.whl")
        cell = colab.SETUP.replace(source, package.as_uri())
        return self.run("-c", f'profile, results = "demo", "results/demo"\n{cell}\nprint(results)')


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This package as a wheel."""
    folder = tmp_path_factory.mktemp("package")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "dsaml", folder / "dsaml", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(folder)], check=True)
    return next(folder.glob("dsaml-*.whl"))


@pytest.fixture
def machine(tmp_path: Path, package: Path) -> Machine:
    """Everything but ``ABSENT`` and learn2learn is there, and one result of a run that was cut off."""
    made = Machine(tmp_path)
    shutil.copy(package, made.index)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [*(name.partition(">=")[0] for name in wanted), "gym", "requests", "cloudpickle"]
    there = dict.fromkeys(names, "99.0") | THERE
    for name, version in there.items():
        if name not in ABSENT:
            wheel(made.index, name, version, code=TORCH if name == "torch" else "")
    pinned = [f"{name}=={version}" for name, version in there.items() if name not in ABSENT]
    assert made.run("-m", "pip", "install", "--quiet", *pinned).returncode == 0
    wheel(made.index, "torch", "99.0")  # newer ones that must not come in
    wheel(made.index, "numpy", "99.0")
    wheel(made.index, "learn2learn", "0.2.0", ("torch>=50",))  # its declared needs are to be ignored
    wheel(made.index, "typer", "99.0")
    for version in ("2.4.1", "99.0"):  # one for this torch, one for another; neither says so
        wheel(made.index, "torchaudio", version)
    (made.folder / "results/demo").mkdir(parents=True)
    (made.folder / "results/demo/pdmer.json").write_text("{}")
    return made


def test_only_what_is_missing_comes_in(machine: Machine) -> None:
    wheel(machine.index, "tqdm", "98.0", ("numpy<2",))
    wheel(machine.index, "tqdm", "99.0", ("numpy>=50",))  # the newest wants another numpy: the one before it is taken
    before = machine.versions()
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    after = machine.versions()
    assert {name: after[name] for name in before} == before
    assert {name: after[name] for name in after if name not in before} == {
        "dsaml": after["dsaml"],
        "torchaudio": "2.4.1",
        "tqdm": "98.0",
        "typer": "99.0",
    }
    assert "torch 2.4.0" in done.stdout and "numpy 1.26.4" in done.stdout and "CPU" in done.stdout
    assert "installed: torchaudio, tqdm, typer\n" in done.stdout
    again = machine.set_up()
    assert again.returncode == 0 and "installed:" not in again.stdout


def test_the_reference_run_is_shown_where_ones_own_results_are_not_complete(machine: Machine) -> None:
    wheel(machine.index, "tqdm", "99.0")
    done = machine.set_up()
    assert "results/demo: incomplete, attention.json, corpus.json" in done.stdout and "pdmer.json" not in done.stdout
    shown = Path(done.stdout.splitlines()[-1])
    assert shown.is_relative_to(machine.folder / "venv")  # it came with the package
    for name in colab.READ:
        assert read_result(shown / f"{name}.json")["provenance"]["profile"] == "demo"
    assert [file.name for file in (machine.folder / "results/demo").iterdir()] == ["pdmer.json"]  # and nothing was written


def test_what_was_cut_off_half_way_is_mended(machine: Machine) -> None:
    wheel(machine.index, "tqdm", "99.0")
    assert machine.set_up().returncode == 0
    before = machine.versions()
    (package,) = machine.folder.glob("venv/lib/*/site-packages/dsaml")
    for about in (*package.parent.glob("dsaml-*.dist-info"), *package.parent.glob("tqdm-*.dist-info")):
        shutil.rmtree(about)  # pip writes it last
    shutil.rmtree(package / "experiment")
    (package / "config.py").write_text("half a fi")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert machine.versions() == before and "installed: tqdm\n" in done.stdout
    assert (package / "experiment/results.py").is_file() and "half a fi" not in (package / "config.py").read_text()

    call = "from dsaml.colab import learn2learn; print(learn2learn())"
    done = machine.run("-c", call)  # it comes in where it is used, and does not fit: this torch is a stand-in
    assert done.returncode == 0, done.stderr
    assert "compiling learn2learn" in done.stdout and "what compares with it is left out" in done.stdout
    assert done.stdout.splitlines()[-1] == "None" and machine.versions() == before | {"learn2learn": "0.2.0"}


def test_one_sentence_where_it_cannot_be_done(machine: Machine) -> None:
    wheel(machine.index, "tqdm", "99.0", ("numpy>=50",))
    done = machine.set_up()
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "pip could not install" in last and "numpy==1.26.4" in last and "use a newer runtime" in last
    assert machine.versions()["numpy"] == "1.26.4"


def test_complete_results_are_ones_own_and_need_no_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in colab.READ:
        (tmp_path / f"{name}.json").write_text("{}")
    assert colab.complete_results("paper", tmp_path) == tmp_path and not capsys.readouterr().out
    (tmp_path / "training.json").unlink()
    assert colab.complete_results("demo", tmp_path) == colab.REFERENCE / "demo"
    assert "incomplete, training.json missing" in capsys.readouterr().out
    with pytest.raises(DsamlError, match=r"incomplete, training.json missing; .*--profile paper"):
        colab.complete_results("paper", tmp_path)


def test_what_the_notebooks_read_is_what_makes_results_complete() -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in ROOT.glob("notebooks/*.ipynb"))
    assert {*re.findall(r"Path\(results\) / \\\"(\w+)\.json", sources)} == {*colab.READ}


def test_drive_is_for_colab_alone() -> None:
    with pytest.raises(DsamlError, match="in Colab only"):
        colab.drive()
