"""Many runs from one YAML file: data sets x profiles x modes x seeds, each trained, scored and recorded by itself.

Every run's result file is its own record: a run whose file is there is not repeated, so a grid that was stopped, or lost a
machine, goes on where it was. The runs go through joblib: on this machine's cores, or on a Dask cluster by naming its
scheduler (workers and this machine then share one file system).
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import yaml

from dsaml.config import DIMENSIONS, LARGEST_SEED, PROFILES, get_profile
from dsaml.data.base import LOADERS
from dsaml.data.findings import KINDS
from dsaml.errors import DsamlError, require_file
from dsaml.experiment import workflow
from dsaml.experiment.cluster import client
from dsaml.experiment.prepare import Source
from dsaml.experiment.results import read_result
from dsaml.experiment.run import use_one_core
from dsaml.experiment.workflow import MODELS
from dsaml.runtime.workers import end_with_parent

log = logging.getLogger(__name__)

KEYS = {"datasets", "profiles", "modes", "seeds", "imagebind", "accept"}


@dataclass(frozen=True)
class GridRun:
    """One cell of a grid."""

    source: Source
    profile: str
    mode: str  # "dmer" or "pdmer"
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        return f"{self.source.dataset}-{self.source.root.resolve().name}-{self.profile}-{self.mode}-{self.seed}"


def read_grid(path: Path) -> list[GridRun]:
    """The runs of a grid file, in the order of the file.

    The file is YAML: ``datasets`` (a list of ``name`` and ``root``), ``profiles``, ``modes``, ``seeds`` (lists), and
    ``imagebind`` (a file of weights) where a profile needs it, and ``accept`` (kinds of errors, as ``train --accept``).

    Raises
    ------
    DsamlError
        If the file is missing, is not such a file, or names something that does not exist.
    """
    require_file(path, "file", f"write a YAML file with {', '.join(sorted(KEYS))}")
    try:
        grid = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        raise DsamlError(f"{path}: not a YAML file ({(str(error).splitlines() or ['damaged'])[0]})") from error
    if not isinstance(grid, dict) or not grid.get("datasets"):
        raise DsamlError(f"{path}: has no 'datasets'; give a list with name and root of each")
    if unknown := sorted(map(str, set(grid) - KEYS)):
        raise DsamlError(f"{path}: '{', '.join(unknown)}' is not known; there are: {', '.join(sorted(KEYS))}")
    defaults = {"profiles": ["demo"], "modes": ["pdmer"], "seeds": [0], "accept": []}
    lists = defaults | {key: values for key, values in grid.items() if key != "imagebind"}
    for key, values in lists.items():
        if not isinstance(values, list) or not (values or key == "accept"):
            raise DsamlError(f"{path}: '{key}' is not a list of one or more; write it as [a, b]")
    for entry in grid["datasets"]:
        if not (isinstance(entry, dict) and {"name", "root"} == set(entry)):
            raise DsamlError(f"{path}: each of 'datasets' has a name and a root, and nothing else; found {entry}")
        if not isinstance(entry["root"], str):
            raise DsamlError(f"{path}: root '{entry['root']}' is no path; write it in quotes")
    choices = {"profiles": [*PROFILES, *filter(_is_profile, lists["profiles"])], "modes": MODELS, "accept": KINDS}
    named = [("datasets", entry["name"], LOADERS) for entry in grid["datasets"]]
    named += [(key, value, known) for key, known in choices.items() for value in lists[key]]
    for key, value, known in named:
        if not isinstance(value, str) or value not in known:
            raise DsamlError(f"{path}: {key}: '{value}' does not exist; choose from: {', '.join(known)}")
    for seed in lists["seeds"]:
        if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
            raise DsamlError(f"{path}: seed '{seed}' is not a whole number from 0 to {LARGEST_SEED}")
    if not isinstance(grid.get("imagebind"), str | None):
        raise DsamlError(f"{path}: imagebind '{grid['imagebind']}' is no path; write it in quotes")
    weights = Path(grid["imagebind"]) if grid.get("imagebind") else None
    common = Source(imagebind=weights, accept=tuple(lists["accept"]))
    runs = [
        GridRun(dataclasses.replace(common, dataset=entry["name"], root=Path(entry["root"])), profile, mode, seed)
        for entry, profile, mode, seed in product(lists["datasets"], lists["profiles"], lists["modes"], lists["seeds"])
    ]
    names = [run.name for run in runs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DsamlError(f"{path}: asks for {twice[0]} more than once; give folders of different names, and each seed once")
    return runs


def _is_profile(name: object) -> bool:
    """Whether a name is one that :func:`dsaml.config.get_profile` knows, such as "paper-mel-3-steps"."""
    try:
        get_profile(str(name))
    except DsamlError:
        return False
    return isinstance(name, str)


def work(run: GridRun, out: Path) -> None:
    """Train and score one run; the result file is written last."""
    use_one_core()
    model = out / f"{run.name}.safetensors"
    workflow.train(get_profile(run.profile), run.source, model, run.mode, run.seed)
    workflow.evaluate(model, run.source, out / f"{run.name}.json")


def _attempt(job: Callable[[GridRun, Path], None], run: GridRun, out: Path) -> tuple[str, str | None]:
    """A run that fails does not stop the others: (name, what went wrong)."""
    try:
        job(run, out)
    except Exception as error:
        return run.name, str(error) if isinstance(error, DsamlError) else f"{type(error).__name__}: {error}"
    return run.name, None


def record_of(run: GridRun, out: Path) -> dict[str, Any] | None:
    """A run's result file; None where it is not there or cannot be read."""
    try:
        return read_result(out / f"{run.name}.json")
    except DsamlError:
        return None


