"""What a hosted notebook (Colab) needs before its first cell: the packages that it lacks, and the results that it shows.

The packages that a hosted machine was built around are never replaced: a constraint holds each of ``KEEP`` at the version that is
there. Nothing here imports anything that might be missing.
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

from dsaml.errors import DsamlError

SETUP = """\
# On Colab: installs dsaml and what is missing, and never another torch or numpy. Where all is there, it only prints versions.
import importlib.util
import subprocess
import sys

source = "dsaml @ git+https://github.com/dsaml-companion/dsaml-companion"
if importlib.util.find_spec("dsaml") is None:
    if subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", source]).returncode:
        raise SystemExit(f"{source} could not be installed: see pip's message above, mend it, and run this cell again")
    importlib.invalidate_caches()
from dsaml.colab import setup

setup(profile, results)
"""
"""The set-up cell of every notebook, word for word."""

KEEP = ("torch", "torchaudio", "torchvision", "numpy")
LEARN2LEARN = ("--no-deps", "--use-pep517", "learn2learn==0.2.0", "--config-settings=--build-option=build_ext")
IMPORTED_BY_LEARN2LEARN = ("torchvision", "gym", "requests", "cloudpickle")  # its own list would bring an old torch
DRIVE = Path("/content/drive")


def installed(name: str) -> str | None:
    """A package's version; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def needs(package: str = "dsaml") -> dict[str, str]:
    """What a package asks for without extras: {name: requirement}; nothing if it is only a folder on the path."""
    wanted = [text for text in (requires(package) or [] if installed(package) else []) if "extra ==" not in text]
    return {re.match(r"[\w.-]+", text)[0]: text for text in wanted}


def pip(*arguments: str) -> None:
    """Install, with every package of ``KEEP`` held at its version.

    Raises
    ------
    DsamlError
        If pip fails; what pip said is in the message.
    """
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
    """Install what dsaml needs and the machine lacks; gives the names."""
    missing = {name: text for name, text in needs().items() if installed(name) is None}
    if "torchaudio" in missing and (torch := installed("torch")):  # it is built for one torch, and does not say so
        missing["torchaudio"] = f"torchaudio=={'.'.join(torch.split('.')[:2])}.*"
    if missing:
        pip(*missing.values())
    if installed("learn2learn") is None:
        if others := [name for name in IMPORTED_BY_LEARN2LEARN if installed(name) is None]:
            pip(*others)
        pip(*LEARN2LEARN)
        missing |= dict.fromkeys((*others, "learn2learn"), "")
    return list(missing)


def versions() -> str:
    """Versions and the device, in one line."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    packages = [f"{name} {installed(name)}" for name in ("dsaml", "torch", "numpy")]
    return " · ".join([f"Python {platform.python_version()}", *packages, device])


def setup(profile: str, results: str, cache: str = "cache") -> None:
    """Make this notebook runnable: packages, then the results that it reads if there are none; prints versions and device.

    Parameters
    ----------
    profile : str
        Whose results are computed where there are none: "demo" (minutes on two cores, no download).
    results, cache : str
        Folders.

    Raises
    ------
    DsamlError
        If a package cannot be installed without replacing one of ``KEEP``, or there are no results of another profile.
    """
    added = install_missing()
    if added:
        print(f"installed: {', '.join(added)}")
    print(versions())
    if any(Path(results).glob("*.json")):
        return
    if profile != "demo":
        raise DsamlError(
            f"{results}: no results; run 'python -m dsaml reproduce all --profile {profile}' on a machine with a GPU first"
        )
    from dsaml.config import get_profile
    from dsaml.experiment.reproduce import demo_results

    print(f"no results in {results} yet: training the demo's models now, about twelve minutes on two cores")
    demo_results(get_profile(profile), Path(results), Path(cache))


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
    mounted.mount(str(DRIVE))
    root = DRIVE / folder
    if not root.is_dir():
        raise DsamlError(f"{root}: no such folder on the drive; upload the data set there, or name its folder")
    return root
