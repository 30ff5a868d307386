"""The set-up cell in a fresh environment that came with its own torch and numpy, as a hosted notebook does.

The packages there are small stand-ins with real metadata, so that a real pip decides, without a network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from dsaml import colab
from dsaml.errors import DsamlError

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
        address = "git+https://github.com/dsaml-companion/dsaml-companion"
        assert address in colab.SETUP
        (package,) = self.index.glob("dsaml-*.whl")
        cell = colab.SETUP.replace(address, package.as_uri())
        return self.run("-c", f'profile, results = "demo", "results/demo"\n{cell}')


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
    """Everything but ``ABSENT`` and learn2learn is there, and a result file, so that nothing is computed."""
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
        "learn2learn": "0.2.0",
        "torchaudio": "2.4.1",
        "tqdm": "98.0",
        "typer": "99.0",
    }
    assert "torch 2.4.0" in done.stdout and "numpy 1.26.4" in done.stdout and "CPU" in done.stdout
    assert "installed: torchaudio, tqdm, typer, learn2learn" in done.stdout
    again = machine.set_up()
    assert again.returncode == 0 and "installed:" not in again.stdout


def test_one_sentence_where_it_cannot_be_done(machine: Machine) -> None:
    wheel(machine.index, "tqdm", "99.0", ("numpy>=50",))
    done = machine.set_up()
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "pip could not install" in last and "numpy==1.26.4" in last and "use a newer runtime" in last
    assert machine.versions()["numpy"] == "1.26.4"


def test_results_of_another_profile_are_not_computed(tmp_path: Path) -> None:
    with pytest.raises(DsamlError, match=r"no results.*--profile paper"):
        colab.setup("paper", str(tmp_path / "results"), str(tmp_path / "cache"))


def test_drive_is_for_colab_alone() -> None:
    with pytest.raises(DsamlError, match="in Colab only"):
        colab.drive()
