"""The command line and the facts that stand in more than one file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
import yaml

from book.builder.build import toc_pages
from dsaml import __version__, address
from dsaml.cli.common import DatasetName, EncoderName
from dsaml.config import ENCODERS
from dsaml.data.base import LOADERS

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, folder: Path = ROOT, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dsaml", *arguments]
    environment = {"PYTHONPATH": str(path), "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=120)


def test_help_lists_the_book() -> None:
    done = run("book", "--help")
    assert done.returncode == 0
    assert "--profile" in done.stdout and "--only" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["book", "--profile", "huge"], "error: profile 'huge' does not exist; choose one of: demo, paper"),
        (["book"], "run this in the repository's own folder"),
    ],
)
def test_a_mistake_is_one_sentence_without_traceback(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["book", "contract", "bench"])
def test_what_belongs_to_the_repository_says_so_elsewhere(command: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dsaml", tmp_path / "installed/dsaml", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "empty").mkdir()
    done = run(command, folder=tmp_path / "empty", path=tmp_path / "installed")
    assert done.returncode == 1 and done.stdout == "" and list((tmp_path / "empty").iterdir()) == []
    assert re.match(
        r"error: (book|benchmarks)\S*: not found; this command belongs to the companion's repository", done.stderr
    )
    assert "run this in the repository's own folder" in done.stderr and len(done.stderr.splitlines()) == 1
    assert run(command, "--help", folder=tmp_path / "empty", path=tmp_path / "installed").returncode == 0


def test_every_data_set_with_a_loader_and_every_encoder_can_be_named() -> None:
    assert get_args(DatasetName) == tuple(LOADERS)
    assert get_args(EncoderName) == ENCODERS


def test_the_repository_address_is_the_same_everywhere() -> None:
    url, owner_and_name = address.URL, address.REPOSITORY
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Homepage"] == url
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["repository-code"] == url
    folders = [ROOT / "README.md", *(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    for file in folders:
        for link in re.findall(
            r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/dsaml[\w-]*)", file.read_text()
        ):
            assert link == owner_and_name, f"{file.name} points at {link}; dsaml/address.py says {owner_and_name}"


def test_the_version_is_the_same_everywhere() -> None:
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == __version__


def test_every_page_of_the_toc_has_a_source() -> None:
    for page in toc_pages(ROOT / "_toc.yml"):
        assert any((ROOT / f"{page}{ending}").is_file() for ending in (".md", ".ipynb")), f"{page} has no source"


def test_installing_dsaml_never_pins_what_colab_brings() -> None:
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert all(">=" in need and "==" not in need and "<" not in need for need in needs)
    assert not any(need.startswith("imagebind") for need in needs)


def test_readme_begins_with_the_two_commands() -> None:
    start = (ROOT / "README.md").read_text().partition("## What this is")[0]
    assert "make book" in start and "make test" in start and len(start) < 3000
