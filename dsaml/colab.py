"""What a notebook needs before its first cell: the packages that a hosted machine (Colab) lacks, and results to show.

The packages that a hosted machine was built around are never replaced: a constraint holds each of ``KEEP`` at the version that is
there. Nothing is computed and no result is written, so a set-up that was stopped is simply run again. Nothing here imports
anything that might be missing.
"""

from __future__ import annotations

import importlib
import platform
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from types import ModuleType

from dsaml.address import URL
from dsaml.errors import DsamlError

SETUP = f"""\
# On Colab: installs dsaml and what is missing, never another torch or numpy.
# Where all is there, it only prints versions.
import importlib.metadata
import subprocess
import sys

source = "dsaml @ git+{URL}"
command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
# pip writes the metadata last, so half an installation does not count
if not any(importlib.metadata.distributions(name="dsaml")):
    if subprocess.run([*command, source]).returncode:
        raise SystemExit(
            f"{{source}} could not be installed: see pip's message above, "
            "mend it, and run this cell again"
        )
    importlib.invalidate_caches()
from dsaml.colab import setup

results = setup(profile, results)
"""
"""The set-up cell of every notebook, word for word."""

KEEP = ("torch", "torchaudio", "torchvision", "numpy")
LEARN2LEARN = ("--no-deps", "--use-pep517", "learn2learn==0.2.0", "--config-settings=--build-option=build_ext")
IMPORTED_BY_LEARN2LEARN = ("torchvision", "gym", "requests", "cloudpickle")  # its own list would bring an old torch
READ = ("attention", "corpus", "curves", "errors", "numbers", "pdmer", "study_curves", "training")
"""The result files that the notebooks read; a folder that lacks one of them is not shown."""
REFERENCE = Path(__file__).parent / "reference"  # by profile: the reference run, which comes with the package


def installed(name: str) -> str | None:
    """A package's version; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pip(*arguments: str) -> None:
    """Install, with every package of ``KEEP`` held at its version; a DsamlError holds what pip said."""
    held = [f"{name}=={found}" for name in KEEP if (found := installed(name))]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "keep.txt"
        constraints.write_text("\n".join(held) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, "-c", str(constraints), *arguments], capture_output=True, text=True)
    importlib.invalidate_caches()
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise DsamlError(
            f"pip could not install {' '.join(a for a in arguments if not a.startswith('-'))} beside "
            f"{', '.join(held) or 'nothing'}: {' '.join(said)[:300]}; use a newer runtime, or install it by hand"
        )


def install_missing() -> list[str]:
    """Install what dsaml asks for without extras and the machine lacks; gives the names."""
    wanted = requires("dsaml") or [] if installed("dsaml") else []  # nothing where it is only a folder on the path
    named = {re.match(r"[\w.-]+", text)[0]: text for text in wanted if "extra ==" not in text}
    missing = {name: text for name, text in named.items() if installed(name) is None}
    if "torchaudio" in missing and (torch := installed("torch")):  # it is built for one torch, and does not say so
        missing["torchaudio"] = f"torchaudio=={'.'.join(torch.split('.')[:2])}.*"
    if missing:
        pip(*missing.values())
    return list(missing)


def learn2learn() -> ModuleType | None:
    """The library learn2learn, compiled where it is missing; where that fails one printed sentence, and None.

    It compares with what dsaml has of its own, so nothing else needs it.
    """
    try:
        if installed("learn2learn") is None:
            print("compiling learn2learn, one to two minutes …")
            if others := [name for name in IMPORTED_BY_LEARN2LEARN if installed(name) is None]:
                pip(*others)
            pip(*LEARN2LEARN)
        from dsaml.learn.reference import import_learn2learn

        return import_learn2learn()
    except Exception as error:  # a package of 2022 on a machine of today: whatever it is, the rest goes on
        print(f"learn2learn cannot be used here, and what compares with it is left out: {error}")
        return None


def versions() -> str:
    """Versions and the device, in one line."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    packages = [f"{name} {installed(name)}" for name in ("dsaml", "torch", "numpy")]
    return " · ".join([f"Python {platform.python_version()}", *packages, device])


def setup(profile: str, results: str | Path) -> Path:
    """Make this notebook runnable: install what is missing, print versions and device, find the results to show.

    Parameters
    ----------
    profile : str
        Whose reference run is shown where there are no results of one's own.
    results : path
        Folder of one's own results.

    Returns
    -------
    Path
        ``results`` if it has all of ``READ``; else the folder of the reference run.

    Raises
    ------
    DsamlError
        If a package cannot be installed without replacing one of ``KEEP``, or there are no complete results of another profile.
    """
    if added := install_missing():
        print(f"installed: {', '.join(added)}")
    print(versions())
    return complete_results(profile, Path(results))


def complete_results(profile: str, results: Path) -> Path:
    """The folder that is shown, as :func:`setup` says; prints which one, where it is not one's own."""
    missing = [f"{name}.json" for name in READ if not (results / f"{name}.json").is_file()]
    if not missing:
        return results
    said = f"{results}: no results" if len(missing) == len(READ) else f"{results}: incomplete, {', '.join(missing)} missing"
    if not (REFERENCE / profile).is_dir():
        raise DsamlError(f"{said}; run 'python -m dsaml reproduce all --profile {profile}' on a machine with a GPU first")
    print(f"{said}; shown is the reference run, which comes with the package ('python -m dsaml reproduce book' makes your own)")
    return REFERENCE / profile


def result_file(results: str | Path, profile: str, name: str) -> Path:
    """A result that not every run computes (``name`` without its ending): one's own, else the reference run's.

    Raises
    ------
    DsamlError
        If neither is there.
    """
    for folder in (Path(results), REFERENCE / profile):
        if (file := folder / f"{name}.json").is_file():
            return file
    command = f"arena --dataset {name.removeprefix('arena-')}" if name.startswith("arena-") else "reproduce all"
    raise DsamlError(f"{results}: no {name}.json; run 'python -m dsaml {command} --profile {profile}' first")


def drive(folder: str = "MyDrive/DEAM") -> Path:
    """A data set's folder on Google Drive, which is mounted if it is not.

    Raises
    ------
    DsamlError
        If this is not Colab, or the folder is not on the drive.
    """
    try:
        from google.colab import drive as mounted
    except ImportError as error:
        raise DsamlError("Google Drive can be mounted in Colab only; give the data set's own folder instead") from error
    mounted.mount("/content/drive")
    root = Path("/content/drive") / folder
    if not root.is_dir():
        raise DsamlError(f"{root}: no such folder on the drive; upload the data set there, or name its folder")
    return root
