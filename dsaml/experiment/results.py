"""Result files: JSON with a stamp that says where every number comes from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsaml import __version__
from dsaml.config import Profile
from dsaml.data.base import PARTS, Dataset, flat_tracks
from dsaml.errors import DsamlError
from dsaml.io import DAMAGED, KEY, document_digest, read_json, write_json
from dsaml.runtime.devices import describe

if TYPE_CHECKING:
    from dsaml.experiment.run import Experiment

PACKAGES = ("torch", "torchaudio", "numpy", "pandas", "statsmodels", "learn2learn")


def _git(*arguments: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _pip_commit() -> str | None:
    """The commit that pip installed this package from, or None where it lies in its repository."""
    try:
        package = distribution("dsaml")
        origin = json.loads(package.read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    here = Path(__file__).resolve().parents[1]
    same = Path(str(package.locate_file("dsaml"))).resolve() == here
    return origin.get("vcs_info", {}).get("commit_id") if same else None


def installed_version(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def provenance(
    profile: Profile,
    dataset: Dataset | None,
    *,
    seeds: list[int],
    seconds: float,
    device: str = "cpu",
    real: bool | None = None,
) -> dict[str, Any]:
    """The stamp of a result file.

    Parameters
    ----------
    dataset : Dataset or None
        Gives the name and whether the data are real, and, where there are any, how many tracks of each part never move: what is
        scored by CCC leaves them out. With ``None`` (simulated study answers) pass ``real``.
    seeds : list of int
        Training seeds that the numbers come from.
    seconds : float
        Wall-clock time of the computation.
    """
    flat = {part: flat_tracks(dataset, part) for part in PARTS} if dataset else {}
    installed = _pip_commit()
    commit = installed[:12] if installed else _git("rev-parse", "--short=12", "HEAD")
    status = "" if installed else _git("status", "--porcelain")
    return {
        "dataset": dataset.name if dataset else None,
        "real": bool(dataset.real if real is None and dataset else real),
        "encoder": profile.encoder,
        "profile": profile.name,
        "configuration": profile.digest(),
        "seeds": list(seeds),
        "seconds": round(seconds, 1),
        "device": describe(device),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {"dsaml": __version__} | {name: installed_version(name) for name in PACKAGES},
        "commit": commit,
        "dirty": None if status is None else bool(status),
    } | ({"flat_tracks": flat} if any(flat.values()) else {})


def stamp_of(experiment: Experiment, seeds: Sequence[int], started: float) -> dict[str, Any]:
    """The stamp (:func:`provenance`) of what an experiment computed since ``time.perf_counter()`` was ``started``."""
    seconds, device = time.perf_counter() - started, experiment.options.device
    return provenance(experiment.profile, experiment.dataset, seeds=list(seeds), seconds=seconds, device=device)


def plain(document: dict[str, Any]) -> dict[str, Any]:
    """NumPy scalars and arrays to JSON types; NaN to null, because JSON has no NaN."""
    text = json.dumps(document, default=lambda value: value.tolist())
    return json.loads(text, parse_constant=lambda name: None)


def rounded(values: Any, digits: int = 4) -> list[Any]:
    """An array as lists of numbers with so many digits after the point, for curves to look at."""
    return np.round(np.asarray(values, float), digits).tolist()


def write_result(path: str | Path, payload: dict[str, Any], stamp: dict[str, Any]) -> Path:
    """Write ``payload`` with its stamp (see :func:`provenance`) and the digest of both, atomically."""
    path = Path(path)
    document = plain(payload | {"provenance": stamp})
    document["provenance"] = {**document["provenance"], KEY: document_digest(document)}
    write_json(path, document)
    return path


def read_result(path: str | Path) -> dict[str, Any]:
    """Read a result file.

    Raises
    ------
    DsamlError
        If it is missing, is not JSON, carries no stamp, or is not as it was written.
    """
    path = Path(path)
    document = read_json(path, "result file", "compute it with 'make book' or 'python -m dsaml reproduce'")
    if not isinstance(document.get("provenance"), dict):
        raise DsamlError(f"{path}: carries no provenance stamp; delete it and compute it again")
    written = document["provenance"].pop(KEY, None)
    if written != document_digest(document):
        raise DsamlError(f"{path}: {DAMAGED}; delete it and compute it again")
    document["provenance"][KEY] = written
    return document


def stamp_line(document: dict[str, Any]) -> str:
    """One sentence for the foot of a page or figure."""
    stamp = document["provenance"]
    kind = "REAL data" if stamp["real"] else "SYNTHETIC data (simulated songs and listeners)"
    commit = f"{stamp['commit'] or 'unknown'}{' + uncommitted changes' if stamp['dirty'] else ''}"
    return (
        f"{kind} · data set: {stamp['dataset'] or 'none'} · encoder: {stamp['encoder']} · profile: {stamp['profile']} "
        f"({stamp['configuration']}) · seeds: {', '.join(map(str, stamp['seeds']))} · {stamp['device']}, "
        f"{stamp['seconds']} s for the last call · torch {stamp['packages']['torch']} · commit {commit}"
    )