def run_grid(
    runs: list[GridRun],
    out: Path,
    jobs: int = 2,
    scheduler: str | None = None,
    job: Callable[[GridRun, Path], None] = work,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Do what is not done yet; what went wrong is returned, by the name of the run.

    Parameters
    ----------
    out : Path
        Folder of models and result files.
    jobs : int
        Runs at a time on this machine.
    scheduler : str, optional
        Address of a Dask scheduler, ``tcp://host:8786``, to whose workers the runs go; those of a lost worker go to another one.
    job : callable
        What to do with a run; the tests put a small one in its place.

    Raises
    ------
    DsamlError
        If there is no such scheduler, or Dask is not installed.
    """
    waiting = [run for run in runs if record_of(run, out) is None]
    done, failed = len(runs) - len(waiting), {}
    log.info("%d runs: %d done before, %d to do", len(runs), done, len(waiting))
    if not waiting:
        return {}
    out.mkdir(parents=True, exist_ok=True)
    backend = {"backend": "dask"} if scheduler else {"backend": "loky", "n_jobs": jobs}
    ours = {} if scheduler else {"initializer": end_with_parent, "initargs": (os.getpid(),)}
    with client(scheduler) if scheduler else nullcontext(), joblib.parallel_config(**backend):
        tasks = (joblib.delayed(_attempt)(job, run, out) for run in waiting)
        ends = joblib.Parallel(return_as="list" if scheduler else "generator_unordered", **ours)(tasks)
        for name, trouble in ends:
            done += 1
            progress(done, len(runs))
            if trouble:
                failed[name] = trouble
                log.warning("%s: %s", name, trouble)
    return failed


def as_rows(runs: list[GridRun], out: Path) -> list[dict[str, Any]]:
    """One row per finished run: what it was, and the CCC of its own model."""
    rows = []
    for run, record in ((run, record_of(run, out)) for run in runs):
        if record:
            try:
                scores = {d: float(record["rows"][run.name][d]["ccc"]["mean"]) for d in DIMENSIONS}
            except (KeyError, TypeError, ValueError) as error:
                raise DsamlError(f"{out / run.name}.json: not the record of a run; delete it and run the grid again") from error
            rows.append({"dataset": run.source.dataset, "profile": run.profile, "mode": run.mode, "seed": run.seed} | scores)
    return rows
